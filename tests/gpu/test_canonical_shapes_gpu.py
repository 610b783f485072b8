"""The shapes of the benchmark, whole, in every type."""

import math

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import torch
from fusednorm.bench.shapes import SHAPES
from support.gpu.checks import check, needs_memory
from support.gpu.runs import problem_data
from support.reference import Norm

pytestmark = pytest.mark.gpu

# Tensors of float64 that the reference and its bounds hold at once.
WIDE_TENSORS = 24


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("each", SHAPES, ids=lambda each: each.name)
def test_values_and_gradients(each, dtype, generator):
    needs_memory(WIDE_TENSORS * 8 * math.prod(each.shape))
    norm = Norm(each.op, each.axes, each.groups, activation=each.activation)
    data = problem_data(norm, each.shape, dtype, generator, residual=each.residual)
    check(norm, data)
