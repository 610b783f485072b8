"""What a competitor is, and which of ours a peer is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fusednorm.bench.records import KERNEL

EAGER = "fusednorm-eager"
GRAPH = "fusednorm-graph"
XLA = "fusednorm-xla"
OURS = (KERNEL, EAGER, GRAPH, XLA)

# Peer -> ours, like with like: C++ calls from Python, layers in a tf.function, layers
# compiled by XLA (in a graph where this build has no XLA kernels).
AGAINST = {
    "torch": (KERNEL,),
    "torch-instance-norm": (KERNEL,),
    "torch-compile": (KERNEL,),
    "liger": (KERNEL,),
    "quack": (KERNEL,),
    "keras-graph": (GRAPH,),
    "keras-xla": (XLA, GRAPH),
    "tf_keras": (GRAPH,),
}
CPU_PEERS = ("torch", "keras-graph", "keras-xla", "tf_keras")
GPU_PEERS = ("torch", "torch-compile", "liger", "quack", "keras-graph", "keras-xla",
             "tf_keras")  # fmt: skip


@dataclass
class Outputs:
    """What a forward and a backward pass return, as arrays; None what was not asked."""

    y: Any = None
    sum: Any = None
    dx: Any = None
    dgamma: Any = None
    dbeta: Any = None


@dataclass
class Competitor:
    """Somebody's passes over the sets of a case.

    Attributes:
        name: Who.
        forward: Works on set i.
        both: Forward and backward, also returning y.
        backward: Backward alone, from what a forward pass has kept; None where only
            `both` minus `forward` can be had.
        outputs: From the results of `both` to arrays.
        notes: What is to know about how it was called.
    """

    name: str
    forward: Callable[[int], Any]
    both: Callable[[int], Any] | None = None
    backward: Callable[[int], Any] | None = None
    outputs: Callable[[Any], Outputs] | None = None
    notes: list[str] = field(default_factory=list)


class AbsentError(Exception):
    """A competitor has no function for a case, or is not installed: the message."""
