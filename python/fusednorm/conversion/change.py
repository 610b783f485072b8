"""The changes of single layers that a conversion is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import activations, compare, internals, names, residuals
from fusednorm.conversion.patch import suspended
from fusednorm.conversion.report import Row, first_line
from fusednorm.conversion.walk import Place, only_graph
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer


class Change:
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
            masks = {"pass_mask": place.layer.supports_masking}
            self._replace(place, ours, place.layer.get_config() | masks)
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
        snapshots = [internals.Snapshot.of(layer) for layer in layers]
        try:
            x = compare.layer_input(layers[0])
            before = compare.outputs(call, x)
            self._changed += snapshots
            become()
            gap = compare.difference(compare.outputs(call, x), before)
            why = f"its outputs would differ by {gap:.1e}"
        except Exception as error:  # Whatever a layer may raise that cannot do this.
            gap, why = float("inf"), first_line(error)
        if gap <= compare.layer_tolerance(layers[0]):
            self.rows.append(
                Row(row.path, row.before, row.after, row.why, difference=gap)
            )
            return
        for snapshot in snapshots:
            snapshot.restore()
        self.rows.append(Row(row.path, row.before, why=why))

    def _leave(self, place: Place, why: object) -> None:
        self.rows.append(Row(place.path, _name(place.layer), why=first_line(why)))


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
