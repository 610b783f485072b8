"""What XLA leaves beside the custom calls of a training step, read from its HLO.

    python -m fusednorm.bench.hlo                  # small models, compiled for the CPU
    python -m fusednorm.bench.hlo --gpu --models unet --policies mixed_bfloat16

XLA cannot look into a custom call: what it would fuse with a norm of plain operations,
it runs as a kernel of its own. The table counts the instructions of whole training
steps with Keras's norms, with ours after `fusednorm.convert`, and with ours after
`convert(fuse=True)`. Nothing runs, so it says nothing about time.

An instruction is called by what it does:

    "copy", "transpose", "convert", ...   moves or casts data, and does nothing else;
                                          joined by "+" where one fusion does several
    "elementwise", "reduction"            computes, alone or as a fusion
    "dot", "convolution", "custom-call"   as in HLO

Bitcasts, tuples and their elements cost nothing and are looked through.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fusednorm.bench.models import FUSED, KERAS, OURS, TOLERANCES, training_step
from fusednorm.bench.networks import NETWORKS, Norms

# As the custom calls are named in csrc/core/signature.h.
TARGETS = ("fusednorm_forward", "fusednorm_backward", "fusednorm_second_order")
KINDS = (KERAS, OURS, FUSED)
POLICIES = tuple(TOLERANCES)
# Large enough that no axis that matters has size 1.
SMALL: dict[str, dict[str, Any]] = {
    "resnet18-gn": {"image": 32},
    "unet": {"image": 8, "widths": (32,), "blocks": 1, "attention": 4},
    "cyclegan": {"image": 16, "filters": 4, "blocks": 1},
    "gpt": {"tokens": 8, "width": 16, "depth": 1, "heads": 2},
    "llama": {"tokens": 8, "width": 24, "depth": 1, "heads": 2},
    "vit": {"image": 16, "patch": 4, "width": 16, "depth": 1, "heads": 2},
}
BATCH = 2

_FREE = {"bitcast", "get-tuple-element", "tuple", "optimization-barrier"}
_SOURCES = {"parameter", "constant"}
MOVES = {
    *("broadcast", "concatenate", "convert", "copy", "dynamic-slice", "gather"),
    *("dynamic-update-slice", "iota", "pad", "reshape", "reverse", "slice"),
    "transpose",
}
CASTS = {"broadcast", "convert"}
_COMPUTE = ("elementwise", "reduction")
_SMALL = ("small elementwise",)
_COLUMNS = (
    *("model", "policy", "norms", "beside the calls: casts, as given to XLA"),
    *("moves, as run", *_COMPUTE, *_SMALL),
    *("in all: moves", *_COMPUTE, "custom calls"),
)
_REDUCTIONS = {"reduce", "reduce-window", "select-and-scatter", "scatter", "sort"}
_LIBRARY = {"dot", "convolution", "custom-call"}


@dataclass(frozen=True)
class Hlo:
    """The main computation of a compiled function.

    Attributes:
        instructions: Id -> instruction, as XLA's protocol buffer has it.
        called: Id -> the opcodes of the computation that an instruction calls.
        free: Opcodes of instructions that cost nothing here.
    """

    instructions: dict[int, Any]
    called: dict[int, set[str]]
    free: set[str]

    def kind(self, instruction: Any) -> str:
        """Returns what an instruction does; see this module."""
        opcodes = self.called.get(instruction.id, {instruction.opcode})
        if library := opcodes & _LIBRARY:
            return min(library)
        if opcodes & _REDUCTIONS:
            return "reduction"
        opcodes = opcodes - _FREE - _SOURCES
        return "+".join(sorted(opcodes)) if opcodes <= MOVES else "elementwise"

    def kernels(self) -> Counter[str]:
        """Returns kind -> the number of instructions that cost something."""
        return Counter(
            self.kind(each)
            for each in self.instructions.values()
            if each.opcode not in self.free | _SOURCES
        )

    def custom_calls(self) -> list[Any]:
        """Returns the custom calls of this package."""
        return [
            each
            for each in self.instructions.values()
            if each.opcode == "custom-call" and each.custom_call_target in TARGETS
        ]

    def beside_the_calls(self) -> Counter[str]:
        """Returns kind -> the number of instructions that a custom call is beside.

        They write what it reads, or read what it writes. Each counts once, beside how
        many calls it may be. The custom calls themselves do not count. Where what is
        between is smaller than the data, as statistics and parameters are, the kind is
        "small copy", "small elementwise" and so on.
        """
        calls = {each.id: each for each in self.custom_calls()}
        small: dict[int, bool] = {}
        for call in calls.values():
            data = _elements(self.instructions[call.operand_ids[0]])
            operands = (self.instructions[each] for each in call.operand_ids)
            producers = zip(operands, self.sources(call), strict=True)
            for between, each in (*producers, *self._consumers(call)):
                if each.opcode not in _SOURCES and each.id not in calls:
                    is_small = _elements(between) < data
                    small[each.id] = small.get(each.id, True) and is_small
        return Counter(
            ("small " if is_small else "") + self.kind(self.instructions[each])
            for each, is_small in small.items()
        )

    def sources(self, call: Any) -> list[Any]:
        """Returns the instruction that computes each operand."""
        found = []
        for operand in call.operand_ids:
            source = self.instructions[operand]
            while source.opcode in self.free and source.operand_ids:
                source = self.instructions[source.operand_ids[0]]
            found.append(source)
        return found

    def _consumers(self, result: Any) -> Iterator[tuple[Any, Any]]:
        """Yields each result, and what reads it."""
        for user in self.instructions.values():
            if result.id in user.operand_ids:
                if user.opcode in self.free:
                    yield from self._consumers(user)
                else:
                    yield result, user


def read(function: Callable[..., Any], *arguments: Any, optimized: bool = True) -> Hlo:
    """Returns the HLO of a `tf.function(jit_compile=True)` for some arguments.

    Args:
        function: The function.
        *arguments: What it is called with. It is compiled, but does not run.
        optimized: Whether to return what XLA runs, or what TensorFlow gives it.
    """
    stage = "optimized_hlo_serialized" if optimized else "hlo_serialized"
    serialized = function.experimental_get_compiler_ir(*arguments)(stage=stage)
    # Before XLA decides on layouts, no reshape moves anything.
    return parse(serialized, _FREE if optimized else _FREE | {"reshape"})


def parse(serialized: bytes, free: set[str] = _FREE) -> Hlo:
    """Returns a serialized module of HLO; see `Hlo` for the arguments."""
    from tensorflow.compiler.xla.service import hlo_pb2

    module = hlo_pb2.HloModuleProto.FromString(serialized)
    computations = {each.id: each.instructions for each in module.computations}

    def opcodes(instruction: Any) -> set[str]:
        if instruction.opcode not in ("fusion", "call"):
            return {instruction.opcode}
        return set().union(*map(opcodes, inside(instruction)))

    def inside(instruction: Any) -> Any:
        return computations[instruction.called_computation_ids[0]]

    entry = computations[module.entry_computation_id]
    return Hlo(
        {each.id: each for each in entry},
        {each.id: opcodes(each) for each in entry if each.opcode in ("fusion", "call")},
        free,
    )


def compiled_step(
    model: str, policy: str, norms: str, *, gpu: bool = False
) -> tuple[Callable[[Any], Any], Any]:
    """Returns a step of gradient descent, compiled by XLA, and what to call it with.

    Args:
        model: A name from `SMALL`.
        policy: Keras's dtype policy.
        norms: "keras", "fusednorm" or "fused".
        gpu: Whether to make the model in the size for GPUs.
    """
    import keras
    import tensorflow as tf

    import fusednorm

    size = dict(NETWORKS[model].gpu) if gpu else SMALL[model] | {"batch": BATCH}
    batch = size.pop("batch")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        network = NETWORKS[model].make(Norms(True), **size)
        if norms != KERAS:
            fuse = norms == FUSED
            fusednorm.convert(network, fuse=fuse, compare=False, verbose=False)
    finally:
        keras.config.set_dtype_policy(before)
    x = tf.zeros([batch, *network.input_shape[1:]])
    return training_step(network, xla=True), x


def table(
    models: Sequence[str], policies: Sequence[str], *, gpu: bool
) -> Iterator[str]:
    """Yields the lines of a Markdown table of the counts.

    What XLA runs is left out for 16-bit policies on the CPU, where it computes in
    float32 and casts before and after.
    """
    yield "| " + " | ".join(_COLUMNS) + " |"
    yield "|" + "---|" * len(_COLUMNS)
    for model in models:
        for policy in policies:
            for norms in KINDS:
                step, x = compiled_step(model, policy, norms, gpu=gpu)
                given = read(step, x, optimized=False).beside_the_calls()
                cells = [model, policy, norms, _text(given, CASTS)]
                if gpu or policy == "float32":
                    run = read(step, x)
                    beside, kernels = run.beside_the_calls(), run.kernels()
                    cells.append(_text(beside, MOVES))
                    cells += (str(beside[each]) for each in (*_COMPUTE, *_SMALL))
                    cells.append(_text(kernels, MOVES))
                    cells += (str(kernels[each]) for each in _COMPUTE)
                    cells.append(str(len(run.custom_calls())))
                yield "| " + " | ".join(cells) + " |" * (1 + len(_COLUMNS) - len(cells))


def moves(counts: Counter[str], of: set[str] = MOVES) -> dict[str, int]:
    """Returns what only moves or casts, of a count by kind."""
    return {
        kind: count
        for kind, count in sorted(counts.items())
        if set(kind.removeprefix("small ").split("+")) <= of
    }


def _elements(instruction: Any) -> int:
    return math.prod(instruction.shape.dimensions)


def _text(counts: Counter[str], of: set[str]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in moves(counts, of).items()) or "0"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(SMALL), help="comma separated")
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--gpu", action="store_true", help="real sizes, on a GPU")
    options = parser.parse_args(arguments)
    if not options.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    models, policies = options.models.split(","), options.policies.split(",")
    for line in table(models, policies, gpu=options.gpu):
        print(line, flush=True)


if __name__ == "__main__":
    main()
