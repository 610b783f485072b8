"""The changes of single layers that a conversion is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from fusednorm._keras import keras
from fusednorm.conversion import (
    activations,
    internals,
    modulations,
    names,
    registry,
    residuals,
)
from fusednorm.conversion.report import Row, first_line
from fusednorm.conversion.suspension import suspended
from fusednorm.conversion.trial import Trial
from fusednorm.conversion.walk import Place
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
            class_name(type(follower.layer)),
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
                follower.path, class_name(type(follower.layer)), now, kind="activation"
            )
            self._move(norm, follower, None, name, row)

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
                Row(
                    place.path,
                    class_name(type(layer)),
                    f"{_package(cls)}.{cls.__name__}",
                ),
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
        row = Row(
            place.path, f"fusednorm>{type(layer).__base__.__name__}", class_name(cls)
        )
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
        name = class_name(type(place.layer))
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


def class_name(cls: type) -> str:
    """Returns the name of a class that files have, too."""
    return keras.saving.get_registered_name(cls)


def _package(cls: type) -> str:
    return "fusednorm" if issubclass(cls, Normalization) else "keras"
