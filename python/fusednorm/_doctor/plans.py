"""Which kernels the canonical shapes get, at their full size, in bfloat16."""

from __future__ import annotations

from fusednorm import explain
from fusednorm._doctor.cases import SMALL, Check
from fusednorm.bench.shapes import SHAPES


def check() -> Check:
    """Returns the plans for the GPU that is here, else for an H100."""
    from fusednorm import _native

    found = Check()
    here = bool(_native.cuda.devices())
    for shape in SHAPES:
        if shape.name not in SMALL:
            continue
        grouped = shape.family == "group_norm"
        (entry,) = explain.collect(
            op=shape.family,
            shape=shape.shape,
            axes=shape.axes,
            groups=shape.groups if grouped else None,
            activation=shape.activation,
            residual=shape.residual,
        )
        found.rows.append(
            {
                "shape": shape.name,
                "x": "x".join(map(str, shape.shape)),
                "GPU": entry["device"],
                "forward": entry["forward"]["scheme"],
                "backward": entry["backward"]["scheme"],
                "CPU": _native.isa(),
            }
        )
    if not here:
        found.notes.append("No GPU here: as the plan for an H100 has it.")
    return found
