"""The shapes of the benchmark, whole, in every type."""

import math

import gpu_requirements
import pytest

if reason := gpu_requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import gpu_problems
import torch
from gpu_checks import check, needs_memory
from gpu_runs import problem_data

pytestmark = pytest.mark.gpu

# Tensors of float64 that the reference and its bounds hold at once.
WIDE_TENSORS = 24


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("problem", gpu_problems.all_problems(), ids=str)
def test_values_and_gradients(problem, dtype, generator):
    needs_memory(WIDE_TENSORS * 8 * math.prod(problem.shape))
    data = problem_data(
        problem.norm, problem.shape, dtype, generator, residual=problem.residual
    )
    check(problem.norm, data)
