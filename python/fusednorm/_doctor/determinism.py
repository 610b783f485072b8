"""The same bits from run to run, and from one way to run the CPU kernels to another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from fusednorm._doctor.cases import (
    NATIVE,
    SMALL,
    Check,
    Places,
    data_of,
    digest,
    ours,
    outputs_of,
)
from fusednorm.bench.competitors.base import Competitor
from fusednorm.bench.data import Data

DTYPES = ("float32", "bfloat16")
RUNS = 4
THREADS = (1, 2, 3)


def check(places: Places) -> Check:
    """Returns a row for each way to compute the shapes.

    On the CPU all ways must give the same bits; on a GPU, all runs.
    """
    found = Check()
    changing: dict[str, list[str]] = {}
    unlike: dict[str, list[str]] = {}
    for dtype, name in product(DTYPES, SMALL):
        first: dict[str, set[str]] = {}
        for device, way, place, competitor in _ways(data_of(name, dtype), places):
            bits = {digest(outputs_of(competitor, place)) for _ in range(RUNS)}
            of_first = first.setdefault(device, bits)
            for which, wrong in ((changing, len(bits) > 1), (unlike, bits != of_first)):
                which.setdefault(way, []).extend([f"{name} in {dtype}"] * wrong)
    for way, cases in changing.items():
        found.rows.append(
            {
                "way": way,
                "cases": len(DTYPES) * len(SMALL),
                "runs": RUNS,
                "change": len(cases),
                "other bits": len(unlike[way]),
            }
        )
        if cases:
            found.problems.append(
                f"Results change from run to run on {way}: {', '.join(cases)}."
            )
    others = [way for way, cases in unlike.items() if cases]
    if others and not any(changing.values()):
        first_way, *_ = unlike
        cases = dict.fromkeys(case for way in others for case in unlike[way])
        found.problems.append(
            f"Results are other bits than on {first_way} with {'; '.join(others)}: "
            f"{', '.join(cases)}."
        )
    return found


def _ways(data: Data, places: Places) -> Iterator[tuple[str, str, str, Competitor]]:
    """Yields the device, the name of the way, its place, and who goes it."""
    for device in places.devices:
        yield device, device, device, ours(data, device)
    if places.native:
        from fusednorm import _native

        for threads in THREADS:
            way = f"{NATIVE}, {threads} thread{'s' * (threads > 1)}"
            yield "/CPU:0", way, NATIVE, ours(data, NATIVE, threads=threads)
        for isa in _native.isas():
            yield "/CPU:0", f"{NATIVE}, {isa}", NATIVE, ours(data, NATIVE, isa=isa)
