"""Docstrings as Keras writes them, so that the site's reference shows them as meant."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe


class KerasDocstrings(griffe.Extension):
    """Makes Markdown of the sections that Google's style does not have."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites a docstring once its object has been read."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """Returns a docstring as Markdown."""
    # Lines that begin with >>> would be quotations.
    text = re.sub(r"(?m)^>>>.*\n?(?:.+\n?)*", _fenced, text)
    text = re.sub(r"(?m)^(Example|Reference):$\n+", r"**\1**\n\n", text)
    text = re.sub(r"(?m)^(Input shape|Output shape): *(.*(?:\n +.*)*)", _shape, text)
    return re.sub(r"(?m)^Call arguments:\n((?: +.*\n?|\n(?= ))+)", _arguments, text)


def _fenced(match: re.Match[str]) -> str:
    return f"```python\n{match[0].rstrip()}\n```\n"


def _shape(match: re.Match[str]) -> str:
    return f"**{match[1]}:** {' '.join(match[2].split())}"


def _arguments(match: re.Match[str]) -> str:
    listed = re.sub(r"(?m)^(\w+):", r"- **`\1`** &ndash;", textwrap.dedent(match[1]))
    return f"**Call arguments:**\n\n{listed}"
