"""The code of docs/start.md runs, and prints what the page says it prints."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="MATPLOTLIB MISSING: the page is not run")
pytest.importorskip("sklearn", reason="SKLEARN MISSING: the page is not run")

PAGE = Path(__file__).parents[2] / "docs" / "start.md"
# A block of Python, and below it what it prints, where that is shown.
BLOCKS = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(\n```text\n(?P<output>.*?)^```\n)?", re.S | re.M
)
# Rounding and Keras's random numbers are another machine's own.
ROUNDED = re.compile(r"\d+\.\d+(e[-+]\d+)?")
# The plot spans about a decade in 300 pixels: what differs by less than 1% is drawn on
# the same pixels. With rounding alone, 2e-6 was seen.
VISIBLE = 0.01


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The blocks of the page, what each of them printed, and their variables."""
    blocks = list(BLOCKS.finditer(PAGE.read_text()))
    variables, printed = {"__name__": "start"}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("start"))
        patch.setenv("MPLBACKEND", "agg")
        for block in blocks:
            with contextlib.redirect_stdout(io.StringIO()) as text:
                exec(compile(block["code"], str(PAGE), "exec"), variables)
            printed.append(text.getvalue())
        variables["files"] = sorted(path.name for path in Path().iterdir())
    return blocks, printed, variables


def test_prints_what_the_page_shows(run):
    blocks, printed, _ = run
    shown = [
        (block["output"], text) for block, text in zip(blocks, printed, strict=True)
    ]
    shown = [pair for pair in shown if pair[0] is not None]
    assert len(shown) == 4
    for wanted, found in shown:
        assert ROUNDED.sub("#", found) == ROUNDED.sub("#", wanted)


def test_the_curves_lie_on_each_other(run):
    theirs, ours = (np.array(run[2][name]) for name in ("theirs", "ours"))
    assert theirs.shape == ours.shape == (112,)
    assert np.max(np.abs(ours / theirs - 1)) < VISIBLE


def test_saves_the_plot_and_both_models(run):
    assert run[2]["files"] == [
        "converted.keras",
        "digits.keras",
        "keras_again.keras",
        "losses.png",
    ]
