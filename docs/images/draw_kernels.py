"""Draws the pictures of docs/kernels.md: which thread reads what.

    pip install matplotlib
    python docs/images/draw_kernels.py

The numbers in them are those of csrc/cpu/partition.cc, cuda/plan/rows.cc,
cuda/plan/tile.cc and cuda/plan/stream.cc for the shapes that the captions name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

FOLDER = Path(__file__).parent
BLUE, ORANGE, GREEN, PURPLE = "#8fb8e0", "#f2b48c", "#9fd0b3", "#c7b0dd"
GROUPS = (BLUE, ORANGE, GREEN, PURPLE)
LIGHT, EDGE, INK = "#f3f3f3", "#ffffff", "#333333"

matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 8,
        "svg.fonttype": "none",
        "svg.hashsalt": "fusednorm",  # The same file from the same drawing.
        "text.color": INK,
    }
)


def canvas(width: float, height: float, scale: float = 0.15) -> tuple[Figure, Axes]:
    """Returns a figure of so many cells, and axes in cells with y downwards."""
    figure = Figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    return figure, axes


def cell(
    axes: Axes,
    x: float,
    y: float,
    color: str,
    text: str = "",
    width: float = 1,
    height: float = 1,
    size: float = 6,
) -> None:
    """Draws a filled cell with a small text."""
    axes.add_patch(Rectangle((x, y), width, height, fc=color, ec=EDGE, lw=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", size=size)


def frame(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """Draws a frame around cells."""
    axes.add_patch(Rectangle((x, y), width, height, fc="none", ec=INK, lw=1.6))


def arrow(axes: Axes, start: Sequence[float], end: Sequence[float]) -> None:
    """Draws an arrow."""
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "color": INK, "lw": 1}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **style))


def label(axes: Axes, x: float, y: float, text: str, **options: object) -> None:
    """Writes a text that begins at x, around y."""
    axes.text(x, y, text, **{"va": "center", "ha": "left", **options})


def note(axes: Axes, x: float, y: float, text: str) -> None:
    """Writes a small text."""
    label(axes, x, y, text, size=7)


def save(figure: Figure, name: str) -> None:
    """Writes the drawing beside this script."""
    figure.savefig(
        FOLDER / f"{name}.svg", facecolor="white", metadata={"Date": None}, format="svg"
    )


def cpu_rows() -> None:
    """Vectors along a group's contiguous elements."""
    figure, axes = canvas(56, 13)
    columns, vector = 40, 16
    for row in range(6):
        y = 2 + row + (row >= 3)
        for column in range(columns):
            cell(axes, 8 + column, y, GROUPS[row % 2 if row < 3 else 2 + row % 2])
    label(axes, 0.5, 3.5, "thread 1:\nits rows")
    label(axes, 0.5, 7.5, "thread 2:\nits rows")
    for start in range(0, columns, vector):
        frame(axes, 8 + start, 2, min(vector, columns - start), 1)
    label(axes, 8, 1, "a vector: 16 float32 of one row")
    label(axes, 40, 1, "the last: 8 of them")
    note(axes, 49, 2.5, "one mean,\none rstd")
    label(axes, 8, 10.2, "first statistics: vectors added up, then the 16 lanes")
    label(axes, 8, 11.4, "then y: the same vectors again, from the cache")
    save(figure, "cpu_rows")


def cpu_lanes() -> None:
    """Vectors across a line that holds many groups."""
    figure, axes = canvas(56, 19)
    lanes, rows, channels = 32, 7, 4
    for row in range(rows):
        for lane in range(lanes):
            cell(axes, 10 + lane, 3 + row, GROUPS[lane // channels % 4])
    for start in (0, 16):
        frame(axes, 10 + start, 3, 16, 1)
    label(axes, 10, 1.9, "a vector: 16 neighbouring channels of one position")
    label(axes, 0.5, 6.5, "positions\n(H·W rows)")
    label(axes, 43, 4, "a line: all channels\nof a position,\nread as it lies")
    for lane in range(lanes):
        cell(axes, 10 + lane, 12, GROUPS[lane // channels % 4])
    for lane in (2, 13, 18, 29):
        arrow(axes, (10.5 + lane, 10.1), (10.5 + lane, 11.9))
    label(axes, 43, 12.5, "mean and squares\nof each lane")
    for group in range(lanes // channels):
        cell(axes, 10 + channels * group, 15, GROUPS[group % 4], "group", channels)
        arrow(
            axes, (10 + channels * (group + 0.5), 13.1), (12 + channels * group, 14.9)
        )
    label(axes, 43, 15.5, "lanes of a group\njoined, once")
    label(axes, 10, 17.5, "first statistics, down the rows; then y, line after line")
    save(figure, "cpu_lanes")


def cpu_tiles() -> None:
    """Sixteen short rows, turned in registers."""
    figure, axes = canvas(56, 21)
    columns, rows = 10, 16
    for row in range(rows):
        for column in range(columns):
            cell(axes, 6 + column, 3 + row, GROUPS[column % 4])
    frame(axes, 6, 3, columns, 1)
    label(axes, 6, 1.8, "in memory: 16 rows of 10")
    note(axes, 0.5, 3.5, "one row,\none mean")
    arrow(axes, (19, 11), (24, 11))
    label(axes, 19, 9.5, "turned")
    for column in range(columns):
        for row in range(rows):
            cell(axes, 27 + row, 6 + column, GROUPS[column % 4])
    frame(axes, 27, 6, rows, 1)
    label(axes, 27, 4.8, "in registers: 10 vectors of 16 lanes")
    label(axes, 44, 6.5, "one column of\nall 16 rows")
    arrow(axes, (35, 16.2), (35, 17.9))
    for row in range(rows):
        cell(axes, 27 + row, 18, LIGHT)
    label(axes, 44, 18.5, "16 sums at once: no\nlane is idle or added\nto another")
    save(figure, "cpu_tiles")


def cpu_waves() -> None:
    """Slices of large groups, phase after phase."""
    figure, axes = canvas(56, 11)
    slices, width = 8, 2.7
    for wave in range(2):
        x = 8 + wave * 24
        for position in range(slices):
            for phase in range(2):
                number = position if phase == 0 else slices - 1 - position
                cell(
                    axes,
                    x + (position // 2 + 4 * phase) * width,
                    3 + 2 * (position % 2),
                    (BLUE, ORANGE)[phase],
                    str(number + wave * slices),
                    width,
                    2,
                    7,
                )
        note(axes, x, 2, "statistics of slices")
        note(axes, x + 4 * width, 2, "y, backwards")
        frame(axes, x, 3, 8 * width, 4)
        label(axes, x, 8, f"wave {wave + 1}: 8 MiB of x", size=7.5)
    label(axes, 0.5, 4, "thread 1")
    label(axes, 0.5, 6, "thread 2")
    label(axes, 8, 9.6, "time: what was read last is read again first, from the cache")
    arrow(axes, (38, 9.6), (46, 9.6))
    save(figure, "cpu_waves")


def cuda_rows() -> None:
    """Rows in the registers of a team, and the columns of backward."""
    figure, axes = canvas(72, 43, 0.125)
    title = "row of 64 float32: teams of 16 lanes, one access and two rows a thread"
    label(axes, 1, 1, title, weight="bold")
    for row in range(2):
        for lane in range(32):
            x, y = 6 + 2 * lane, 2 + 1.6 * row
            cell(axes, x, y, GROUPS[lane // 16 + 2 * row], str(lane), 2, 1.6)
    label(axes, 1, 3.6, "lanes")
    frame(axes, 6 + 2 * 5, 2, 2, 3.2)
    note(axes, 6, 6, "rows 0 (above) and 2: 16 bytes a lane")
    note(axes, 38, 6, "rows 1 and 3: sums by shuffles among 16 lanes")

    title = "row of 768 bfloat16: a team of 32 lanes, three accesses a thread"
    label(axes, 1, 9, title, weight="bold")
    for access in range(3):
        for lane in range(32):
            color = GROUPS[access % 2 * 2]
            number = str(access * 32 + lane)
            cell(axes, 6 + 2 * lane, 10 + 1.4 * access, color, number, 2, 1.4, 5.5)
    frame(axes, 6 + 2 * 5, 10, 2, 4.2)
    note(axes, 1, 12.1, "j = 0\nj = 1\nj = 2")
    text = "access 32 j + lane of the row: a warp reads 512 bytes on end, and lane 5"
    note(axes, 6, 15.1, f"{text} keeps the framed ones in registers")

    title = "row of 4096 bfloat16: a team of 128 threads, four accesses a thread"
    label(axes, 1, 18, title, weight="bold")
    for warp in range(4):
        x = 6 + 11 * warp
        cell(axes, x, 19, BLUE, f"warp {warp}", 11, 1.6)
        arrow(axes, (x + 5.5, 20.7), (x + 5.5, 21.9))
        cell(axes, x + 3.5, 22, LIGHT, "its sum", 4, 1.4)
    note(axes, 52, 19.8, "registers, then shuffles")
    text = "shared memory; after one barrier\nevery warp adds up all four"
    note(axes, 52, 22.7, text)

    title = "backward, row of 768 bfloat16: 1320 teams of 96 threads on an H200"
    label(axes, 1, 26.5, title, weight="bold")
    for block in range(3):
        y = 29.4 + 3.6 * block
        number = block if block < 2 else 1319
        label(axes, 1, y + 1, f"block {number}")
        for step in range(2):
            x = 11 + 21 * step
            note(axes, x, y - 0.7, f"row {number + 1320 * step}")
            cell(axes, x, y, LIGHT, "", 16, 2)
            cell(axes, x + 3, y, GROUPS[block], "", 1.5, 2)
            arrow(axes, (x + 16.5, y + 1), (x + 20.5, y + 1))
        cell(axes, 53, y, LIGHT, "", 16, 2)
        cell(axes, 56, y, GROUPS[block], "", 1.5, 2)
        note(axes, 53, y - 0.7, "its sums")
    note(axes, 1, 35.8, "...")
    text = "colored: one thread, which has the same columns of all rows of its block"
    note(axes, 11, 39.7, text)
    text = "ColumnSums adds up those of all blocks, in a fixed order: dgamma and dbeta"
    note(axes, 11, 41.4, text)
    arrow(axes, (61, 38.8), (61, 40.6))
    save(figure, "cuda_rows")


def cuda_tile() -> None:
    """The sets of channels_last data in the registers of clusters, and a block."""
    figure, axes = canvas(72, 33, 0.125)
    title = "tile: GroupNorm of 2x32x32x640 in bfloat16, 32 groups, on an H100"
    label(axes, 1, 1, title, weight="bold")
    # The matrix of one sample: 1024 positions by 640 channels.
    for tile in range(8):
        for slab in range(8):
            shade = (BLUE, "#b9d3ec")[slab % 2] if tile == 0 else LIGHT
            text = f"{slab}" if tile == 0 else ""
            cell(axes, 8 + 2.6 * tile, 4 + 3 * slab, shade, text, 2.6, 3)
    note(axes, 8, 2.9, "640 channels: 8 tiles of 80")
    note(axes, 0.5, 16, "1024\npositions:\n8 slabs\nof 128")
    note(axes, 1, 29, "a column of slabs is a set, and a cluster of 8 blocks:")
    note(axes, 1, 30.4, "8 whole groups of 10 channels, read once into registers;")
    note(axes, 1, 31.8, "the blocks read what the others have of each group")
    frame(axes, 8, 4, 2.6, 3)
    axes.plot([10.6, 35], [4, 6], color=INK, lw=0.7)
    axes.plot([10.6, 35], [7, 22], color=INK, lw=0.7)
    note(axes, 35, 4.9, "a block: 51 rows of 10 threads, 8 channels (16 bytes) each")
    for row in range(8):
        for thread in range(10):
            # Of the groups that the thread's first channel is in.
            color = GROUPS[thread * 8 // 10 % 4]
            number = "" if row == 6 else str((row if row < 6 else 50) * 10 + thread)
            cell(axes, 35 + 3 * thread, 6 + 2 * row, color, number, 3, 2)
    frame(axes, 35, 6, 30, 16)
    label(axes, 66, 7, "position 0", size=6.5)
    label(axes, 66, 9, "position 1", size=6.5)
    label(axes, 66, 21, "position 50", size=6.5)
    arrow(axes, (63.5, 22.3), (63.5, 25))
    note(axes, 35, 23.6, "and positions 51 to 101 and 102 to 127:")
    text = "a thread has three accesses, all in flight at the same time, and keeps"
    note(axes, 35, 25.9, text)
    note(axes, 35, 27.3, "to its channels (color: the group of the first of them)")
    text = "80 channels: more than a line of 128 bytes, whole groups, whole accesses"
    note(axes, 35, 29.2, text)
    save(figure, "cuda_tile")


def cuda_stream() -> None:
    """The work items of one launch, in the order of their tickets."""
    figure, axes = canvas(64, 17, 0.14)
    title = "stream: 4 sets of 4 slabs, sums 6 slabs ahead of apply"
    label(axes, 1, 1.2, title, weight="bold")
    sets, slabs, lag, width = 4, 4, 6, 1.6
    count = sets * slabs
    x = 11.0
    at = {}
    for i in range(count + lag):
        for kind, item in (("sums", i), ("apply", i - lag)):
            if not 0 <= item < count:
                continue
            y = 3 if kind == "sums" else 7
            color = GROUPS[item // slabs]
            cell(axes, x, y, color, str(item % slabs), width, 1.8)
            at[kind, item] = x
            x += width
    for of_set in range(sets):
        last, first = at["sums", of_set * slabs + 3], at["apply", of_set * slabs]
        arrow(axes, (last + width / 2, 4.9), (first + width / 2, 6.9))
    label(axes, 1, 3.9, "sums of slab")
    label(axes, 1, 7.9, "apply of slab")
    note(axes, 11, 2.3, "colors: sets")
    arrow(axes, (24, 10.2), (50, 10.2))
    note(axes, 11, 10.2, "order of the tickets")
    text = "arrows: the block that brings the last sums of a set joins all of them in a"
    note(axes, 11, 12, text)
    text = (
        "fixed order and raises the set's flag, for which the set's apply items wait;"
    )
    note(axes, 11, 13.3, text)
    text = "x is still in L2 when apply reads it again"
    note(axes, 11, 14.6, text)
    save(figure, "cuda_stream")


if __name__ == "__main__":
    for draw in (
        *(cpu_rows, cpu_lanes, cpu_tiles, cpu_waves),
        *(cuda_rows, cuda_tile, cuda_stream),
    ):
        draw()
