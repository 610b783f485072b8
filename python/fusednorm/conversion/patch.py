"""`fusednorm.patch_keras`: Keras's own names make our layers."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from fusednorm.conversion import names

_suspended = contextvars.ContextVar("fusednorm.patch_keras.suspended", default=False)
_lock = threading.Lock()
_active = 0


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


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Within it, Keras's layers are Keras's, in this thread."""
    token = _suspended.set(True)
    try:
        yield
    finally:
        _suspended.reset(token)


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


def _maker(theirs: type, ours: type) -> Any:
    def make(cls: type, *args: Any, **kwargs: Any) -> Any:
        if cls is theirs and not _suspended.get():
            with contextlib.suppress(TypeError, ValueError):
                layer = ours(*args, **(names.meant(ours) | kwargs))
                if names.means_the_same(layer):
                    return layer
        return super(theirs, cls).__new__(cls, *args, **kwargs)

    return make
