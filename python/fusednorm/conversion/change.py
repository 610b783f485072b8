"""The changes of single layers that a conversion is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import (
    activations,
    compare,
    internals,
    modulations,
    names,
    registry,
    residuals,
)
from fusednorm.conversion.report import Row, first_line
from fusednorm.conversion.suspension import suspended
from fusednorm.conversion.trial import Trial
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
        # By how much a layer of Keras's is off from float64, as far as that was seen.
        self.off = 0.0
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
        layer = place.layer
        if (rule := registry.rule(type(layer))) is not None:
            if integers := _integers(layer):
                self._leave(place, f"is called with {integers}, which ours refuses")
            else:
                self._replace(place, rule)
        elif (why := _why_left(layer)) is not None:
            self._leave(place, why)

    def to_theirs(self, place: Place) -> None:
        """Replaces a layer of ours by Keras's."""
        layer = place.layer
        if not isinstance(layer, Normalization):
            return
        if residuals.has_residual(layer):
            self._leave(place, "is called with a residual")
            return
        if modulations.is_modulated(layer):
            self._leave(place, "is called with a scale or an offset")
            return
        if layer.origin is not None:
            self._give_back(place)
            return
        try:
            found = names.original(layer)
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
            cls, config = found
            with suspended():
                self._replace(place, registry.Rule(lambda _: cls.from_config(config)))

    def fuse(self, norm: Place, follower: Place) -> None:
        """Moves an activation from the layer after a norm into it."""
        if norm.layer.activation is not None:
            return
        try:
            name = activations.name_of(follower.layer)
        except ValueError as error:
            self._leave(follower, error, kind="activation")
            return
        if name is None or name == "none":
            return
        if why := activations.obstacle(norm.layer, follower.layer):
            self._leave(follower, why, kind="activation")
            return
        why = f"{name} is in {norm.path}"
        row = Row(
            follower.path,
            _name(type(follower.layer)),
            "Activation('linear')",
            why,
            kind="activation",
        )
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
            row = Row(
                follower.path, _name(type(follower.layer)), now, kind="activation"
            )
            self._move(norm, follower, None, name, row)

    def fold(self, sums: list[tuple[Place, Place]], model: Layer) -> None:
        """Moves sums before norms of one graph into them, one norm for each.

        A norm that gives a sum comes before all that takes it, which may change the
        order of the layers, and which weights a file or a clone gives to which. Such
        sums stay. All at once may keep an order that one of them alone does not.
        """
        folds = [
            (add, [functools.partial(self._fold, norm, add, model)])
            for norm, add in sums
        ]
        self._all_or_each(folds, model)

    def modulate(self, found: list[modulations.Modulation], model: Layer) -> None:
        """Has norms of one graph take over the scales and offsets after them.

        As in `fold`, what would change the order of weights stays: the offset, or both.
        """
        steps = [
            (
                each.norm,
                [
                    functools.partial(self._modulate, some, model)
                    for some in (each, each.without_offset())
                ],
            )
            for each in found
        ]
        self._all_or_each(steps, model)

    def _all_or_each(
        self, steps: list[tuple[Place, list[Callable[[], None]]]], model: Layer
    ) -> None:
        """Changes a graph as far as its layers with variables stay in order.

        Args:
            steps: For every layer the changes to try, best first, of which one is made.
            model: The model of the graph.
        """
        order, changes, rows = _weighted(model), len(self._changed), list(self.rows)
        for _, (best, *_) in steps:
            best()
        if _weighted(model) == order:
            return
        self.undo(changes)
        self.rows = rows
        for place, alternatives in steps:
            changes, rows = len(self._changed), list(self.rows)
            for step in alternatives:
                self.rows = list(rows)
                with self._in_order(model, place, "modulation"):
                    step()
                if len(self._changed) > changes:
                    break

    def _modulate(self, found: modulations.Modulation, model: Layer) -> None:
        """Has a norm take over the scale and the offset after it."""
        norm, wired = found.norm, internals.Rewiring(model)
        names = [internals.operation(each).name for each in found.steps]
        now = f"with gamma of {names[0]!r}" + "".join(
            f" and beta of {name!r}" for name in names[1:]
        )
        self._rewire_if_same(
            wired,
            lambda: wired.take_over(
                norm.layer, found.steps, found.tensors | found.options
            ),
            found.apart,
            found.joint,
            found.tensors,
            [norm.layer, *found.layers],
            Row(norm.path, _name(type(norm.layer)), now, kind="modulation"),
        )

    def unmodulate(self, norm: Place) -> None:
        """Makes layers of the scale and the offset that a norm is called with."""
        layer, model = norm.layer, only_graph(norm)
        if not isinstance(layer, Normalization) or not modulations.is_modulated(layer):
            return
        if model is None or LEGACY or not internals.is_called_once(layer):
            return
        if layer.activation is not None:
            return
        new, tensors = modulations.as_layers(layer)
        gamma, beta = (tensors.get(name) for name in ("gamma", "beta"))
        options = {"zero_centered": True} if len(new) > len(tensors) else {}

        def apart(x: Any, given: dict[str, Any]) -> Any:
            y = layer(x)
            return internals.applied(new, y, given.get("gamma"), given.get("beta"))

        wired = internals.Rewiring(model)
        names = ", ".join(f"{type(each).__name__} {each.name!r}" for each in new)
        now = f"without gamma and beta, before {names}"
        with self._in_order(model, norm, "modulation"):
            self._rewire_if_same(
                wired,
                lambda: wired.give_back(layer, gamma, beta, new),
                apart,
                lambda x, given: layer(x, **given, **options),
                tensors,
                [layer, *new],
                Row(norm.path, _name(type(layer)), now, kind="modulation"),
            )

    def _rewire_if_same(
        self,
        wired: internals.Rewiring,
        step: Callable[[], None],
        apart: Callable[[Any, dict[str, Any]], Any],
        joint: Callable[[Any, dict[str, Any]], Any],
        tensors: dict[str, Any],
        layers: list[Layer],
        row: Row,
    ) -> None:
        """Changes a graph, if both ways of computing it give the same.

        Args:
            wired: The change.
            step: Makes it.
            apart: Computes it as a norm and what is after it, from random input of the
                norm and for `tensors`.
            joint: Computes it as the norm alone.
            tensors: Symbolic tensors that the norm takes, by name.
            layers: The norm, and all others that are called.
            row: What to note.
        """
        changes = len(self._changed)
        try:
            x = compare.layer_input(layers[0])
            given = compare.like(tensors, x)
            wanted = compare.outputs(lambda x: apart(x, given), x, *layers)
            got = compare.outputs(lambda x: joint(x, given), x, *layers)
            gap = compare.difference(got, wanted)
            why = f"its outputs would differ by {gap:.1e}"
            if gap <= compare.layer_tolerance(layers[0].compute_dtype):
                self._begin()
                self._changed.append(wired)
                step()
                self.rows.append(replace(row, difference=gap))
                return
        except Exception as error:  # Whatever layers may raise that do not do this.
            self.undo(changes)
            why = first_line(error)
        self.rows.append(replace(row, after=None, why=why))

    def _fold(self, norm: Place, add: Place, model: Layer) -> None:
        """Moves the sum before a norm into it, unless another norm has taken it."""
        if not any(each is add.layer for each in model.layers):
            return
        # Of an attempt with another norm.
        self.rows = [row for row in self.rows if row.path != add.path]
        row = Row(add.path, "Add", f"the residual of {norm.path}", kind="sum")
        wired = internals.Rewiring(model)
        self._rewire(wired, wired.fold, norm, add.layer, row)

    @contextmanager
    def _in_order(self, model: Layer, place: Place, kind: str) -> Iterator[None]:
        """Takes back what is done within it, if it changes the order of weights."""
        order, changes, rows = _weighted(model), len(self._changed), list(self.rows)
        yield
        if _weighted(model) != order:
            self.undo(changes)
            # Once, also where two norms have tried to take one sum.
            self.rows = [row for row in rows if row.path != place.path or row.after]
            why = "the model's weights would be in another order"
            self._leave(place, why, kind)

    def unfold(self, norm: Place) -> None:
        """Makes an Add layer of the sum in a norm."""
        layer, model = norm.layer, only_graph(norm)
        if not isinstance(layer, Normalization) or not residuals.has_residual(layer):
            return
        if model is None or LEGACY or not internals.is_called_once(layer):
            return
        add = keras.layers.Add(name=f"{layer.name}_sum", dtype=layer.dtype_policy)
        wired = internals.Rewiring(model)
        now = f"without residual, after Add {add.name!r}"
        row = Row(norm.path, _name(type(layer)), now, kind="sum")
        with self._in_order(model, norm, "sum"):
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
        if not gap <= compare.layer_tolerance(norm.layer.compute_dtype):
            why = f"its outputs would differ by {gap:.1e}"
            self.rows.append(replace(row, after=None, why=why))
            return
        self._begin()
        self._changed.append(wired)
        step(norm.layer, add)
        self.rows.append(replace(row, difference=gap))

    def _move(
        self, norm: Place, follower: Place, inside: str | None, outside: str, row: Row
    ) -> None:
        """Gives a norm one activation and the layer after it another."""

        def become() -> None:
            norm.layer.activation = inside
            internals.become(
                follower.layer, activations.as_activation(follower.layer, outside)
            )

        layers = [norm.layer, follower.layer]
        self._try(Trial(row, layers, lambda x: layers[1](layers[0](x)), become))

    def _replace(self, place: Place, rule: registry.Rule) -> None:
        """Replaces a layer by what a rule makes of it."""
        layer = place.layer
        if not layer.built:
            self._leave(place, "it is not built, as if the model never called it")
            return
        try:
            twin, shape = registry.built_twin(layer, rule)
            if rule.known:
                with suspended():
                    twin.on_integers = internals.copy_of(layer).__call__
        except Exception as error:  # Whatever another class and its rule may raise.
            self._leave(place, error)
            return

        cls = type(twin)
        self._try(
            Trial(
                Row(place.path, _name(type(layer)), f"{_package(cls)}.{cls.__name__}"),
                [layer],
                layer,
                functools.partial(registry.become, layer, twin, rule, shape),
                shape,
                rule.tolerance,
                of_keras=next(filter(_is_of_keras, (layer, twin)), None),
            )
        )

    def _give_back(self, place: Place) -> None:
        """Makes a layer of ours what it was before a rule replaced it."""
        layer = place.layer
        cls = layer.origin.snapshot.cls
        row = Row(place.path, f"fusednorm>{type(layer).__base__.__name__}", _name(cls))
        become = functools.partial(layer.origin.become, layer)
        self._try(Trial(row, [layer], layer, become))

    def _try(self, trial: Trial) -> None:
        """Changes layers, and takes it back if they compute something else then."""
        snapshots = [internals.Snapshot.of(layer) for layer in trial.layers]
        try:
            trial.take()
        except Exception as error:  # Whatever a layer may raise that cannot do this.
            self.rows.append(replace(trial.row, after=None, why=first_line(error)))
            return
        self._begin()
        self._changed += snapshots
        row = trial.changed()
        self.off = max(self.off, trial.off)
        if row.after is None:
            self.undo(len(self._changed) - len(snapshots))
        self.rows.append(row)

    def _leave(self, place: Place, why: object, kind: str = "norm") -> None:
        name = _name(type(place.layer))
        self.rows.append(Row(place.path, name, why=first_line(why), kind=kind))


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


def _is_of_keras(layer: Layer) -> bool:
    return type(layer) in names.of_keras()


def _integers(layer: Layer) -> str | None:
    """Returns the dtype of what a layer is called with in graphs, if not floats."""
    dtypes = internals.input_dtypes(layer)
    return next((each for each in sorted(dtypes) if "float" not in each), None)


def _weighted(model: Layer) -> list[int]:
    """Returns the ids of a graph's layers that have variables, in their order."""
    return [id(each) for each in model.layers if each.variables]


def _name(cls: type) -> str:
    """Returns the name of a class that files have, too."""
    return keras.saving.get_registered_name(cls)


def _package(cls: type) -> str:
    return "fusednorm" if issubclass(cls, Normalization) else "keras"
