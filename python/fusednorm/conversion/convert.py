"""`fusednorm.convert` and `fusednorm.unconvert`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import activations, compare, internals, names, residuals
from fusednorm.conversion.patch import suspended
from fusednorm.conversion.report import Conversion, Row
from fusednorm.conversion.walk import Place, only_graph, places
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer


def convert(
    model: Layer,
    *,
    fuse: bool = False,
    inputs: Any = None,
    tolerance: float | None = None,
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

    Each layer is compared with the one before on random input, and left as it was
    where it would compute something else. So is the whole model, where its inputs are
    known; if its outputs differ, everything is put back. Functions that `fit` has
    traced are traced anew. A `tf.function` of your own keeps the layers it was traced
    with: make a new one.

    Args:
        model: A Keras model or layer, built.
        fuse: If `True`, norms also take over the `Activation`, `ReLU` or `LeakyReLU`
            layer after them, where the graph shows that nothing else takes their
            output. That layer stays, as `Activation("linear")`, which costs nothing.
        inputs: What to call the model on for the comparison, instead of random
            data. A model that is not built is built by it.
        tolerance: The largest difference allowed between outputs of the model,
            relative to the largest number in each. Defaults to half of the digits
            of the coarsest dtype: 1e-3 for float32.
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

    def rewrite(change: _Change) -> None:
        for place in places(model):
            change.to_ours(place)
        if fuse:
            for norm, follower in list(activations.followers(places(model))):
                change.fuse(norm, follower)
            for norm, add, holder in list(residuals.sums(places(model))):
                change.fold(norm, add, holder)

    return _rewritten("convert", model, rewrite, inputs, tolerance, verbose)


def unconvert(
    model: Layer,
    *,
    inputs: Any = None,
    tolerance: float | None = None,
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
        verbose: Whether to print the summary.

    Returns:
        `model`, with the summary in its attribute `fusednorm_conversion`.

    Raises:
        TypeError: if `model` is not a Keras layer.
        ValueError: if it is not built, and `inputs` is not given.
        RuntimeError: if its outputs change. Then it is as it was before.
    """

    def rewrite(change: _Change) -> None:
        for place in places(model):
            change.unfold(place)
        for norm, follower in list(activations.followers(places(model))):
            change.separate(norm, follower)
        for place in places(model):
            change.to_theirs(place)

    return _rewritten("unconvert", model, rewrite, inputs, tolerance, verbose)


def _rewritten(
    verb: str,
    model: Layer,
    rewrite: Callable[[_Change], None],
    inputs: Any,
    tolerance: float | None,
    verbose: bool,
) -> Layer:
    """Rewrites a model, or leaves it as it was if anything goes wrong."""
    _check(verb, model, inputs)
    before = compare.Outputs(model, inputs)
    change = _Change()
    try:
        rewrite(change)
        outputs, difference = before.compare(tolerance)
    except BaseException:
        change.undo()
        raise
    finally:
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
        model(inputs)
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built, so that there are no layers to "
            f"compare: call it on data first, or pass some as fusednorm.{verb}(model, "
            "inputs=...). Models that are still to be made get fused layers within "
            "fusednorm.patch_keras()."
        )


class _Change:
    """Rewrites layers, notes what became of them, and can take all of it back."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._changed: list[internals.Snapshot | residuals.Rewiring] = []

    def undo(self) -> None:
        """Makes all layers what they were."""
        while self._changed:
            self._changed.pop().restore()

    def to_ours(self, place: Place) -> None:
        """Replaces a layer by ours, if there is one for it."""
        cls = type(place.layer)
        if ours := names.replacement(cls):
            self._replace(place, ours, place.layer.get_config())
        elif (why := _why_left(place.layer)) is not None:
            self._leave(place, why)

    def to_theirs(self, place: Place) -> None:
        """Replaces a layer of ours by Keras's."""
        if not isinstance(place.layer, Normalization):
            return
        if residuals.has_residual(place.layer):
            self._leave(place, "is called with a residual")
            return
        try:
            found = names.original(place.layer)
        except ValueError as error:
            self._leave(place, error)
            return
        if found is None:
            self._leave(place, "Keras has no layer like it")
        else:
            with suspended():
                self._replace(place, *found)

    def fuse(self, norm: Place, follower: Place) -> None:
        """Moves an activation from the layer after a norm into it."""
        if norm.layer.activation is not None:
            return
        try:
            name = activations.name_of(follower.layer)
        except ValueError as error:
            self._leave(follower, error)
            return
        if name is None or name == "none":
            return
        if why := activations.obstacle(norm.layer, follower.layer):
            self._leave(follower, why)
            return
        why = f"{name} is in {norm.path}"
        row = Row(follower.path, _name(follower.layer), "Activation('linear')", why)
        self._move(norm, follower, name, "none", row)

    def separate(self, norm: Place, follower: Place) -> None:
        """Moves an activation from a norm into the linear layer after it."""
        name = norm.layer.activation
        if (
            name is not None
            and activations.can_take_back(name, follower.layer)
            and activations.obstacle(norm.layer, follower.layer) is None
        ):
            now = f"Activation({name!r})"
            row = Row(follower.path, _name(follower.layer), now)
            self._move(norm, follower, None, name, row)

    def fold(self, norm: Place, add: Place, model: Layer) -> None:
        """Moves the sum before a norm into it."""
        wired = residuals.Rewiring(model)
        row = Row(add.path, "Add", f"the residual of {norm.path}")
        self._rewire(wired, wired.fold, norm, add.layer, row)

    def unfold(self, norm: Place) -> None:
        """Makes an Add layer of the sum in a norm."""
        layer, model = norm.layer, only_graph(norm)
        if not isinstance(layer, Normalization) or not residuals.has_residual(layer):
            return
        if model is None or LEGACY or len(layer._inbound_nodes) > 1:
            return
        add = keras.layers.Add(name=f"{layer.name}_sum", dtype=layer.dtype_policy)
        wired = residuals.Rewiring(model)
        row = Row(norm.path, _name(layer), f"without residual, after Add {add.name!r}")
        self._rewire(wired, wired.unfold, norm, add, row)

    def _rewire(
        self,
        wired: residuals.Rewiring,
        step: Callable[[Layer, Layer], None],
        norm: Place,
        add: Layer,
        row: Row,
    ) -> None:
        """Changes a graph, if a norm with the residual is an Add and the norm."""
        x = compare.layer_input(norm.layer)
        total = add([x, -3 * x])
        apart = compare.outputs(lambda s: [norm.layer(s), s], total)
        joint = compare.outputs(lambda x: norm.layer(x, residual=-3 * x), x)
        gap = compare.difference(joint, apart)
        if not gap <= compare.layer_tolerance(norm.layer):
            why = f"its outputs would differ by {gap:.1e}"
            self.rows.append(Row(row.path, row.before, why=why))
            return
        self._changed.append(wired)
        step(norm.layer, add)
        self.rows.append(Row(row.path, row.before, row.after, difference=gap))

    def _move(
        self, norm: Place, follower: Place, inside: str | None, outside: str, row: Row
    ) -> None:
        """Gives a norm one activation and the layer after it another."""

        def become() -> None:
            norm.layer.activation = inside
            internals.become(
                follower.layer, activations.as_activation(follower.layer, outside)
            )

        self._try(
            [norm.layer, follower.layer],
            lambda x: follower.layer(norm.layer(x)),
            become,
            row,
        )

    def _replace(self, place: Place, cls: type, config: dict[str, Any]) -> None:
        layer = place.layer
        if not layer.built:
            self._leave(place, "it is not built, as if the model never called it")
            return
        try:
            twin = internals.twin(layer, cls, config)
        except (TypeError, ValueError) as error:
            self._leave(place, error)
            return
        row = Row(place.path, _name(layer), f"{_package(cls)}.{cls.__name__}")
        self._try([layer], layer, lambda: internals.become(layer, twin), row)

    def _try(
        self,
        layers: list[Layer],
        call: Callable[[Any], Any],
        become: Callable[[], None],
        row: Row,
    ) -> None:
        """Changes layers, and takes it back if they compute something else then."""
        x = compare.layer_input(layers[0])
        before = compare.outputs(call, x)
        snapshots = [internals.Snapshot.of(layer) for layer in layers]
        self._changed += snapshots
        become()
        try:
            gap = compare.difference(compare.outputs(call, x), before)
            why = f"its outputs would differ by {gap:.1e}"
        except Exception as error:  # Whatever a layer may raise that cannot do this.
            gap, why = float("inf"), _first_line(error)
        if gap <= compare.layer_tolerance(layers[0]):
            self.rows.append(
                Row(row.path, row.before, row.after, row.why, difference=gap)
            )
            return
        for snapshot in snapshots:
            snapshot.restore()
        self.rows.append(Row(row.path, row.before, why=why))

    def _leave(self, place: Place, why: object) -> None:
        self.rows.append(Row(place.path, _name(place.layer), why=_first_line(why)))


def _why_left(layer: Layer) -> str | None:
    """Returns why a layer is left that is a normalization and not ours."""
    if isinstance(layer, Normalization):
        return None
    for theirs in names.of_keras():
        if isinstance(layer, theirs):
            return f"a subclass of {theirs.__name__}, which may compute something else"
    if isinstance(layer, keras.layers.BatchNormalization):
        return "normalizes over the batch, as none of ours does"
    if "norm" in type(layer).__name__.lower() and not internals.sublayers(layer):
        return "not a class that one of ours replaces"
    return None


def _name(layer: Layer) -> str:
    """Returns the name of a layer's class that files have, too."""
    return keras.saving.get_registered_name(type(layer))


def _package(cls: type) -> str:
    return "fusednorm" if issubclass(cls, Normalization) else "keras"


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0]
