"""The plans that docs/cuda.md shows are those that the library makes."""

import dataclasses
from pathlib import Path

from support.canonical import SHAPES, plan

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cuda.md"
HEADER = "| shape (bfloat16) | pass | H100 | T4 |\n|---|---|---|---|\n"
SHOWN = (
    *("sd15-unet-64", "sd15-unet-32", "sdxl-unet-128-cf", "rn50-gn-56"),
    *("cyclegan-256", "nnunet-32-cf", "bert-base", "llama-7b", "long-row"),
    "short-row",
)


def launch_text(launch):
    grid = f"{launch['blocks']}x{launch['threads']}"
    cluster = launch["cluster"]
    return grid + (f" in clusters of {cluster}" if cluster > 1 else "")


def cell(shape, device, direction):
    if direction == "second_order":
        shape = dataclasses.replace(shape, activation="none")
    made = plan(shape, "bfloat16", device, direction)
    launches = " + ".join(map(launch_text, made["launches"]))
    # There is only one way for the second order.
    name = "" if direction == "second_order" else f"{made['scheme']}: "
    return name + launches


def table():
    shapes = {shape.name: shape for shape in SHAPES}
    lines = []
    for name in SHOWN:
        for direction in ("forward", "backward", "second_order"):
            cells = [cell(shapes[name], each, direction) for each in ("h100", "t4")]
            first = f"| {name} " if direction == "forward" else "|  "
            words = direction.replace("_", " ")
            lines.append(f"{first}| {words} | {' | '.join(cells)} |\n")
    return HEADER + "".join(lines)


def test_the_page_has_the_plans():
    found = PAGE.read_text().partition(HEADER)[2].partition("\n\n")[0]
    assert HEADER + found + "\n" == table(), table()
