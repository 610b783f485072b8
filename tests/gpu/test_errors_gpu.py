"""What the module refuses, and that the message names the argument."""

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import torch
from support.gpu import on_torch
from support.gpu.cases import group_norm, layer_norm
from support.gpu.runs import problem_data, run

pytestmark = pytest.mark.gpu

NORM, SHAPE = layer_norm(), (6, 32)


@pytest.fixture
def data(generator):
    return problem_data(NORM, SHAPE, torch.float32, generator, residual=True)


CHANGES = {
    "on the CPU": lambda tensor: tensor.cpu(),
    "not contiguous": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
    "of integers": lambda tensor: tensor.int(),
    "too short": lambda tensor: tensor[..., :-1].contiguous(),
}


@pytest.mark.parametrize("name", ["x", "gamma", "beta", "residual", "dy", "dsum"])
@pytest.mark.parametrize("change", CHANGES)
def test_inputs(change, name, data):
    setattr(data, name, CHANGES[change](getattr(data, name)))
    # A shorter x makes the others too long.
    named = "" if (change, name) == ("too short", "x") else name
    with pytest.raises((ValueError, TypeError), match=named):
        run(NORM, data)


@pytest.mark.parametrize("change", CHANGES)
def test_masks(change, generator):
    norm = group_norm(2)
    data = problem_data(norm, (2, 5, 8), torch.float32, generator, mask=True)
    data.mask = CHANGES[change](data.mask)
    with pytest.raises((ValueError, TypeError), match="mask"):
        run(norm, data)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["y", "sum", "mean", "rstd"])
def test_outputs_of_forward(name, change, data):
    out = on_torch.new_forward(NORM, data.x, data.residual)
    setattr(out, name, CHANGES[change](getattr(out, name)))
    with pytest.raises((ValueError, TypeError), match=name):
        on_torch.forward(NORM, data.x, data.gamma, data.beta, data.residual, out=out)


def test_residual_of_another_type(data):
    data.residual = data.residual.half()
    with pytest.raises((ValueError, TypeError), match="residual"):
        run(NORM, data)


def test_groups_that_do_not_divide(generator):
    norm = group_norm(3)
    good = group_norm(2)
    data = problem_data(good, (2, 5, 8), torch.float32, generator)
    out = on_torch.new_forward(good, data.x)
    with pytest.raises(ValueError, match="groups"):
        on_torch.forward(norm, data.x, data.gamma, data.beta, out=out)


def test_the_device_works_after_an_error(data):
    with pytest.raises((ValueError, TypeError)):
        on_torch.forward(NORM, data.x.cpu(), data.gamma, data.beta)
    run(NORM, data)
    torch.cuda.synchronize()
