"""`fusednorm.convert` and `fusednorm.unconvert`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import activations, internals, modulations, residuals
from fusednorm.conversion.compare import Outputs
from fusednorm.conversion.graph_change import GraphChange
from fusednorm.conversion.report import Conversion
from fusednorm.conversion.state import random_numbers_kept, variables_kept
from fusednorm.conversion.walk import places

Layer = keras.layers.Layer


def convert(
    model: Layer,
    *,
    fuse: bool = False,
    inputs: Any = None,
    tolerance: float | None = None,
    compare: bool = True,
    verbose: bool = True,
) -> Layer:
    """Replaces the normalization layers of a model by fused ones, in place.

    Replaces Keras's `GroupNormalization`, `LayerNormalization` and
    `RMSNormalization`, and what is registered as TensorFlow Addons'
    `GroupNormalization` and `InstanceNormalization`, wherever the model holds them:
    in Sequential, functional, nested and subclassed models, lists, dicts and wrappers.

    The layers stay the same objects, with the same variables, and change their class.
    So weights, names, what is trainable or shared, dtype policies, regularizers,
    constraints, `compile` and the optimizer's state are what they were.

    Each layer is compared with the one before on random input, with random weights, and
    left as it was where it would compute something else. So is the whole model, where
    its inputs are known and anything was replaced; if its outputs differ, everything is
    put back. Being called for that changes neither its variables nor the attributes of
    its layers. Functions that `fit` has traced are traced anew. A `tf.function` of your
    own keeps the layers it was traced with: make a new one.

    Args:
        model: A Keras model or layer, built.
        fuse: If `True`, norms also take over the `Activation`, `ReLU` or `LeakyReLU`
            layer after them, where the graph shows that nothing else takes their
            output. That layer stays, as `Activation("linear")`, which costs nothing.
            And the `Add` before them, which goes, unless the order of the weights in
            the model would be another one without it. LayerNormalization and
            RMSNormalization also take over a scale of each sample after them, and
            LayerNormalization an offset, as in adaptive layer norm.
        inputs: What to call the model on for the comparison, instead of random
            data. A model that is not built is built by it.
        tolerance: The largest difference allowed between outputs of the model,
            relative to the largest number in each. Defaults to half of the digits
            of the coarsest dtype: 1e-3 for float32.
        compare: Whether to compare the outputs of the model, which calls it three
            times. If `False`, only single layers are compared, on small inputs.
        verbose: Whether to print the summary.

    Returns:
        `model`. Its attribute `fusednorm_conversion` has the summary: what became of
        each normalization layer, and why others were left.

    Raises:
        TypeError: if `model` is not a Keras layer.
        ValueError: if it is not built, and `inputs` is not given.
        RuntimeError: if its outputs change. Then it is as it was before.

    Example:
    ```python
    model = fusednorm.convert(keras.applications.ConvNeXtTiny(weights=None))
    ```
    """

    def rewrite(change: GraphChange) -> None:
        for place in places(model):
            change.to_ours(place)
        if fuse:
            before = list(activations.followers(places(model)))
            for norm, follower in before:
                change.fuse(norm, follower)
            for graph, sums in residuals.sums(places(model)):
                change.fold(sums, graph)
            for graph, found in modulations.found(places(model)):
                change.modulate(found, graph)
            # Those after a scale and an offset that a norm has taken over.
            seen = [(norm.layer, follower.layer) for norm, follower in before]
            for norm, follower in list(activations.followers(places(model))):
                if (norm.layer, follower.layer) not in seen:
                    change.fuse(norm, follower)

    outputs = Outputs(model, inputs, compare)
    return _rewritten("convert", model, rewrite, outputs, inputs, tolerance, verbose)


def unconvert(
    model: Layer,
    *,
    inputs: Any = None,
    tolerance: float | None = None,
    compare: bool = True,
    verbose: bool = True,
) -> Layer:
    """Replaces the fused layers of a model by Keras's own, in place.

    The way back from `fusednorm.convert`, also for models that were built with our
    layers: `InstanceNormalization` becomes `GroupNormalization(groups=-1)`, an
    activation goes to the linear `Activation` layer after the norm. What Keras has no
    layer for is left, and the summary says why.

    Args:
        model: A Keras model or layer, built.
        inputs: As for `fusednorm.convert`.
        tolerance: As for `fusednorm.convert`.
        compare: As for `fusednorm.convert`.
        verbose: Whether to print the summary.

    Returns:
        `model`, with the summary in its attribute `fusednorm_conversion`.

    Raises:
        TypeError: if `model` is not a Keras layer.
        ValueError: if it is not built, and `inputs` is not given.
        RuntimeError: if its outputs change. Then it is as it was before.
    """

    def rewrite(change: GraphChange) -> None:
        for place in places(model):
            change.unfold(place)
        for norm, follower in list(activations.followers(places(model))):
            change.separate(norm, follower)
        for place in places(model):
            change.unmodulate(place)
        for place in places(model):
            change.to_theirs(place)

    outputs = Outputs(model, inputs, compare)
    return _rewritten("unconvert", model, rewrite, outputs, inputs, tolerance, verbose)


def _rewritten(
    verb: str,
    model: Layer,
    rewrite: Callable[[GraphChange], None],
    before: Outputs,
    inputs: Any,
    tolerance: float | None,
    verbose: bool,
) -> Layer:
    """Rewrites a model, or leaves it as it was if anything goes wrong."""
    _check(verb, model, inputs)
    change = GraphChange(before.take)
    try:
        with random_numbers_kept():
            rewrite(change)
            outputs, difference = before.compare(tolerance, change.off)
    except BaseException:
        change.undo()
        raise
    finally:
        if change.begun:
            internals.forget_traces(model)
    report = Conversion(
        f"fusednorm.{verb}({model.name})", tuple(change.rows), outputs, difference
    )
    model.fusednorm_conversion = report
    if verbose:
        print(report)
    return model


def _check(verb: str, model: Layer, inputs: Any) -> None:
    if not isinstance(model, Layer):
        hint = (
            "; fusednorm runs with Keras 3, set TF_USE_LEGACY_KERAS=1 for tf_keras"
            if not LEGACY and type(model).__module__.startswith("tf_keras")
            else ""
        )
        raise TypeError(
            f"Argument `model` must be a Keras model or layer. Received: {model!r} of "
            f"type {type(model).__name__}{hint}"
        )
    if not model.built and inputs is not None:
        with variables_kept(model):  # Those of layers that are built already.
            model(inputs)
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built, so that there are no layers to "
            f"compare: call it on data first, or pass some as fusednorm.{verb}(model, "
            "inputs=...). Models that are still to be made get fused layers within "
            "fusednorm.patch_keras()."
        )
