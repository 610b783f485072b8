"""The plans of the canonical shapes of the benchmarks."""

from fusednorm import _native
from fusednorm.bench.shapes import SHAPES

__all__ = ["SHAPES", "candidates", "plan"]


def plan(shape, dtype, device, direction, **options):
    """Returns the plan of one of `SHAPES`, with gamma and, where there is one, beta."""
    return _planned(_native.plan, shape, dtype, device, direction, options)


def candidates(shape, dtype, device, direction, **options):
    """Returns all plans of one of `SHAPES`, best first, with what `plan` has."""
    return _planned(_native.candidates, shape, dtype, device, direction, options)


def _planned(planning, shape, dtype, device, direction, options):
    return planning(
        shape.op,
        list(shape.shape),
        dtype,
        axes=list(shape.axes),
        groups=shape.groups,
        activation=shape.activation,
        residual=shape.residual,
        has_gamma=True,
        has_beta=shape.op != "rms_norm",
        device=device,
        direction=direction,
        **options,
    )
