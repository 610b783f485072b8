"""Which norms are tuned: the canonical ones, one that is given, or those of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusednorm import explain
from fusednorm.bench.shapes import SHAPES

DTYPES = ("bfloat16", "float32")

# The ops of the library -> as explain names them.
_OPS = {
    "Fusednorm>GroupNorm": "group_norm",
    "Fusednorm>LayerNorm": "layer_norm",
    "Fusednorm>RMSNorm": "rms_norm",
}


@dataclass(frozen=True)
class Problem:
    """A norm of tensors of known sizes.

    Attributes:
        name: For people.
        arguments: What `_native.plan` and its like take of it.
    """

    name: str
    arguments: dict[str, Any]


def one(**options: Any) -> Problem:
    """Returns the norm that `explain.problem` makes of the options."""
    return _named(explain.problem(**options))


def canonical(dtypes: Sequence[str] = DTYPES) -> list[Problem]:
    """Returns the norms that the benchmarks measure."""
    return [
        Problem(
            f"{shape.name} {dtype}",
            explain.problem(
                op=shape.op,
                shape=shape.shape,
                dtype=dtype,
                axes=shape.axes,
                groups=shape.groups if shape.op == "group_norm" else None,
                activation=shape.activation,
                residual=shape.residual,
                zero_centered=shape.zero_centered,
            ),
        )
        for dtype in dtypes
        for shape in SHAPES
    ]


def of_model(path: Path, batch: int, *, fuse: bool = False) -> list[Problem]:
    """Returns the norms of a saved Keras model, as they are called in training.

    Keras's own norms are converted first. The model is traced, and nothing is computed.

    Args:
        path: A file that Keras loads.
        batch: The first size of every input.
        fuse: As `fusednorm.convert` takes it.

    Raises:
        ValueError: The model does not say what its inputs are, a size other than the
            batch is not known, or there is no norm that can be tuned.
    """
    import tensorflow as tf

    from fusednorm import _library, convert
    from fusednorm._keras import keras

    _library.load_op_library()
    model = keras.models.load_model(path, compile=False)
    convert(model, fuse=fuse, compare=False, verbose=False)
    if not getattr(model, "inputs", None):
        raise ValueError(f"{path} must be a model that knows the shapes of its inputs")
    specs = [
        tf.TensorSpec([batch, *each.shape[1:]], each.dtype) for each in model.inputs
    ]
    for spec in specs:
        if not spec.shape.is_fully_defined():
            raise ValueError(
                f"{path} must have inputs of known sizes but for the batch. Received: "
                f"{spec.shape}. Build it with sizes, or tune its norms with --shape"
            )
    function = tf.function(lambda *inputs: model(_as_given(inputs), training=True))
    graph = function.get_concrete_function(*specs).graph
    found = list(_of_graph(graph.as_graph_def(add_shapes=True)))
    if not found:
        raise ValueError(f"{path} has no norm whose sizes are known")
    return found


def _as_given(inputs: Sequence[Any]) -> Any:
    return inputs[0] if len(inputs) == 1 else list(inputs)


def _of_graph(graph: Any) -> Iterator[Problem]:
    """Yields the norms of a GraphDef whose nodes have shapes, and of its functions."""
    import tensorflow as tf

    for nodes in (graph.node, *(each.node_def for each in graph.library.function)):
        for node in nodes:
            if node.op not in _OPS:
                continue
            attributes = node.attr
            # y is like x.
            dims = attributes["_output_shapes"].list.shape[:1]
            shape = [dim.size for each in dims for dim in each.dim]
            if not shape or -1 in shape:
                continue
            is_group_norm = _OPS[node.op] == "group_norm"
            yield one(
                op=_OPS[node.op],
                shape=shape,
                dtype=tf.as_dtype(attributes["T"].type).name,
                axes=[attributes["axis"].i]
                if is_group_norm
                else list(attributes["axes"].list.i),
                groups=attributes["groups"].i if is_group_norm else None,
                activation=attributes["activation"].s.decode(),
                gamma=attributes["num_gamma"].i > 0,
                beta=attributes["num_beta"].i > 0,
                residual=attributes["num_residual"].i > 0,
                mask=attributes["num_mask"].i > 0,
                parameters_of="sample"
                if attributes["per_sample"].b
                else "position"
                if attributes["per_position"].b
                else "all",
                zero_centered=attributes["zero_centered"].b,
                param_dtype=tf.as_dtype(attributes["U"].type).name,
            )


def _named(arguments: dict[str, Any]) -> Problem:
    """Returns a problem that is named by what it is."""
    words = [
        arguments["op"],
        "x".join(map(str, arguments["shape"])),
        *([f"groups={arguments['groups']}"] if arguments["groups"] else []),
        *([arguments["activation"]] if arguments["activation"] != "none" else []),
        *(
            name
            for name in ("residual", "has_mask", "per_sample", "per_position")
            if arguments[name]
        ),
        arguments["dtype"],
    ]
    return Problem(" ".join(words), arguments)
