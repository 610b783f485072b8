"""The figures of docs/numerics.md: drawn from the committed JSON, and still ours."""

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from fusednorm.bench import records

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import errors

REPORT = records.read(Path(errors.__file__).parent / "results" / "errors.json")
# Results are the same bits everywhere; this is for another random generator.
SLACK = 1.25


def label(case):
    return f"{case['op']}-{case['dtype']}-{case['ratio']:.0e}"


def test_the_page_shows_what_the_script_draws_from_the_json():
    page = errors.DOCS.read_text()
    assert errors.with_tables(page, errors.tables(REPORT)) == page


def test_every_case_is_there_once_with_everybody():
    wanted = [
        (shape.name, dtype, ratio)
        for shape in errors.SHAPES
        for dtype in errors.DTYPES
        for ratio in errors.RATIOS
    ]
    found = [(case["op"], case["dtype"], case["ratio"]) for case in REPORT["cases"]]
    assert found == wanted
    for case in REPORT["cases"]:
        assert set(case["errors"]) == set(errors.NAMES)
        assert case["absent"] == {}


@pytest.mark.parametrize("case", REPORT["cases"], ids=label)
def test_ours_is_not_worse_than_the_table(case):
    (shape,) = (each for each in errors.SHAPES if each.name == case["op"])
    got = errors.measure(shape, case["dtype"], case["ratio"], who=[errors.OURS])
    wanted = case["errors"][errors.OURS]
    assert got["errors"][errors.OURS].keys() == wanted.keys()
    for output, figures in got["errors"][errors.OURS].items():
        for name, value in figures.items():
            assert value <= SLACK * wanted[output][name], (output, name)


@pytest.mark.parametrize(
    ("dtype", "eps"),
    [(np.float32, 2.0**-23), (np.float16, 2.0**-10), (ml_dtypes.bfloat16, 2.0**-7)],
)
def test_errors_are_counted_at_the_element_or_the_root_mean_square(dtype, eps):
    exact = np.array([1.0, -8.0, 3.0, 1e-9, 0.0])
    typical = np.sqrt(np.mean(exact**2))  # 3.85, whose ulp is that of 2.
    off = np.array([eps, 8 * eps, 0, 4 * eps, 0])
    found = errors.errors_of(exact + off, exact, np.dtype(dtype).name)
    assert found == pytest.approx(
        {
            "largest_ulp": 2,
            "mean_ulp": (0.5 + 1 + 2) / 5,
            "largest_relative": 4 * eps / typical,
            "mean_relative": (eps / typical + eps + 4 * eps / typical) / 5,
        },
        rel=10.0 ** (1 - errors.DIGITS),
    )


def test_what_is_not_finite_has_no_number():
    found = errors.errors_of([1.0, np.inf], np.array([1.0, 1.0]), "float32")
    assert found["largest_ulp"] is None
    assert errors._cell(found, "ulp") == "not finite / not finite"
