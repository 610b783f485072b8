"""The gradient ops of the norms, and those of the second order, as TensorFlow ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fusednorm._composition import norms


def first_order(
    kind: str, inputs: dict[str, Any], attributes: dict[str, Any]
) -> list[tf.Tensor]:
    """Returns what the gradient op of a norm does: dx and, if there, dgamma and dbeta.

    Args:
        kind: "group_norm", "layer_norm" or "rms_norm".
        inputs: The inputs of the gradient op, by name. The statistics among them are
            computed again, so that derivatives of the result go through them to `x`.
        attributes: The attributes of the gradient op, by name.
    """
    # tf.gradients needs sources that are ops of this graph, which inputs need not be.
    x = tf.identity(inputs["x"])
    parameters = {
        name: [tf.identity(value) for value in inputs[name]]
        for name in ("gamma", "beta")
        if name in inputs
    }
    sources = [x, *parameters.get("gamma", []), *parameters.get("beta", [])]
    seeds = [inputs[name] for name in ("dy", "dmean", "drstd") if name in inputs]

    def outputs() -> list[tf.Tensor]:
        y, _, *statistics = norms.BY_KIND[kind](
            x=x,
            residual=[],
            S=inputs["rstd"].dtype,
            **({"mask": inputs["mask"]} if "mask" in inputs else {}),
            **parameters,
            **attributes,
        )
        return [y, *statistics]

    dx, *parameter_gradients = differentiate(outputs, sources, seeds)
    return [tf.add_n([dx, *inputs["dsum"]]), *parameter_gradients]


def second_order(
    kind: str, inputs: dict[str, Any], attributes: dict[str, Any]
) -> list[tf.Tensor]:
    """Returns what the second-order op of a norm does, d_dy to d_drstd.

    Args:
        kind: "group_norm", "layer_norm" or "rms_norm".
        inputs: The inputs of the second-order op, by name. For the statistics, see
            `first_order`.
        attributes: The attributes of the second-order op, by name.
    """
    names = ("dy", "x", "gamma", "drstd")
    first = {name: tf.nest.map_structure(tf.identity, inputs[name]) for name in names}
    sources = [first["dy"], first["x"], *first["gamma"]]
    if kind != "rms_norm":
        # The results do not depend on the values of these two, so zeros will do.
        first["dmean"] = tf.zeros_like(inputs["mean"])
        first["beta"] = [tf.zeros_like(each) for each in inputs["ddbeta"]]
        sources.append(first["dmean"])
    sources.append(first["drstd"])
    seeds = [inputs["ddx"], *inputs["ddgamma"], *inputs.get("ddbeta", [])]

    def outputs() -> list[tf.Tensor]:
        given = {**first, "dsum": [], "rstd": inputs["rstd"]}
        dx, *of_parameters = first_order(kind, given, attributes)
        unused = 0 if inputs["ddgamma"] else len(first["gamma"])
        return [dx, *of_parameters[unused:]]

    return differentiate(outputs, sources, seeds, tf.UnconnectedGradients.ZERO)


def differentiate(
    function: Callable[[], list[tf.Tensor]],
    sources: list[tf.Tensor],
    seeds: list[tf.Tensor | None],
    unconnected: tf.UnconnectedGradients = tf.UnconnectedGradients.NONE,
) -> list[tf.Tensor | None]:
    """Returns the gradients of a function's results by `sources`, which it reads.

    Args:
        function: Computes the results from the sources.
        sources: Tensors of this graph, or eager ones.
        seeds: The gradient of each result; `None` where nothing depends on it.
        unconnected: Whether `None` or zeros are returned for a source that the results
            do not depend on.
    """

    def targets() -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        pairs = zip(function(), seeds, strict=True)
        kept = [(result, seed) for result, seed in pairs if seed is not None]
        return [result for result, _ in kept], [seed for _, seed in kept]

    if not tf.executing_eagerly():
        # A ForwardAccumulator traces the function that it differentiates, and meanwhile
        # tapes record nothing.
        results, given = targets()
        return tf.gradients(results, sources, given, unconnected_gradients=unconnected)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        results, given = targets()
    return tape.gradient(results, sources, given, unconnected)
