"""The largest errors of forward and backward against float64, in every type and place.

An error is relative to the largest element of the exact tensor, or to 1 where that is
smaller. Data has mean 0 and standard deviation 1; float64 data is compared with long
double.
"""

from __future__ import annotations

import math

from fusednorm._doctor.cases import (
    SMALL,
    Check,
    Places,
    data_of,
    off,
    ours,
    outputs_of,
)
from fusednorm.bench.competitors.base import Outputs
from fusednorm.bench.verify import Exact

DTYPES = ("float32", "float64", "float16", "bfloat16")
OUTPUTS = {
    "y": "y",
    "sum": "y",
    "dx": "dx",
    "dgamma": "parameters",
    "dbeta": "parameters",
}
# In half units in the last place of what computes. What tests/support/bounds.py derives
# for the elements of these shapes is less, and what is found far less: gradients of
# parameters are sums of up to 21,632 terms, whose errors need not add up.
UNITS = {"y": 16, "dx": 128, "parameters": 2048}
# Half a unit of the data's type, to which y and dx are rounded.
STORED = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def bound(kind: str, dtype: str) -> float:
    """Returns what the errors of "y", "dx" or "parameters" are held to."""
    computed = UNITS[kind] * (2.0**-53 if dtype == "float64" else 2.0**-24)
    return computed + (0.0 if kind == "parameters" else STORED.get(dtype, 0.0))


def shares(exact: Exact, got: Outputs, dtype: str) -> dict[str, float]:
    """Returns the largest error of each output as a multiple of its bound.

    It is infinite where the output is not finite.
    """
    found = {}
    for name, error in exact.errors(got, bound=1.0).items():
        share = error / bound(OUTPUTS[name], dtype)
        found[name] = share if math.isfinite(share) else math.inf
    return found


def check(places: Places) -> Check:
    """Returns a row for each place and type, with its largest errors and bounds."""
    found = Check()
    worst = {
        (place, dtype): dict.fromkeys(UNITS, (0.0, ""))
        for place in places.all
        for dtype in DTYPES
    }
    for dtype in DTYPES:
        for name in SMALL:
            data = data_of(name, dtype)
            exact = Exact(data)
            for place in places.all:
                of = worst[place, dtype]
                got = outputs_of(ours(data, place), place)
                for output, share in shares(exact, got, dtype).items():
                    kind = OUTPUTS[output]
                    of[kind] = max(of[kind], (share, f"{output} of {name}"))
    for (place, dtype), of in worst.items():
        row = {"place": place, "type": dtype}
        for kind, (share, where) in of.items():
            limit = bound(kind, dtype)
            row[kind] = share * limit if math.isfinite(share) else None
            row[f"{kind} bound"] = limit
            if share > 1:
                found.problems.append(f"{where} in {dtype} on {place} is {off(share)}.")
        found.rows.append(row)
    return found
