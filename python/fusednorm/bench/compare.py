"""What changed between two reports, and whether that is more than noise.

A change counts if the quartiles of the two measurements do not overlap: the middle half
of the rounds of one lies wholly on one side of that of the other. Peers and the copy,
whose code did not change, are compared in the same way: what they changed by is what
the machine did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fusednorm.bench import records

FASTER, SLOWER, SAME, UNKNOWN = "faster", "slower", "within the noise", "noise unknown"


@dataclass(frozen=True)
class Change:
    """One figure, then and now.

    Attributes:
        key: Shape, dtype and pass.
        name: Whose result.
        before: Microseconds in the older report.
        after: Microseconds in the newer one.
        noise: Half of the range between quartiles over the median, added up for both;
            None where a report has no quartiles.
        verdict: FASTER, SLOWER, SAME or UNKNOWN.
    """

    key: tuple[str, str, str]
    name: str
    before: float
    after: float
    noise: float | None
    verdict: str

    @property
    def ratio(self) -> float:
        """The new time over the old one."""
        return self.after / self.before


def _change(
    key: tuple[str, str, str], name: str, old: dict[str, Any], new: dict[str, Any]
) -> Change:
    before, after = old["median_us"], new["median_us"]
    if "quartiles_us" not in old or "quartiles_us" not in new:
        return Change(key, name, before, after, None, UNKNOWN)
    (old_low, old_high), (low, high) = old["quartiles_us"], new["quartiles_us"]
    noise = (old_high - old_low) / (2 * before) + (high - low) / (2 * after)
    verdict = SAME
    if high < old_low:
        verdict = FASTER
    elif low > old_high:
        verdict = SLOWER
    return Change(key, name, before, after, noise, verdict)


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Returns the change of every figure that both reports have."""
    older = {records.key(each): each["results"] for each in records.entries(old)}
    return [
        _change(key, name, older[key][name], result)
        for entry in records.entries(new)
        if (key := records.key(entry)) in older
        for name, result in entry["results"].items()
        if name in older[key]
    ]


def _tally(found: Iterable[Change]) -> str:
    found = list(found)
    count = {
        verdict: sum(each.verdict == verdict for each in found)
        for verdict in (FASTER, SLOWER, SAME, UNKNOWN)
    }
    said = ", ".join(
        f"{number} {verdict}" for verdict, number in count.items() if number
    )
    mean = records.geometric_mean(each.ratio for each in found)
    return f"{said}; new time over old, geometric mean: {mean:.3f}"


def render(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Returns what changed as text: ours one by one, the largest changes first."""
    devices = [each["environment"].get("device") for each in (old, new)]
    commits = [str(each["environment"].get("commit"))[:12] for each in (old, new)]
    lines = [f"Compared with commit {commits[0]} of {old['environment'].get('date')}."]
    if devices[0] != devices[1]:
        lines.append(f"Another device: {devices[0]}, now {devices[1]}.")
    found = changes(old, new)
    ours = [each for each in found if each.name.startswith(records.OURS)]
    others = [each for each in found if not each.name.startswith(records.OURS)]
    if not ours:
        return "\n".join([*lines, "The reports have no figure of ours in common."])
    rows = [
        ["shape", "dtype", "pass", "who", "old us", "new us", "new/old", "noise", ""]
    ]
    for each in sorted(ours, key=lambda change: change.ratio):
        rows.append(
            [
                *each.key,
                each.name,
                f"{each.before:.1f}",
                f"{each.after:.1f}",
                f"{each.ratio:.3f}",
                "-" if each.noise is None else f"{each.noise:.1%}",
                each.verdict,
            ]
        )
    lines += ["", records.aligned(rows, left=(0, 1, 2, 3, 8)), ""]
    lines.append(f"ours: {_tally(ours)}")
    if others:
        lines.append(f"the others, whose code did not change: {_tally(others)}")
    missing = {records.key(each) for each in records.entries(old)}
    missing -= {records.key(each) for each in records.entries(new)}
    if missing:
        lines.append(f"{len(missing)} cases of the older report were not measured now.")
    return "\n".join(lines)
