"""`fusednorm.register_conversion`: which layers are replaced, and by what."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fusednorm._keras import keras
from fusednorm.conversion import hub, internals, names
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer


@dataclass(frozen=True)
class Rule:
    """How layers of one class are replaced.

    Attributes:
        to_fused: Makes a layer of ours, not built, that computes what a layer does.
        weights: Our names of weights, each with the layer's own, where they differ.
        tolerance: By how much outputs may differ, relative to their largest; `None` for
            the usual bound.
        known: Whether the class is Keras's own or has its configuration, so that
            `fusednorm.unconvert` makes Keras's layer of ours. Any other layer becomes
            again what it was.
    """

    to_fused: Callable[[Layer], Normalization]
    weights: Mapping[str, str] = field(default_factory=dict)
    tolerance: float | None = None
    known: bool = False


_registered: dict[str, Rule] = {}


def register_conversion(
    cls: type | str,
    to_fused: Callable[[Layer], Normalization],
    *,
    weights: Mapping[str, str] | None = None,
    tolerance: float | None = None,
) -> None:
    """Has `convert` and `patch_keras` replace a class of layers by ours.

    It is about layers of this class, not of its subclasses. Each one is compared with
    ours on random input before it is replaced, and left where they differ. What
    `fusednorm.unconvert` makes of it again is a layer of this class.

    KerasHub's normalization layers are registered already. To register a class again
    replaces what was said of it.

    Args:
        cls: The class, or its full name, `"package.module.Name"`, for a class whose
            module is not to be imported.
        to_fused: Called with a layer of the class, which may not be built yet; returns
            a new layer of ours, not built, that computes the same. May raise
            `ValueError` with the reason why there is none; then the layer is left.
            The name, and what is trainable, stay as they are. If the `dtype` is not
            that of the layer, the layer gets it too.
        weights: The attributes of ours that hold weights, such as `"scale"`, each with
            the attribute of the layer that holds it. Needed where they differ.
        tolerance: By how much outputs may differ, relative to their largest. Defaults
            to 64 roundings of the dtype that the layer computes in.

    Raises:
        TypeError: if an argument is of another type, or `cls` is no layer.

    Example:
    ```python
    class MyRMSNorm(keras.layers.Layer):
        ...  # x * rsqrt(mean(x**2) + self.eps) * self.weight

    fusednorm.register_conversion(
        MyRMSNorm,
        lambda layer: fusednorm.RMSNormalization(
            epsilon=layer.eps, dtype=layer.dtype_policy
        ),
        weights={"scale": "weight"},
    )
    ```
    """
    if not isinstance(cls, str) and not (
        isinstance(cls, type) and issubclass(cls, Layer)
    ):
        raise TypeError(
            "Argument `cls` must be a class of Keras layers, or its full name. "
            f"Received: cls={cls!r}"
        )
    if not callable(to_fused):
        raise TypeError(
            "Argument `to_fused` must be a function of a layer that returns one of "
            f"ours. Received: to_fused={to_fused!r}"
        )
    name = cls if isinstance(cls, str) else full_name(cls)
    _registered[name] = Rule(to_fused, dict(weights or {}), tolerance)


def full_name(cls: type) -> str:
    """Returns a class's module and name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def rule(cls: type) -> Rule | None:
    """Returns how layers of a class are replaced, if they are."""
    if issubclass(cls, Normalization):  # Also one in disguise.
        return None
    name = full_name(cls)
    if found := _registered.get(name):
        return found
    if ours := names.replacement(cls):
        return Rule(lambda layer: _of_configuration(ours, layer), known=True)
    if found := hub.RULES.get(name):
        return Rule(found.to_fused, found.weights)
    return None


def _of_configuration(ours: type, layer: Layer) -> Normalization:
    masks = {"pass_mask": layer.supports_masking}
    return ours.from_config(layer.get_config() | masks)


def built_twin(layer: Layer, rule: Rule) -> tuple[Layer, tuple[int | None, ...]]:
    """Returns a built layer of what a rule makes of a layer, with the shape it is for.

    Raises:
        ValueError: if the rule makes no layer that has the weights of `layer`.
        TypeError: if it makes something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What they warn of, the user has been told.
        twin = rule.to_fused(layer)
    if not isinstance(twin, Layer) or twin.built:
        raise TypeError(f"`to_fused` must return a layer that is not built, not {twin}")
    shape = _input_shape(layer, twin, rule)
    internals.build_as(twin, layer, rule.weights, shape)
    return twin, shape


def paired_weights(twin: Layer, layer: Layer, rule: Rule) -> list[tuple[Any, Any]]:
    """Returns each weight of a twin, with the layer's own that takes its place."""
    names = {id(value): name for name, value in vars(twin).items()}
    own = (names[id(weight)] for weight in twin.weights)
    theirs = (getattr(layer, rule.weights.get(name, name)) for name in own)
    return list(zip(twin.weights, theirs, strict=True))


def become(
    layer: Layer, twin: Layer, rule: Rule, shape: tuple[int | None, ...]
) -> None:
    """Makes a layer what a rule makes of it.

    Args:
        layer: The layer, built.
        twin: The built layer that the rule has made.
        rule: The rule.
        shape: The shape of what the layer takes.
    """
    if rule.known or not isinstance(twin, Normalization):
        internals.become(layer, twin)
        return
    origin = internals.Origin(internals.Snapshot.of(layer), shape)
    cls = internals.disguise(type(twin), type(layer))
    internals.become(layer, twin, rule.weights, cls)
    layer.origin = origin


def _input_shape(layer: Layer, twin: Layer, rule: Rule) -> tuple[int | None, ...]:
    """Returns the shape of what a layer takes.

    Where a class is not ours or Keras's, its weight tells how large the axis is: some
    are built for another shape than that which they are called on.
    """
    shape = list(internals.build_shape(layer))
    sizes = {size for weight in layer.weights for size in weight.shape}
    if (
        not rule.known
        and len(sizes) == 1
        and isinstance(twin, Normalization)
        and isinstance(twin.axis, int)
    ):
        (shape[twin.axis],) = sizes
    return tuple(shape)
