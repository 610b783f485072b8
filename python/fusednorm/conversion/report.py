"""What a conversion did, as data and as a table."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What became of one layer.

    Attributes:
        path: The layer's path in the model.
        before: The name of its class before.
        after: The name of its class afterwards, or `None` where it was left.
        why: Why it was left, or what else there is to say.
        difference: The largest difference of its outputs from those before, on random
            input and relative to the largest of them.
        kind: What it is: a "norm", an "activation", a "sum", or a "modulation": a scale
            and an offset after a norm.
    """

    path: str
    before: str
    after: str | None = None
    why: str = ""
    difference: float | None = None
    kind: str = "norm"

    @property
    def result(self) -> str:
        """What the table says of it."""
        if self.after is None:
            return f"left: {self.why}"
        text = ", ".join(filter(None, (self.after, self.why)))
        return text if self.difference is None else f"{text} ({self.difference:.1e})"


@dataclass(frozen=True)
class Conversion:
    """What `fusednorm.convert` or `fusednorm.unconvert` did; prints as a table.

    Attributes:
        call: The call, for the heading.
        rows: What became of each normalization layer, and of activations with `fuse`.
        outputs: How the model's outputs were compared, and with what result.
        difference: Their largest difference, relative to the largest of each output;
            `None` where they were not compared.
    """

    call: str
    rows: tuple[Row, ...]
    outputs: str
    difference: float | None

    @property
    def replaced(self) -> tuple[Row, ...]:
        """The layers that are of another class now, or do more."""
        return tuple(row for row in self.rows if row.after is not None)

    @property
    def left(self) -> tuple[Row, ...]:
        """The layers that stayed what they were."""
        return tuple(row for row in self.rows if row.after is None)

    @property
    def by_class(self) -> dict[str, tuple[int, int]]:
        """How many norms were replaced, and how many there are, by class."""
        found: dict[str, tuple[int, int]] = {}
        for row in self.rows:
            if row.kind == "norm":
                replaced, seen = found.get(row.before, (0, 0))
                found[row.before] = replaced + (row.after is not None), seen + 1
        return found

    def __str__(self) -> str:
        """Returns the table."""
        counts = f"{len(self.replaced)} replaced, {len(self.left)} left"
        norms = [f"{name} {n} of {seen}" for name, (n, seen) in self.by_class.items()]
        norms = norms or ["none, as there are none but ours"]
        replaced = f"norms replaced: {', '.join(norms)}"
        rows = [(row.path, row.before, row.result) for row in self.rows]
        if rows:
            rows.insert(0, ("layer", "was", "is now (difference on random input)"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join((f"{self.call}: {counts}", replaced, *lines, self.outputs))


# What Keras and TensorFlow write around the message of an error in a call.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_BEFORE = re.compile(r"Exception encountered when calling ")
_AFTER = re.compile(r"(Arguments|Call arguments) received by |Detected at node ")


def reason(text: object) -> str:
    """Returns what an error or a text says, in one line, without where it happened."""
    lines = [line.strip() for line in _COLOURS.sub("", str(text)).splitlines()]
    said = itertools.takewhile(lambda line: not _AFTER.match(line), lines)
    kept = [line for line in said if line and not _BEFORE.match(line)]
    return " ".join(kept) or next(filter(None, lines), "") or type(text).__name__


def first_line(text: object) -> str:
    """Returns what fits into a table of an error or a text."""
    text = _COLOURS.sub("", str(text)).strip()
    return reason(text) if _BEFORE.match(text) else text.partition("\n")[0]
