"""The plans of the canonical shapes of the benchmarks."""

from fusednorm import _native
from fusednorm.bench.shapes import SHAPES

__all__ = ["SHAPES", "plan"]


def plan(shape, dtype, device, direction, **options):
    """Returns the plan of one of `SHAPES`, with gamma and, where there is one, beta."""
    return _native.plan(
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
