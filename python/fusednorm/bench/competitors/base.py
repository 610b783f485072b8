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

# Peer -> ours, like with like: kernels called from Python, layers called eagerly, in a
# tf.function, or compiled by XLA (in a graph where this build has no XLA kernels).
AGAINST = {
    "torch": (KERNEL,),
    "torch-instance-norm": (KERNEL,),
    "torch-compile": (KERNEL,),
    "liger": (KERNEL,),
    "quack": (KERNEL,),
    "keras-eager": (EAGER,),
    "keras-graph": (GRAPH,),
    "keras-xla": (XLA, GRAPH),
    "tf_keras": (GRAPH,),
}
LAYER_PEERS = ("keras-eager", "keras-graph", "keras-xla", "tf_keras")
CPU_PEERS = ("torch", *LAYER_PEERS)
GPU_PEERS = ("torch", "torch-compile", "liger", "quack", *LAYER_PEERS)


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
        outputs: From the results of `both` to arrays, or to tensors of a device.
        launches: Whether its calls only launch kernels, so that a CUDA graph holds
            all of them.
        notes: What is to know about how it was called.
    """

    name: str
    forward: Callable[[int], Any]
    both: Callable[[int], Any] | None = None
    backward: Callable[[int], Any] | None = None
    outputs: Callable[[Any], Outputs] | None = None
    launches: bool = False
    notes: list[str] = field(default_factory=list)


class AbsentError(Exception):
    """A competitor has no function for a case, or is not installed: the message."""
