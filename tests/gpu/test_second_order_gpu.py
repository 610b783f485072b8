"""The second-order CUDA kernels against the reference of the CPU tests."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import torch
from support import bounds, reference
from support.gpu import on_torch
from support.gpu.cases import CASES, MANY_GROUPS
from support.gpu.checks import assert_same_bits
from support.gpu.runs import misaligned, problem_data, random, tensors
from support.gpu.torch_reference import to_numpy

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
ids = {"ids": lambda value: str(value).removeprefix("torch.")}
# The reference is NumPy's widest type: nothing for more elements.
MOST_ELEMENTS = 500_000
SMALL = {
    name: case
    for name, case in (CASES | MANY_GROUPS).items()
    if math.prod(case[1]) <= MOST_ELEMENTS
}


def inputs(norm, shape, dtype, generator, **options):
    """Returns what `on_torch.second_order` takes."""
    data = problem_data(
        norm, shape, dtype, generator, statistics_gradients=True, **options
    )

    def like(tensor):
        if tensor is None:
            return None
        return random(tensor.shape, tensor.dtype, generator)

    return SimpleNamespace(
        x=data.x,
        dy=data.dy,
        ddx=like(data.x),
        gamma=data.gamma,
        ddgamma=like(data.gamma),
        ddbeta=data.beta,
        drstd=data.drstd,
    )


def run(norm, data, **options):
    saved = on_torch.forward(norm, data.x, data.gamma)
    return on_torch.second_order(norm, data, saved.mean, saved.rstd, **options)


def check(norm, data):
    """Fails unless every output is within its bound."""
    got = run(norm, data)
    host = {name: to_numpy(value) for name, value in vars(data).items()}
    of = reference.forward(norm, host["x"], host["gamma"])
    upstream = [host[name] for name in ("dy", "ddx", "ddgamma", "ddbeta", "drstd")]
    exact = reference.second_order(norm, of, *upstream)
    given = [host[name] for name in ("gamma", "ddbeta") if host[name] is not None]
    kind = given[0].dtype if given else host["drstd"].dtype
    limits = bounds.second_order(norm, of, exact, *upstream, host["x"].dtype, kind)
    shares = {
        name: bounds.relative_to(
            getattr(limits, name),
            to_numpy(value).reshape(getattr(exact, name).shape),
            getattr(exact, name),
        )
        for name, value in tensors(got).items()
    }
    # A NaN is larger than no bound, hence `not ... <= 1`.
    outside = {name: share for name, share in shares.items() if not share <= 1}
    assert not outside, f"errors as multiples of their bounds: {outside}"


@pytest.mark.parametrize("dtype", DTYPES, **ids)
@pytest.mark.parametrize("case", SMALL)
def test_values(case, dtype, generator):
    norm, shape = SMALL[case]
    check(norm, inputs(norm, shape, dtype, generator))


@pytest.mark.parametrize("dtype", DTYPES[:3], **ids)
@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("case", SMALL)
def test_parameters_of_the_data_type_or_absent(case, gamma, dtype, generator):
    norm, shape = SMALL[case]
    norm = dataclasses.replace(norm, zero_centered=True)
    data = inputs(norm, shape, dtype, generator, gamma=gamma, param_dtype=dtype)
    check(norm, data)


@pytest.mark.parametrize("dtype", DTYPES[:3], **ids)
@pytest.mark.parametrize("case", SMALL)
def test_misaligned_inputs(case, dtype, generator):
    norm, shape = SMALL[case]
    data = inputs(norm, shape, dtype, generator)
    for name in ("x", "dy", "ddx"):
        setattr(data, name, misaligned(getattr(data, name)))
    check(norm, data)


@pytest.mark.parametrize("case", SMALL)
def test_results_may_take_the_place_of_inputs(case, generator):
    norm, shape = SMALL[case]
    data = inputs(norm, shape, torch.float32, generator)
    expected = run(norm, data)
    again = run(norm, data)
    assert_same_bits(again, expected)
    again.d_dy, again.d_x = data.ddx, data.dy
    assert_same_bits(run(norm, data, out=again), expected)
