"""Changes of the graph of a model around norms that a conversion is made of.

They are made in place, with Keras's private nodes (`internals.Rewiring`). The public
way, `keras.models.clone_model` with a `call_function`, makes another model: its
optimizer starts over, models and callbacks that hold the first model do not know it,
and the layers it keeps are called a second time, so that no norm has one call to fold
into any more. A conversion changes the model that the user has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import compare, internals, modulations, residuals
from fusednorm.conversion.change import Change, class_name
from fusednorm.conversion.report import Row, first_line
from fusednorm.conversion.walk import Place, only_graph
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer


class GraphChange(Change):
    """Also moves sums, scales and offsets between norms and the graph around them."""

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
        self._all_or_each(folds, model, "sum")

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
        self._all_or_each(steps, model, "modulation")

    def unfold(self, norm: Place) -> None:
        """Makes an Add layer of the sum in a norm."""
        layer, model = norm.layer, _only_call(norm)
        if model is None or not residuals.has_residual(layer):
            return
        add = keras.layers.Add(name=f"{layer.name}_sum", dtype=layer.dtype_policy)
        wired = internals.Rewiring(model)
        now = f"without residual, after Add {add.name!r}"
        row = Row(norm.path, class_name(type(layer)), now, kind="sum")
        with self._in_order(model, norm, "sum"):
            step = functools.partial(wired.unfold, layer, add)
            self._rewire_sum(wired, step, layer, add, row)

    def unmodulate(self, norm: Place) -> None:
        """Makes layers of the scale and the offset that a norm is called with."""
        layer, model = norm.layer, _only_call(norm)
        if model is None or not modulations.is_modulated(layer):
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
            self._rewire(
                wired,
                lambda: wired.give_back(layer, gamma, beta, new),
                apart,
                lambda x, given: layer(x, **given, **options),
                tensors,
                [layer, *new],
                Row(norm.path, class_name(type(layer)), now, kind="modulation"),
            )

    def _all_or_each(
        self,
        steps: list[tuple[Place, list[Callable[[], None]]]],
        model: Layer,
        kind: str,
    ) -> None:
        """Changes a graph as far as its layers with variables stay in order.

        Args:
            steps: For every layer the changes to try, best first, of which one is made.
            model: The model of the graph.
            kind: What is moved.
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
                with self._in_order(model, place, kind):
                    step()
                if len(self._changed) > changes:
                    break

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

    def _fold(self, norm: Place, add: Place, model: Layer) -> None:
        """Moves the sum before a norm into it, unless another norm has taken it."""
        if not any(each is add.layer for each in model.layers):
            return
        # Of an attempt with another norm.
        self.rows = [row for row in self.rows if row.path != add.path]
        row = Row(add.path, "Add", f"the residual of {norm.path}", kind="sum")
        wired = internals.Rewiring(model)
        step = functools.partial(wired.fold, norm.layer, add.layer)
        self._rewire_sum(wired, step, norm.layer, add.layer, row)

    def _modulate(self, found: modulations.Modulation, model: Layer) -> None:
        """Has a norm take over the scale and the offset after it."""
        norm, wired = found.norm, internals.Rewiring(model)
        names = [internals.operation(each).name for each in found.steps]
        now = f"with gamma of {names[0]!r}" + "".join(
            f" and beta of {name!r}" for name in names[1:]
        )
        self._rewire(
            wired,
            lambda: wired.take_over(
                norm.layer, found.steps, found.tensors | found.options
            ),
            found.apart,
            found.joint,
            found.tensors,
            [norm.layer, *found.layers],
            Row(norm.path, class_name(type(norm.layer)), now, kind="modulation"),
        )

    def _rewire_sum(
        self,
        wired: internals.Rewiring,
        step: Callable[[], None],
        norm: Layer,
        add: Layer,
        row: Row,
    ) -> None:
        """Changes a graph, if a norm with the residual is an Add and the norm."""

        def apart(x: Any, _: dict[str, Any]) -> list[Any]:
            total = add([x, -3 * x])
            return [norm(total), total]

        def joint(x: Any, _: dict[str, Any]) -> list[Any]:
            return norm(x, residual=-3 * x)

        self._rewire(wired, step, apart, joint, {}, [norm, add], row)

    def _rewire(
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
            why = compare.described(gap, got, wanted)
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


def _only_call(place: Place) -> Layer | None:
    """Returns the model with the only call of a norm of ours; in Keras 3."""
    norm = place.layer
    if LEGACY or not isinstance(norm, Normalization):
        return None
    return only_graph(place) if internals.is_called_once(norm) else None


def _weighted(model: Layer) -> list[int]:
    """Returns the ids of a graph's layers that have variables, in their order."""
    return [id(each) for each in model.layers if each.variables]
