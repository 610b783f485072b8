"""`fusednorm.patch_keras`: Keras's own names make our layers and call our ops."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import functions, names, on_build
from fusednorm.conversion.suspension import is_suspended

_lock = threading.Lock()
_active = 0
# Keras's functions, each with ours, and what was there before.
_replaced: list[tuple[functions.Function, Callable[..., Any]]] = []
# What makes all of Keras's layers, as it was before.
_new_of_layer: list[Any] = []


class KerasPatch:
    """A patch of Keras that holds until it is undone; see `fusednorm.patch_keras`."""

    def __init__(self) -> None:
        self._done = False
        _count(+1)

    def undo(self) -> None:
        """Undoes the patch; again, it does nothing.

        With several patches, Keras is as it was when all of them are undone.
        """
        with _lock:
            done, self._done = self._done, True
        if not done:
            _count(-1)

    def __enter__(self) -> KerasPatch:
        """Returns the patch, which holds already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Undoes the patch."""
        self.undo()


def patch_keras() -> KerasPatch:
    """Makes Keras's normalization layers ours, where they are made from now on.

    `keras.layers.GroupNormalization`, `LayerNormalization` and `RMSNormalization`
    return fused layers when they are called: in your code, in that of others
    (`keras.applications`, KerasHub), also where it has imported the names before, and
    in `keras.models.load_model`. Subclasses of them stay what they are, and so do
    layers that exist already; for those there is `fusednorm.convert`. What our layers
    refuse, Keras's get to see.

    Layers of KerasHub's own classes, and of those of `fusednorm.register_conversion`,
    become ours when they are built; one that would compute something else then stays,
    with a warning. Files name their class, and give it back.

    `keras.ops.layer_normalization` and `keras.ops.rms_normalization` of Keras 3 compute
    with our ops, also where subclasses, layers that exist already and functional models
    call them: whatever runs or is traced within it. Keras's functions compute what ours
    do not take: integers, weights that broadcast, tensors of unknown rank, sparse and
    ragged ones. A function that was traced within it keeps our ops.

    It holds at once and for all threads of the process, until it is undone: at the end
    of a `with` block, or by `undo()`. Patches may overlap.

    The layers are ours like any other, and stay so when a model of them is cloned,
    copied, pickled, or saved and loaded, also where Keras is not patched. So files name
    our layers, and load after `import fusednorm`; `fusednorm.unconvert` before saving
    makes files that need no fusednorm.

    Returns:
        The patch: a context manager, with a method `undo`.

    Example:
    ```python
    with fusednorm.patch_keras():
        model = keras.models.load_model("old.keras")

    patch = fusednorm.patch_keras()
    model = keras.applications.ConvNeXtTiny(weights=None)
    patch.undo()
    ```
    """
    return KerasPatch()


def _count(step: int) -> None:
    """Counts the patches that hold; the first and the last one change Keras."""
    global _active
    with _lock:
        before, _active = _active, _active + step
        if bool(before) is bool(_active):
            return
        for theirs, ours in names.of_keras().items():
            # In `__new__`, because that is what all ways of making a layer go through,
            # whatever name the class was imported by.
            if _active:
                theirs.__new__ = staticmethod(_maker(theirs, ours))
            else:
                del theirs.__new__
        if _active:
            _replace_functions()
            _watch_new_layers()
        else:
            _put_functions_back()
            _watch_no_more()


def _replace_functions() -> None:
    for each in functions.of_keras():
        theirs = getattr(each.module, each.name)
        _replaced.append((each, theirs))
        setattr(each.module, each.name, _server(theirs, each.ours))


def _put_functions_back() -> None:
    while _replaced:
        each, theirs = _replaced.pop()
        setattr(each.module, each.name, theirs)


def _watch_new_layers() -> None:
    """Has layers of registered classes replaced when they are built; in Keras 3."""
    if LEGACY:
        return
    cls = keras.layers.Layer
    theirs = cls.__new__

    def make(cls: type, *args: Any, **kwargs: Any) -> Any:
        layer = theirs(cls, *args, **kwargs)
        if not is_suspended():
            on_build.replace_when_built(layer)
        return layer

    _new_of_layer.append(cls.__dict__["__new__"])
    cls.__new__ = staticmethod(make)


def _watch_no_more() -> None:
    while _new_of_layer:
        keras.layers.Layer.__new__ = _new_of_layer.pop()


def _server(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(theirs)
    def call(*args: Any, **kwargs: Any) -> Any:
        y = None if is_suspended() else ours(*args, **kwargs)
        return theirs(*args, **kwargs) if y is None else y

    return call


def _maker(theirs: type, ours: type) -> Any:
    def make(cls: type, *args: Any, **kwargs: Any) -> Any:
        if cls is theirs and not is_suspended():
            with contextlib.suppress(TypeError, ValueError):
                layer = ours(*args, **(names.meant(ours) | kwargs))
                if names.means_the_same(layer):
                    return layer
        return super(theirs, cls).__new__(cls, *args, **kwargs)

    return make
