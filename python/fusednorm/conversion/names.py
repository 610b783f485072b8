"""Which class is replaced by which."""

from __future__ import annotations

import functools
from typing import Any

from fusednorm import layers
from fusednorm._keras import LEGACY, keras

_OF_KERAS = ("GroupNormalization", "LayerNormalization", "RMSNormalization")
_OF_ADDONS = ("GroupNormalization", "InstanceNormalization")


def custom_objects() -> dict[str, type]:
    """Returns our layers under the names that saved files have for other ones.

    These are the names of TensorFlow Addons, whose layers Keras does not know. Files
    with the names of Keras's own layers need nothing; within `fusednorm.patch_keras`
    they load with ours.

    Example:
    ```python
    model = keras.models.load_model("old.h5", fusednorm.custom_objects())
    ```
    """
    names = (*_OF_ADDONS, "FilterResponseNormalization")
    return {f"Addons>{name}": getattr(layers, name) for name in names}


@functools.lru_cache(maxsize=1)
def of_keras() -> dict[type, type]:
    """Returns Keras's classes, each with ours that replaces it."""
    return {
        getattr(keras.layers, name): getattr(layers, name)
        for name in _OF_KERAS
        if hasattr(keras.layers, name)  # tf_keras has no RMSNormalization.
    }


def meant(ours: type) -> dict[str, Any]:
    """Returns our arguments as they are where Keras's layer, without them, is meant."""
    if ours is layers.GroupNormalization:
        return {"use_mask": LEGACY}
    # tf_keras has no RMSNormalization, and so nothing that could be meant.
    return {"pass_mask": LEGACY} if ours is layers.RMSNormalization else {}


def means_the_same(layer: keras.layers.Layer) -> bool:
    """Tells whether Keras's layer, made with the axes of ours, has the same weights.

    Those of ours are in the order of the input's axes. Keras's LayerNormalization has
    them in that of the numbers in `axis`, where -1 comes before 1 (in tf_keras, as they
    are given), and Keras multiplies by those of RMSNormalization along the last axes,
    whatever `axis` says. Where it depends on the rank, which is not known before a
    call, the answer is no.
    """
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if isinstance(layer, layers.RMSNormalization):
        return axes == list(range(-len(axes), 0))
    return axes == sorted(axes) and (axes[0] < 0) is (axes[-1] < 0)


def replacement(cls: type) -> type | None:
    """Returns the class of ours that replaces a class of layers, if one does.

    A class counts by what it is registered as, so that a copy of Addons' layers in the
    user's own code does too.
    """
    package, _, name = keras.saving.get_registered_name(cls).rpartition(">")
    named = name if package == "Addons" and name in _OF_ADDONS else None
    return of_keras().get(cls, named and getattr(layers, named))


def original(layer: keras.layers.Layer) -> tuple[type, dict[str, Any]] | None:
    """Returns Keras's class and configuration for a layer of ours.

    Raises:
        ValueError: if Keras has no layer that computes the same.
    """
    cls = type(layer)
    config = layer.get_config()
    if cls is layers.RMSNormalization and not layer.with_scale:
        raise ValueError("Keras's layer cannot do without a scale")
    if cls is layers.InstanceNormalization:
        cls, config["groups"] = layers.GroupNormalization, -1
    for theirs, ours in of_keras().items():
        if cls is ours:
            return theirs, _in_terms_of(theirs, config)
    if cls is layers.RMSNormalization:
        raise ValueError("this Keras has no RMSNormalization")
    return None


def why_not_for_masks(layer: keras.layers.Layer, theirs: type) -> str | None:
    """Returns what Keras's class does with a mask that a layer of ours does not do."""
    passes = _plain(theirs).supports_masking
    if passes is not layer.supports_masking:
        return (
            f"Keras's layer {'passes on' if passes else 'ends'} the mask that it gets"
        )
    if getattr(layer, "use_mask", LEGACY) is not LEGACY:
        does = "leaves out masked positions" if LEGACY else "counts masked positions"
        return f"Keras's layer {does} in its statistics"
    return None


def _in_terms_of(theirs: type, config: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration without what only our layers have.

    Raises:
        ValueError: if it says anything that Keras's layer cannot compute.
    """
    known = arguments(theirs)
    for name, value in config.items():
        # Keras's layers are portable; the other two are about masks.
        if (
            name not in known
            and value not in (None, False)
            and name not in ("portable", "use_mask", "pass_mask")
        ):
            raise ValueError(f"Keras's layer has no {name}={value!r}")
    return {name: value for name, value in config.items() if name in known}


@functools.cache
def arguments(theirs: type) -> frozenset[str]:
    """Returns the names in the configuration of a layer of Keras's."""
    # A configuration has the activity regularizer, which every layer takes, only where
    # there is one.
    return frozenset((*_plain(theirs).get_config(), "activity_regularizer"))


def _plain(theirs: type) -> keras.layers.Layer:
    """Returns a layer of Keras's by default, made outside of graphs and patches."""
    # Of a subclass, which `patch_keras` leaves alone.
    return type(theirs.__name__, (theirs,), {})()
