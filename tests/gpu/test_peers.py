"""The functions that the benchmark times as PyTorch's compute the same norms."""

import pytest
from support.gpu import requirements

if reason := requirements.missing_torch():
    pytest.skip(reason, allow_module_level=True)

import torch
from fusednorm.bench import torch_functions
from support.gpu import torch_reference
from support.gpu.cases import group_norm, layer_norm, rms_norm
from support.gpu.runs import problem_data

pytestmark = pytest.mark.gpu

NORMS = {
    "channels last": (group_norm(3, activation="silu"), (2, 5, 4, 6)),
    "channels first": (group_norm(3, 1, activation="relu"), (2, 6, 5, 4)),
    "instances": (group_norm(-1, activation="leaky_relu"), (2, 5, 4, 3, 6)),
    "rows": (layer_norm(), (7, 19)),
    "axis 1": (layer_norm(1), (3, 8, 5, 2)),
    "rms": (rms_norm(), (6, 3, 11)),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_eager(name, residual):
    norm, shape = NORMS[name]
    generator = torch.Generator().manual_seed(2)
    data = problem_data(norm, shape, torch.float64, generator, residual=residual)
    inputs = [data.x, data.gamma, data.beta, data.residual]
    leaves = [each.requires_grad_() for each in inputs if each is not None]
    function = torch_functions.eager(norm, len(shape))
    results = function(*inputs)
    results = results if residual else (results,)
    gradients = torch.autograd.grad(
        results, leaves, [data.dy, data.dsum] if residual else [data.dy]
    )
    with torch.no_grad():
        of = torch_reference.forward(norm, *inputs)
        expected = torch_reference.backward(norm, of, data.dy, data.dsum)
    torch.testing.assert_close(results[0].detach(), of.y)
    torch.testing.assert_close(gradients[0], expected.dx)
    torch.testing.assert_close(gradients[1], expected.dgamma)
    if norm.centred:
        torch.testing.assert_close(gradients[2], expected.dbeta)
