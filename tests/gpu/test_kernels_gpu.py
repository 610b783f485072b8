"""Values and gradients of the CUDA kernels: every view, type, option and odd size."""

import dataclasses

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import torch
from fusednorm import _native
from support.gpu.cases import (
    CASES,
    MANY_GROUPS,
    ODD_SIZES,
    SAMPLES,
    group_norm,
    layer_norm,
    rms_norm,
)
from support.gpu.checks import check
from support.gpu.runs import misaligned, problem_data, run, tensors
from support.gpu.torch_reference import ACTIVATIONS, to_numpy

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
ids = {"ids": lambda value: str(value).removeprefix("torch.")}
THREE_KINDS = {
    "rows": (layer_norm(), (70, 200)),
    "groups": (group_norm(4), (3, 90, 40)),
    "channels first": (group_norm(4, 1), (3, 8, 90)),
}


@pytest.mark.parametrize("dtype", DTYPES, **ids)
@pytest.mark.parametrize("case", CASES)
def test_plain(case, dtype, generator):
    norm, shape = CASES[case]
    check(norm, problem_data(norm, shape, dtype, generator))


@pytest.mark.parametrize("dtype", DTYPES[:3], **ids)
@pytest.mark.parametrize("case", CASES)
def test_everything_at_once(case, dtype, generator):
    norm, shape = CASES[case]
    norm = dataclasses.replace(norm, activation="silu", zero_centered=True)
    data = problem_data(
        norm, shape, dtype, generator, residual=True, statistics_gradients=True
    )
    check(norm, data)


@pytest.mark.parametrize("dtype", DTYPES[:3], **ids)
@pytest.mark.parametrize("case", THREE_KINDS | SAMPLES)
def test_parameters_of_each_sample(case, dtype, generator):
    norm, shape = (THREE_KINDS | SAMPLES)[case]
    norm = dataclasses.replace(norm, activation="silu", per_sample=True)
    check(norm, problem_data(norm, shape, dtype, generator))


@pytest.mark.parametrize("dtype", DTYPES[:3], **ids)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][0].op == "group_norm"])
def test_parameters_of_each_position(case, masked, dtype, generator):
    norm, shape = CASES[case]
    norm = dataclasses.replace(norm, activation="silu", per_position=True)
    check(norm, problem_data(norm, shape, dtype, generator, mask=masked))


@pytest.mark.parametrize("dtype", DTYPES, **ids)
@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][0].op == "group_norm"])
def test_masks(case, dtype, generator):
    norm, shape = CASES[case]
    data = problem_data(norm, shape, dtype, generator, residual=True, mask=True)
    check(norm, data)
    # A byte for each says the same.
    data.mask = data.mask.to(torch.uint8)
    check(norm, data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], **ids)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", THREE_KINDS)
def test_activations(kind, activation, dtype, generator):
    norm, shape = THREE_KINDS[kind]
    norm = dataclasses.replace(norm, activation=activation)
    check(norm, problem_data(norm, shape, dtype, generator))


@pytest.mark.parametrize("dtype", DTYPES[:3], **ids)
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("kind", THREE_KINDS)
def test_parameters_of_the_data_type_or_absent(kind, gamma, beta, dtype, generator):
    norm, shape = THREE_KINDS[kind]
    data = problem_data(
        norm, shape, dtype, generator, gamma=gamma, beta=beta, param_dtype=dtype
    )
    check(norm, data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], **ids)
@pytest.mark.parametrize("length", ODD_SIZES)
def test_rows_of_every_size(length, dtype, generator):
    norm = layer_norm()
    check(norm, problem_data(norm, (5, length), dtype, generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], **ids)
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8, 12, 31, 40, 100, 257])
@pytest.mark.parametrize("positions", [1, 2, 7, 33, 260])
@pytest.mark.parametrize("axis", [-1, 1])
def test_groups_of_every_size(axis, positions, channels, dtype, generator):
    norm = group_norm(2, axis, activation="relu")
    shape = (3, positions, 2 * channels)
    shape = shape if axis == -1 else (3, 2 * channels, positions)
    check(norm, problem_data(norm, shape, dtype, generator, residual=True))


@pytest.mark.parametrize("case", MANY_GROUPS)
def test_more_groups_than_a_grid_dimension(case, generator):
    norm, shape = MANY_GROUPS[case]
    check(norm, problem_data(norm, shape, torch.float32, generator))


@pytest.mark.parametrize("dtype", DTYPES[:3], **ids)
@pytest.mark.parametrize("which", ["x", "dy", "residual", "dsum", "gamma", "all"])
@pytest.mark.parametrize("kind", THREE_KINDS)
def test_misaligned_inputs(kind, which, dtype, generator):
    norm, shape = THREE_KINDS[kind]
    data = problem_data(norm, shape, dtype, generator, residual=True, param_dtype=dtype)
    for name, tensor in tensors(data).items():
        if which in (name, "all"):
            setattr(data, name, misaligned(tensor))
    check(norm, data)


@pytest.mark.parametrize("kind", THREE_KINDS)
def test_nothing_but_the_outputs_is_written(kind, generator):
    norm, shape = THREE_KINDS[kind]
    data = problem_data(norm, shape, torch.float16, generator, residual=True)
    before = {name: tensor.clone() for name, tensor in tensors(data).items()}
    run(norm, data)
    for name, tensor in before.items():
        assert torch.equal(tensor, getattr(data, name)), name


# What has no elements, and groups of one: as the CPU kernels define it.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], **ids)
@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (layer_norm(), (0, 8)),
        (layer_norm(), (4, 0)),
        (layer_norm(1), (2, 3, 0)),
        (group_norm(2), (2, 0, 8)),
        (group_norm(2), (0, 5, 8)),
        (group_norm(2, 1), (2, 8, 0)),
        (rms_norm(), (0, 3, 8)),
        (layer_norm(), (1, 1)),
        (layer_norm(), (5, 1)),
        (group_norm(-1), (3, 1, 4)),
        (rms_norm(), (3, 1)),
    ],
    ids=str,
)
def test_empty_and_single_elements_as_on_the_cpu(norm, shape, dtype, generator):
    data = problem_data(norm, shape, dtype, generator)
    got = run(norm, data)
    options = {
        "axes": list(norm.axes),
        "groups": norm.groups if norm.op == "group_norm" else 0,
        "epsilon": norm.epsilon,
    }
    x, dy, gamma, beta = map(to_numpy, (data.x, data.dy, data.gamma, data.beta))
    y, _, mean, rstd = _native.forward(norm.op, x, gamma, beta, **options)
    dx, dgamma, dbeta = _native.backward(
        norm.op, dy, x, mean, rstd, gamma, beta, **options
    )
    expected = {
        "y": y,
        "mean": mean,
        "rstd": rstd,
        "dx": dx,
        "dgamma": dgamma,
        "dbeta": dbeta,
    }
    for name, value in expected.items():
        if value is not None:
            ours = getattr(got, name).cpu()
            torch.testing.assert_close(ours, torch.from_numpy(value), equal_nan=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", THREE_KINDS)
def test_what_is_not_finite_stays_in_its_group(kind, value, generator):
    norm, shape = THREE_KINDS[kind]
    data = problem_data(norm, shape, torch.float32, generator)
    clean = run(norm, data)
    data.x.view(-1)[0] = value
    dirty = run(norm, data)
    same = dirty.mean == clean.mean
    assert int((~same).sum()) == 1
    changed = (dirty.y != clean.y).sum()
    assert int(changed) == data.x.numel() // clean.mean.numel()
    assert torch.isnan(dirty.y).any()


@pytest.mark.parametrize("kind", THREE_KINDS)
def test_large_offset_loses_nothing(kind, generator):
    norm, shape = THREE_KINDS[kind]
    data = problem_data(norm, shape, torch.float32, generator)
    data.x += 1e4
    check(norm, data)


def test_float16_beyond_its_range_inside():
    norm = layer_norm()
    x = torch.full((4, 512), 60_000.0, dtype=torch.float16, device="cuda")
    x[:, ::2] *= -1
    generator = torch.Generator("cuda").manual_seed(1)
    data = problem_data(norm, tuple(x.shape), torch.float16, generator)
    data.x = x
    check(norm, data)
