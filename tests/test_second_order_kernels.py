"""The fused second order: gradients of the gradients, without TensorFlow's tape."""

import math

import pytest
import reference
from reference import WIDE, Norm

NORMS = [
    (Norm("layer_norm"), (3, 7)),
    (Norm("rms_norm", zero_centered=True), (3, 7)),
    (Norm("group_norm", groups=2), (2, 3, 6)),
    (Norm("group_norm", (1,), 2), (2, 4, 5)),
    (Norm("group_norm", (1,)), (2, 3, 1)),
    (Norm("layer_norm", (1,)), (2, 5, 3)),
    (Norm("rms_norm", (1,)), (2, 5, 3)),
]


@pytest.mark.parametrize(("norm", "shape"), NORMS)
def test_the_reference_is_the_derivative_of_the_first_order(norm, shape, rng):
    """Along random directions; differences of order 4 are good to 1e-13 or so."""
    parameters = [shape[axis] for axis in reference.sorted_axes(norm, len(shape))]
    viewed, reduced, _ = reference.view(norm, shape)
    statistics = [1 if i in reduced else size for i, size in enumerate(viewed)]
    count = math.prod(viewed[i] for i in reduced)

    def normal(size):
        return rng.normal(size=size).astype(WIDE)

    def product(x, dy, gamma, dmean, drstd):
        """Returns the first-order gradients times ddx, ddgamma and ddbeta."""
        of = reference.forward(norm, x, gamma)
        added = -drstd * of.rstd**2 * of.xhat / count
        if norm.centred:
            added = added + dmean / count
        got = reference.backward(norm, of, dy, added.reshape(shape))
        total = (got.dx * ddx).sum() + (got.dgamma * ddgamma).sum()
        return total + ((got.dbeta * ddbeta).sum() if norm.centred else 0)

    ddx, ddgamma, ddbeta = normal(shape), normal(parameters), normal(parameters)
    at = [*(normal(shape) for _ in range(2)), normal(parameters)]
    at += [normal(statistics), normal(statistics)]
    x, dy, gamma, _, drstd = at
    exact = reference.second_order(
        norm,
        reference.forward(norm, x, gamma),
        dy,
        ddx,
        ddgamma,
        ddbeta if norm.centred else None,
        drstd,
    )
    d_dmean = exact.d_dmean if norm.centred else 0
    wanted = [exact.d_x, exact.d_dy, exact.d_gamma, d_dmean, exact.d_drstd]
    for i, gradient in enumerate(wanted):
        direction = normal(at[i].shape)

        def along(step, i=i, direction=direction):
            return product(
                *(a + step * direction if j == i else a for j, a in enumerate(at))
            )

        h = WIDE(1e-5)
        slope = 8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))
        error = abs(slope / (12 * h) - (gradient * direction).sum())
        assert error < 1e-11 * max(1, abs(slope / (12 * h)))
