"""Writes a report as one HTML page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from fusednorm.bench import plots, table
from fusednorm.bench.cases import BACKWARD

PAGE = "index.html"
CAPTIONS = {
    "share_of_copy": "How near the kernels come to a copy that moves as many bytes: "
    "the line is a copy's speed.",
    "best_peer": "The best peer's time over ours, the worst shapes first: right of the "
    "line we are faster.",
    "peers": "Every peer's time over ours.",
    "time_against_size": "How cost grows with the tensor, from one row to what memory "
    "allows.",
    "tiny_latency": "What one call costs when there is next to nothing to compute.",
}
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif;
  color: #222; background: #fff; max-width: 1380px;
  margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
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


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draws all plots and the page into a folder, and returns their paths."""
    images = plots.draw_all(report, folder)
    path = folder / PAGE
    path.write_text(render(report, images), encoding="utf-8")
    return [*images, path]


def render(report: dict[str, Any], images: Sequence[Path]) -> str:
    """Returns the page, with the images inside."""
    facts, *more = table.heading(report)
    body = [
        "<h1>fusednorm bench</h1>",
        f'<p class="facts">{escape(facts)}<br>{escape(more[0])}</p>',
        *(f'<p class="warning">{escape(line)}</p>' for line in more[1:]),
    ]
    rows = table.summary_rows(report)
    if len(rows) > 1:
        body += [
            "<h2>Peers</h2>",
            "<p>Geometric mean of the peer's time over ours, like with like; above 1 "
            "we are faster. The worst shapes are named, slowest first.</p>",
            _table(rows, text=(0, 1, 2, 3, 6), long=(6,)),
        ]
    for image in images:
        data = base64.b64encode(image.read_bytes()).decode()
        caption = CAPTIONS[image.stem]
        body.append(
            f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    peers = table.peers_of(report)
    cells = [
        ["shape", "dims", *table.HEADINGS[1:], "extra MiB", "Keras MiB", "first ms",
         *(f"{peer} x" for peer in peers)]
    ]  # fmt: skip
    for case in report["cases"]:
        name, *rest = table.row(case, peers)
        split = len(table.HEADINGS) - 1
        cells.append([name, _dims(case), *rest[:split], *_costs(case), *rest[split:]])
    body += [
        "<h2>Every case</h2>",
        f'<div class="wide">{_table(cells, text=(0, 1, 2, 3))}</div>',
        "<h2>Missing</h2>",
        _list(table.absences(report) + _left_out(report)),
        *_published(report),
        "<h2>What the columns mean</h2>",
        _list(_explanations(report)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>fusednorm bench</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _dims(case: dict[str, Any]) -> str:
    text = "x".join(map(str, case.get("dims", ())))
    if case.get("scaled"):
        text += f" of batch {case['model_dims'][0]}"
    return text


def _costs(case: dict[str, Any]) -> list[str]:
    """Returns the extra memory of ours and of Keras, and our first call in a graph."""
    graph = case["results"].get("fusednorm-graph", {})
    keras = case["results"].get("keras-graph", {})

    def mebibytes(result: dict[str, Any]) -> str:
        count = result.get("peak_extra_bytes")
        return "-" if count is None else f"{count / 2**20:.0f}"

    first = graph.get("first_call_ms")
    shown = "-" if first is None or case["pass"] == BACKWARD else f"{first:.0f}"
    return [mebibytes(graph), mebibytes(keras), shown]


def _left_out(report: dict[str, Any]) -> list[str]:
    return [
        f"{kind}: {each['shape']} {each['dtype']} {each['pass']}: {each['why']}"
        for kind in ("cut", "failed")
        for each in report[kind]
    ]


def _published(report: dict[str, Any]) -> list[str]:
    """Returns the table beside what ATEX publishes, where the shapes are its."""
    rows = [["shape", "dims", "graph ms", "ATEX on H100 ms", "TensorFlow on H100 ms"]]
    for case in report["cases"]:
        published = case.get("published_h100_ms")
        graph = case["results"].get("fusednorm-graph")
        if published and graph:
            rows.append(
                [
                    case["shape"],
                    _dims(case),
                    f"{graph['median_us'] / 1e3:.2f}",
                    f"{published['atex']:.2f}",
                    f"{published['tensorflow']:.2f}",
                ]
            )
    if len(rows) == 1:
        return []
    note = (
        "Forward and backward in mixed_float16. The last two columns are from ATEX's "
        "README and of the whole batch on an H100; they compare with ours on that GPU "
        "only."
    )
    return ["<h2>Beside ATEX</h2>", f"<p>{note}</p>", _table(rows, text=(0, 1))]


def _explanations(report: dict[str, Any]) -> list[str]:
    lines = [
        "kernel us: fusednorm._native, C++ called from Python, on tensors that rotate "
        "past the last cache; PyTorch is compared with it.",
        "graph us: our layer in a tf.function; Keras is compared with it, and Keras "
        "under XLA with our layer under XLA, or in a graph where there is none.",
        "in cache us: the kernel again and again on the same tensors, where they fit.",
        "GB/s and share: the least traffic (each tensor once) over the kernel's time, "
        "and at the speed of a copy by as many threads.",
        "backward: of a graph, forward+backward minus forward in the same round.",
        "extra MiB: how much higher the process's memory is at its highest, results "
        "included, of our layer and of Keras's in a graph. first ms: our layer's first "
        "call, with tracing.",
    ]
    if any(case.get("scaled") for case in report["cases"]):
        lines.append("*: the batch is smaller than the model's, to save time.")
    wrong = [case for case in report["cases"] if case.get("wrong")]
    if wrong:
        lines.append("!: outputs were outside of the bound of the verification.")
    return lines


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines or ["nothing"])
    return f"<ul>{items}</ul>"


def _table(
    rows: Sequence[Sequence[str]], *, text: Sequence[int], long: Sequence[int] = ()
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
