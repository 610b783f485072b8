"""Tensors of more than 2^31 elements, compared piece by piece."""

import math
from types import SimpleNamespace

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import torch
from support import bounds, reference
from support.gpu import on_torch, torch_reference
from support.gpu.cases import group_norm, layer_norm
from support.gpu.checks import needs_memory
from support.gpu.torch_reference import relative_to

pytestmark = pytest.mark.gpu

DTYPE = torch.float16
LIMIT = 2**31
UNIT = torch_reference.precision(DTYPE).compute


def large(shape, generator):
    """Returns uniform numbers, made in place: a float32 copy would be twice as big."""
    values = torch.empty(shape, dtype=DTYPE, device="cuda")
    return values.uniform_(-1.5, 2, generator=generator)


def parameters(count, generator):
    gamma = torch.rand(count, device="cuda", generator=generator) + 0.5
    return gamma, torch.rand(count, device="cuda", generator=generator) - 0.5


# Independent rows or samples: any piece of them is a problem of its own.
@pytest.mark.parametrize(
    ("norm", "shape", "pieces"),
    [
        (layer_norm(), (LIMIT // 1024 + 3, 1024), 40),
        (group_norm(4), (LIMIT // 2**20 + 1, 2**14, 64), 41),
        (group_norm(4, 1), (LIMIT // 2**20 + 1, 64, 2**14), 41),
        (layer_norm(1), (LIMIT // 2**20 + 1, 64, 2**14), 41),
    ],
    ids=["rows", "channels last", "channels first", "columns"],
)
def test_more_than_two_to_the_31_elements(norm, shape, pieces, generator):
    assert math.prod(shape) > LIMIT
    needs_memory(40 * 2**30)
    x, dy = large(shape, generator), large(shape, generator)
    gamma, beta = parameters(reference.parameter_shape(norm, shape), generator)
    out = on_torch.forward(norm, x, gamma, beta)
    gradients = on_torch.backward(norm, dy, x, out.mean, out.rstd, gamma, beta)

    worst = dict.fromkeys(("y", "mean", "rstd", "dx"), 0.0)
    exact = {"dgamma": 0, "dbeta": 0}
    limits = {"dgamma": 0, "dbeta": 0}
    step = -(-shape[0] // pieces)
    for begin in range(0, shape[0], step):
        piece = slice(begin, begin + step)
        of = torch_reference.forward(norm, x[piece], gamma, beta)
        expected = torch_reference.backward(norm, of, dy[piece])
        bound_dx, *bound_parameters = torch_reference.backward_bound(
            norm, of, expected, dy[piece], DTYPE
        )
        shares = {
            "y": relative_to(
                torch_reference.forward_bound(norm, of, DTYPE), out.y[piece], of.y
            ),
            "mean": relative_to(bounds.of_mean(of, UNIT), out.mean[piece], of.mean),
            "rstd": relative_to(bounds.RSTD * UNIT * of.rstd, out.rstd[piece], of.rstd),
            "dx": relative_to(bound_dx, gradients.dx[piece], expected.dx),
        }
        for name, share in shares.items():
            # NaN must win: max() would drop it.
            worst[name] = share if not share <= worst[name] else worst[name]
        for name, bound in zip(exact, bound_parameters, strict=True):
            exact[name] = exact[name] + getattr(expected, name)
            limits[name] = limits[name] + bound
    for name in exact:
        worst[name] = relative_to(limits[name], getattr(gradients, name), exact[name])
    outside = {name: share for name, share in worst.items() if not share <= 1}
    assert not outside, f"errors as multiples of their bounds: {outside}"


# One group that is larger than 2^31 elements: its statistics, in pieces too.
def test_a_group_of_more_than_two_to_the_31_elements(generator):
    needs_memory(32 * 2**30)
    norm = group_norm(1)
    shape = (1, LIMIT // 64 + 1, 64)
    x, dy = large(shape, generator), large(shape, generator)
    gamma, beta = parameters((64,), generator)
    out = on_torch.forward(norm, x, gamma, beta)
    gradients = on_torch.backward(norm, dy, x, out.mean, out.rstd, gamma, beta)

    def over_pieces(function):
        pieces = range(0, shape[1], 2**20)
        return sum(function(slice(begin, begin + 2**20)) for begin in pieces)

    wide = torch.float64
    count = math.prod(shape)
    g = gamma.to(wide)
    mean = over_pieces(lambda at: x[:, at].to(wide).sum()) / count
    variance = over_pieces(lambda at: (x[:, at].to(wide) - mean).square().sum()) / count
    rstd = (variance + norm.epsilon).rsqrt()
    limit = bounds.of_mean(SimpleNamespace(mean=mean, rstd=rstd), UNIT)
    assert float((out.mean - mean).abs()) <= float(limit)
    assert float((out.rstd - rstd).abs() / rstd) <= bounds.RSTD * UNIT

    def xhat(at):
        return (x[:, at].to(wide) - mean) * rstd

    plain = over_pieces(lambda at: (dy[:, at].to(wide) * g).sum()) / count
    with_xhat = (
        over_pieces(lambda at: (dy[:, at].to(wide) * g * xhat(at)).sum()) / count
    )
    dgamma = over_pieces(lambda at: (dy[:, at].to(wide) * xhat(at)).sum((0, 1)))
    dbeta = over_pieces(lambda at: dy[:, at].to(wide).sum((0, 1)))
    # |dy| <= 2 and |xhat| < 2: the sums of the magnitudes are at most 4 * count / 64.
    magnitude = 4 * count / 64
    limit = (bounds.PARAMETER + bounds.XHAT + 4) * UNIT * magnitude
    assert float((gradients.dgamma - dgamma).abs().max()) <= limit
    assert float((gradients.dbeta - dbeta).abs().max()) <= limit
    half = torch_reference.precision(DTYPE)
    for begin in range(0, shape[1], 2**20):
        at = slice(begin, begin + 2**20)
        y = xhat(at) * g + beta.to(wide)
        dx = rstd * (dy[:, at].to(wide) * g - plain - xhat(at) * with_xhat)
        for got, exact in ((out.y[:, at], y), (gradients.dx[:, at], dx)):
            # Far above float32's unit and below float16's, which decides.
            bound = half.store * exact.abs() + 200 * UNIT + half.smallest
            share = relative_to(bound, got, exact)
            assert share <= 1, (begin, share)
