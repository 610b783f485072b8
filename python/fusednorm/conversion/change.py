"""The changes of single layers that a conversion is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import activations, compare, internals, names, residuals
from fusednorm.conversion.patch import suspended
from fusednorm.conversion.report import Row, first_line
from fusednorm.conversion.walk import Place, only_graph
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer


class Change:
    """Rewrites layers, notes what became of them, and can take all of it back.

    Args:
        at_first: What to do before the first change.
    """

    def __init__(self, at_first: Callable[[], None]) -> None:
        self.rows: list[Row] = []
        self.begun = False
        self._at_first = at_first
        self._changed: list[internals.Snapshot | internals.Rewiring] = []

    def undo(self, keep: int = 0) -> None:
        """Makes all layers what they were, but for the first so many changes."""
        while len(self._changed) > keep:
            self._changed.pop().restore()

    def _begin(self) -> None:
        """Says that a change is about to be made."""
        if not self.begun:
            self.begun = True
            self._at_first()

    def to_ours(self, place: Place) -> None:
        """Replaces a layer by ours, if there is one for it."""
        cls = type(place.layer)
        if ours := names.replacement(cls):
            masks = {"pass_mask": place.layer.supports_masking}
            if integers := _integers(place.layer):
                self._leave(place, f"is called with {integers}, which ours refuses")
            else:
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
        elif internals.gets_mask(place.layer) and (
            why := names.why_not_for_masks(place.layer, found[0])
        ):
            self._leave(place, why)
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

    def fold(self, sums: list[tuple[Place, Place]], model: Layer) -> None:
        """Moves sums before norms of one graph into them, one norm for each.

        A norm that gives a sum comes before all that takes it, which may change the
        order of the layers, and which weights a file or a clone gives to which. Such
        sums stay. All at once may keep an order that one of them alone does not.
        """
        order, changes, rows = _weighted(model), len(self._changed), list(self.rows)
        for norm, add in sums:
            self._fold(norm, add, model)
        if _weighted(model) == order:
            return
        self.undo(changes)
        self.rows = rows
        for norm, add in sums:
            with self._in_order(model, add):
                self._fold(norm, add, model)

    def _fold(self, norm: Place, add: Place, model: Layer) -> None:
        """Moves the sum before a norm into it, unless another norm has taken it."""
        if not any(each is add.layer for each in model.layers):
            return
        # Of an attempt with another norm.
        self.rows = [row for row in self.rows if row.path != add.path]
        row = Row(add.path, "Add", f"the residual of {norm.path}")
        wired = internals.Rewiring(model)
        self._rewire(wired, wired.fold, norm, add.layer, row)

    @contextmanager
    def _in_order(self, model: Layer, place: Place) -> Iterator[None]:
        """Takes back what is done within it, if it changes the order of weights."""
        order, changes, rows = _weighted(model), len(self._changed), list(self.rows)
        yield
        if _weighted(model) != order:
            self.undo(changes)
            # Once, also where two norms have tried to take one sum.
            self.rows = [row for row in rows if row.path != place.path or row.after]
            self._leave(place, "the model's weights would be in another order")

    def unfold(self, norm: Place) -> None:
        """Makes an Add layer of the sum in a norm."""
        layer, model = norm.layer, only_graph(norm)
        if not isinstance(layer, Normalization) or not residuals.has_residual(layer):
            return
        if model is None or LEGACY or not internals.is_called_once(layer):
            return
        add = keras.layers.Add(name=f"{layer.name}_sum", dtype=layer.dtype_policy)
        wired = internals.Rewiring(model)
        row = Row(norm.path, _name(layer), f"without residual, after Add {add.name!r}")
        with self._in_order(model, norm):
            self._rewire(wired, wired.unfold, norm, add, row)

    def _rewire(
        self,
        wired: internals.Rewiring,
        step: Callable[[Layer, Layer], None],
        norm: Place,
        add: Layer,
        row: Row,
    ) -> None:
        """Changes a graph, if a norm with the residual is an Add and the norm."""
        x = compare.layer_input(norm.layer)

        def of_sum(x: Any) -> list[Any]:
            total = add([x, -3 * x])
            return [norm.layer(total), total]

        apart = compare.outputs(of_sum, x, norm.layer, add)
        joint = compare.outputs(lambda x: norm.layer(x, residual=-3 * x), x, norm.layer)
        gap = compare.difference(joint, apart)
        if not gap <= compare.layer_tolerance(norm.layer):
            why = f"its outputs would differ by {gap:.1e}"
            self.rows.append(Row(row.path, row.before, why=why))
            return
        self._begin()
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
            if not isinstance(layer, Normalization):
                with suspended():
                    twin.on_integers = internals.copy_of(layer).__call__
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

        def outputs() -> list[Any]:
            with compare.other_weights(layers[0]):
                return compare.outputs(call, x, *layers)

        try:
            x = compare.layer_input(layers[0])
            before = outputs()
        except Exception as error:  # Whatever a layer may raise that cannot do this.
            self.rows.append(Row(row.path, row.before, why=first_line(error)))
            return
        self._begin()
        try:
            self._changed += snapshots
            become()
            gap = compare.difference(outputs(), before)
            why = f"its outputs would differ by {gap:.1e}"
        except Exception as error:
            gap, why = float("inf"), first_line(error)
        if gap <= compare.layer_tolerance(layers[0]):
            self.rows.append(
                Row(row.path, row.before, row.after, row.why, difference=gap)
            )
            return
        self.undo(len(self._changed) - len(snapshots))
        self.rows.append(Row(row.path, row.before, why=why))

    def _leave(self, place: Place, why: object) -> None:
        self.rows.append(Row(place.path, _name(place.layer), why=first_line(why)))


def _why_left(layer: Layer) -> str | None:
    """Returns why a layer is left that is a normalization and not ours."""
    if isinstance(layer, Normalization):
        return None
    if isinstance(layer, keras.layers.Normalization):
        return None  # Which scales features by numbers that it is given.
    for theirs in names.of_keras():
        if isinstance(layer, theirs):
            return f"a subclass of {theirs.__name__}, which may compute something else"
    if isinstance(layer, keras.layers.BatchNormalization):
        return "normalizes over the batch, as none of ours does"
    if "norm" in type(layer).__name__.lower() and not internals.sublayers(layer):
        return "not a class that one of ours replaces"
    return None


def _integers(layer: Layer) -> str | None:
    """Returns the dtype of what a layer is called with in graphs, if not floats."""
    dtypes = internals.input_dtypes(layer)
    return next((each for each in sorted(dtypes) if "float" not in each), None)


def _weighted(model: Layer) -> list[int]:
    """Returns the ids of a graph's layers that have variables, in their order."""
    return [id(each) for each in model.layers if each.variables]


def _name(layer: Layer) -> str:
    """Returns the name of a layer's class that files have, too."""
    return keras.saving.get_registered_name(type(layer))


def _package(cls: type) -> str:
    return "fusednorm" if issubclass(cls, Normalization) else "keras"
