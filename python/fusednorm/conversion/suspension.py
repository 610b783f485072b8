"""Within it, a patch of Keras does nothing."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_suspended = contextvars.ContextVar("fusednorm.patch_keras.suspended", default=False)


def is_suspended() -> bool:
    """Tells whether patches do nothing now, in this thread."""
    return _suspended.get()


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Within it, Keras's layers and functions are Keras's, in this thread."""
    token = _suspended.set(True)
    try:
        yield
    finally:
        _suspended.reset(token)
