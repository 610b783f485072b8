"""Writes a machine's folder of results as one page, with the plots beside it.

The HTML is written by hand. A template library would only move the tags to another file
and be the one dependency of `fusednorm bench` besides NumPy, and mkdocs makes sites:
this page is one file that opens from a folder copied off a GPU's machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from fusednorm.bench import goal, plots, records, table
from fusednorm.bench.cases import BACKWARD

PAGE = "index.html"
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif;
  color: #222; background: #fff; max-width: 1380px;
  margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3.2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p, li { max-width: 75ch; }
.facts { color: #555; }
.warning { background: #fff4e0; border-left: 3px solid #e08b3d; padding: .5rem .8rem; }
figure { margin: 1.2rem 0 2rem; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #555; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px;
  font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; border-bottom: 1px solid #bbb;
  padding: .3rem .55rem; vertical-align: bottom; }
td { text-align: right; padding: .18rem .55rem; border-bottom: 1px solid #eee;
  white-space: nowrap; }
td.text, th.text { text-align: left; }
td.long { white-space: normal; }
tr:hover td { background: #f6f9fc; }
"""


def draw(folder: Path) -> Path:
    """Draws the plots of all reports in a folder, and the page; returns its path.

    Without matplotlib the page has no plots, and says so.

    Raises:
        ValueError: there is no report.
    """
    found = {path.stem: records.read(path) for path in sorted(folder.glob("*.json"))}
    if not found:
        raise ValueError(f"there must be a report in {folder}, got no *.json")
    sections = []
    for stem, report in found.items():
        drawn = plots.draw_all(report, folder, prefix=f"{stem}_")
        sections.append(_section(stem, report, drawn))
        (folder / f"{stem}.txt").write_text(table.render(report) + "\n")
    links = " · ".join(f'<a href="#{stem}">{stem}</a>' for stem in found)
    warning = ""
    if not plots.can_draw():
        warning = f'<p class="warning">{escape(plots.MISSING)}</p>'
    newest = max(found.values(), key=lambda each: str(each["environment"].get("date")))
    device = escape(str(newest["environment"].get("device")))
    path = folder / PAGE
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>fusednorm bench, {device}</title><style>{STYLE}</style></head>"
        f"<body><h1>fusednorm bench, {device}</h1><p>{links}</p>{warning}"
        f"{''.join(sections)}</body></html>\n",
        encoding="utf-8",
    )
    return path


def _section(stem: str, report: dict[str, Any], images: Sequence[Path]) -> str:
    """Returns what the page says of one report."""
    facts, *more = table.heading(report)
    suite = report["settings"].get("suite")
    body = [
        f'<h2 id="{stem}">{stem}</h2>',
        f'<p class="facts">suite {escape(str(suite))}: {escape(facts)}</p>',
        *(f'<p class="facts">{escape(line)}</p>' for line in more),
    ]
    distances = goal.distances(report)
    if distances:
        body.append(f"<p><strong>{escape(goal.verdict(distances))}</strong></p>")
    for image in images:
        caption = escape(plots.CAPTIONS[image.stem.removeprefix(f"{stem}_")])
        body.append(
            f'<figure><img alt="{caption}" src="{image.name}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    summary = table.summary_rows(report)
    if len(summary) > 1 and not table.is_latency(report):
        body += [
            "<h3>Peers</h3>",
            "<p>Geometric mean of the peer's time over ours, like with like; above 1 "
            "we are faster. The worst shapes are named, slowest first.</p>",
            _table(summary, text=(0, 1, 2, 3, 6), long=(6,)),
        ]
    if report["cases"] and table.is_latency(report):
        body.append(_table(table.launch_rows(report), text=(0, 1, 2)))
    elif report["cases"]:
        rows = table.rows(report, {
            "dims": _dims, "extra MiB": _mebibytes("fusednorm-graph"),
            "Keras MiB": _mebibytes("keras-graph"), "first ms": _first_call,
            "ATEX on H100 ms": _published,
        })  # fmt: skip
        body += [
            "<h3>Every case</h3>",
            f'<div class="wide">{_table(rows, (0, 1, 2))}</div>',
        ]
    if report.get("models"):
        body.append(_table(table.model_rows(report), text=(0, 1, 2, 3, 9)))
    if distances:
        body += [
            "<h3>The goal, in the mean</h3>",
            _table(goal.mean_rows(distances), (0, 1, 2)),
        ]
    said = table.explanations(report) + _explanations(report) + table.checks(report)
    body += ["<h3>Notes</h3>", _list(said)]
    if missing := table.absences(report) + table.left_out(report):
        body += ["<h3>Missing</h3>", _list(missing)]
    return "".join(body)


def _dims(case: dict[str, Any]) -> str:
    text = "x".join(map(str, case.get("dims", ()))) or table.NOTHING
    if case.get("scaled"):
        text += f" of batch {case['model_dims'][0]}"
    return text


def _mebibytes(name: str) -> Any:
    def cell(case: dict[str, Any]) -> str:
        count = case["results"].get(name, {}).get("peak_extra_bytes")
        return table.number(count and count / 2**20, ".0f")

    return cell


def _first_call(case: dict[str, Any]) -> str:
    first = case["results"].get("fusednorm-graph", {}).get("first_call_ms")
    return table.NOTHING if case["pass"] == BACKWARD else table.number(first, ".0f")


def _published(case: dict[str, Any]) -> str:
    """Returns what ATEX publishes of the shape, of the whole batch on its H100."""
    published = case.get("published_h100_ms")
    return table.number(published and published["atex"], ".2f")


def _explanations(report: dict[str, Any]) -> list[str]:
    if not report["cases"] or table.is_latency(report):
        return []
    return [
        "kernel us: fusednorm._native, C++ called from Python, or on a GPU from a CUDA "
        "graph, on tensors that rotate past the last cache; PyTorch is compared with "
        "it.",
        "graph us: our layer in a tf.function; Keras is compared with it, and Keras "
        "under XLA with our layer under XLA, or in a graph where there is none.",
        "in cache us: the kernel again and again on the same tensors, where they fit.",
        "backward: of a graph, forward+backward minus forward in the same round.",
        "extra MiB: how much higher the memory in use is at its highest, results "
        "included, of our layer and of Keras's in a graph. first ms: our layer's first "
        "call, with tracing.",
    ]


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _table(
    rows: Sequence[Sequence[str]], text: Sequence[int], long: Sequence[int] = ()
) -> str:
    def cell(tag: str, i: int, value: str) -> str:
        names = ["text"] * (i in text) + ["long"] * (i in long)
        attribute = f' class="{" ".join(names)}"' if names else ""
        return f"<{tag}{attribute}>{escape(value)}</{tag}>"

    def line(tag: str, cells: Sequence[str]) -> str:
        inside = "".join(cell(tag, i, value) for i, value in enumerate(cells))
        return f"<tr>{inside}</tr>"

    head, *body = rows
    lines = "".join(line("td", each) for each in body)
    return f"<table><thead>{line('th', head)}</thead><tbody>{lines}</tbody></table>"
