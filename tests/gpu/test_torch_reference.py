"""The reference of this folder against the one that all other tests use."""

import numpy as np
import pytest
from support import bounds, reference
from support.gpu import requirements

if reason := requirements.missing_torch():
    pytest.skip(reason, allow_module_level=True)

import torch
from support.gpu import torch_reference
from support.reference import Norm

pytestmark = pytest.mark.gpu

NORMS = {
    "group": (Norm("group_norm", (-1,), 3, activation="silu"), (2, 5, 4, 6)),
    "instance": (Norm("group_norm", (1,), -1, activation="gelu_tanh"), (2, 6, 5, 4)),
    "layer": (Norm("layer_norm", (-1,), activation="leaky_relu"), (7, 19)),
    "columns": (Norm("layer_norm", (1,), activation="gelu"), (3, 8, 5)),
    "rms": (Norm("rms_norm", (-1,), zero_centered=True), (6, 11)),
    "samples": (Norm("layer_norm", (2,), per_sample=True), (3, 2, 8, 5)),
    "positions": (Norm("group_norm", (1,), 2, per_position=True), (2, 6, 5)),
}


@pytest.mark.parametrize(
    ("name", "masked"),
    [*((name, False) for name in NORMS), ("group", True), ("positions", True)],
)
def test_same_values_and_bounds(name, masked):
    norm, shape = NORMS[name]
    rng = np.random.default_rng(4)
    parameters = reference.parameter_shape(norm, shape)
    x, residual, dy, dsum = (
        rng.normal(size=shape).astype(np.float32) for _ in range(4)
    )
    gamma = rng.uniform(0.5, 2, parameters).astype(np.float32)
    beta = rng.normal(size=parameters).astype(np.float32) if norm.centred else None

    mask = None
    if masked:
        mask = rng.random(np.delete(shape, norm.axes)) < 0.5
        mask[-1] = False

    of = reference.forward(norm, x, gamma, beta, residual, mask)
    gradients = reference.backward(norm, of, dy, dsum)
    tensors = [
        None if each is None else torch.from_numpy(each)
        for each in (x, gamma, beta, residual, mask, dy, dsum)
    ]
    got = torch_reference.forward(norm, *tensors[:5])
    got_gradients = torch_reference.backward(norm, got, *tensors[5:])

    pairs = [(got.y, of.y), (got.mean, of.mean), (got.rstd, of.rstd)]
    pairs += [
        (getattr(got_gradients, key), getattr(gradients, key))
        for key in ("dx", "dgamma", "dbeta")
    ]
    pairs += [
        (
            torch_reference.forward_bound(norm, got, torch.float32),
            bounds.forward(norm, of, np.float32),
        ),
        *zip(
            torch_reference.backward_bound(
                norm, got, got_gradients, tensors[5], torch.float32
            ),
            bounds.backward(norm, of, gradients, dy, np.float32),
            strict=True,
        ),
    ]
    for ours, theirs in pairs:
        theirs = np.asarray(theirs, np.float64)
        # The bounds differ by the attributes of TensorFlow that hold epsilon.
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-12)


def test_gradients_of_the_statistics_by_autograd():
    norm = Norm("group_norm", (-1,), 2)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    grouped = x.reshape(2, 5, 2, 3)
    mean = grouped.mean((1, 3))
    rstd = (grouped.var((1, 3), correction=0) + norm.epsilon).rsqrt()
    dmean, drstd = torch.randn(2, 2, 2, dtype=torch.float64)
    expected = torch.autograd.grad((mean * dmean + rstd * drstd).sum(), x)[0]

    of = torch_reference.forward(norm, x.detach())
    zero = torch.zeros_like(of.y)
    got = torch_reference.backward(norm, of, zero, dmean=dmean, drstd=drstd)
    torch.testing.assert_close(got.dx, expected)
