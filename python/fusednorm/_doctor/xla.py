"""A step of our layers, forward and backward, compiled by XLA.

Held to float64 as without XLA, and compared with the same step in a graph.
"""

from __future__ import annotations

import math
from itertools import product

from fusednorm._doctor.accuracy import shares
from fusednorm._doctor.cases import Check, Places, data_of, digest, off, outputs_of
from fusednorm.bench.data import Data
from fusednorm.bench.records import one_line
from fusednorm.bench.verify import Exact

# Every norm, both orders of axes, an activation, a residual.
NAMES = ("sd15-unet-64", "pix2pix-128-cf", "mnist-tutorial-ln1", "vit-b", "llama-7b")
DTYPES = ("float32", "bfloat16")


def check(places: Places) -> Check:
    """Returns a row for each device, shape and type."""
    found = Check()
    for device, dtype, name in product(places.devices, DTYPES, NAMES):
        where = f"{name} in {dtype} on {device}"
        row = {"device": device, "shape": name, "type": dtype}
        found.rows.append(row)
        try:
            error, same = _compare(data_of(name, dtype), device)
        # Whatever it is, it is what a user's model would meet.
        except Exception as raised:
            error, same = math.inf, None
            first = one_line(raised)
            found.problems.append(f"XLA does not compile {where}: {first}")
        else:
            if error > 1:
                found.problems.append(f"Under XLA {where} is {off(error)}.")
        row["error / bound"] = error if math.isfinite(error) else None
        row["same bits as the graph"] = same
    return found


def _compare(data: Data, device: str) -> tuple[float, bool]:
    """Returns the largest error, as a multiple of its bound, and whether bits agree."""
    from fusednorm.bench.competitors import tensorflow

    exact = Exact(data)
    tensors = tensorflow.Tensors(data, device)
    norm = tensorflow.ours(tensors)
    compiled, graph = (
        outputs_of(tensorflow.in_graph(name, norm, tensors, xla=name == "xla"), device)
        for name in ("xla", "graph")
    )
    worst = max(shares(exact, compiled, data.case.dtype).values())
    return worst, digest(compiled) == digest(graph)
