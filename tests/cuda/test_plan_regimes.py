"""Which kernels the canonical shapes get: a change of the plan shows here.

Each entry: on an H100, on a T4; on each forward and backward in bfloat16, then in
float32; the scheme, and the blocks of a cluster where there are several.
"""

from pathlib import Path

import pytest
from fusednorm import _native
from support.canonical import SHAPES, plan

DEVICES = _native.known_devices()
INSTANCES = Path(__file__).resolve().parents[2] / "cuda" / "instances.txt"

REGIMES = {
    "sd15-unet-64": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "sd15-unet-32": (
        "tile/8 tile/8 tile/8 tile/8",
        "stream stream stream stream",
    ),
    "sd15-unet-16": (
        "tile/4 tile/4 tile/4 tile/4",
        "stream stream stream stream",
    ),
    "sd15-unet-8-skip": (
        "tile/2 tile/2 tile/2 tile/2",
        "tile tile tile tile",
    ),
    "sdxl-unet-128": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "sd-vae-512": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "sd-vae-256": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "sd15-unet-64-cf": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "sdxl-unet-128-cf": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "rn50-gn-56": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "rn50-gn-28": (
        "tile/8 tile/8 tile/8 tile/8",
        "stream stream stream stream",
    ),
    "rn50-gn-14": (
        "tile/2 tile/2 tile/2 tile/2",
        "tile tile tile tile",
    ),
    "rn50-gn-7": (
        "tile tile tile tile",
        "tile tile tile tile",
    ),
    "bit-stem-112": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "cyclegan-256": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "cyclegan-64": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "pix2pix-128-cf": (
        "rows stream stream stream",
        "rows stream stream stream",
    ),
    "style-1024": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "nnunet-128": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "nnunet-32-cf": (
        "stream stream stream stream",
        "stream stream stream stream",
    ),
    "mnist-tutorial": (
        "tile/4 tile/4 tile/4 tile/4",
        "tile tile tile tile",
    ),
    "mnist-tutorial-ln1": (
        "tile tile tile tile",
        "tile tile tile tile",
    ),
    "vit-b": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "bert-base": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "gpt2-xl": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "gpt3": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "swin-stage1": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "llama-7b": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "llama-70b": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "gemma-head": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
    "long-row": (
        "stream columns stream columns",
        "stream columns stream columns",
    ),
    "short-row": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
}


def regime(shape, dtype, device, direction):
    made = plan(shape, dtype, device, direction)
    cluster = made["launches"][0]["cluster"]
    return made["scheme"] + (f"/{cluster}" if cluster > 1 else "")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_regimes(shape):
    found = tuple(
        " ".join(
            regime(shape, dtype, device, direction)
            for dtype in ("bfloat16", "float32")
            for direction in ("forward", "backward")
        )
        for device in ("h100", "t4")
    )
    assert found == REGIMES[shape.name]


def test_every_scheme_is_among_them():
    found = {
        each.partition("/")[0]
        for regimes in REGIMES.values()
        for text in regimes
        for each in text.split()
    }
    lines = INSTANCES.read_text().splitlines()
    schemes = {line.split()[0] for line in lines if not line.startswith("#")}
    # The second order is planned apart, and a mask is counted before another scheme.
    assert found == schemes - {"second_order", "mask"}


@pytest.mark.parametrize(
    "shape",
    [shape for shape in SHAPES if shape.op == "group_norm"],
    ids=lambda shape: shape.name,
)
def test_groups_with_a_mask_are_streamed(shape):
    for device in ("h100", "t4"):
        for direction in ("forward", "backward"):
            made = plan(shape, "bfloat16", device, direction, has_mask=True)
            assert made["scheme"] == "stream"
            assert made["geometry"]["general"]
            kernels = [launch["kernel"] for launch in made["launches"]]
            counted = ["CountMask"] if direction == "backward" else []
            assert kernels[:-1] == counted
            assert kernels[-1].startswith("Stream")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_parameters_of_each_position_are_read_and_written_once(shape):
    for device in ("h100", "t4"):
        common, own = (
            plan(shape, "float32", device, "backward", per_position=per_position)
            for per_position in (False, True)
        )
        # Nobody adds up their gradients: neither a kernel of its own nor, in `stream`,
        # the last items of the launch.
        assert "ColumnSums" not in [each["kernel"] for each in own["launches"]]
        assert own["param_bytes"] == 0
        assert own["geometry"].get("params", 0) == 0
        assert own["least_bytes"] > common["least_bytes"]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_samples_with_parameters_of_their_own_share_a_grid(shape):
    for device in ("h100", "t4"):
        for direction in ("forward", "backward"):
            common, own = (
                plan(shape, "float32", device, direction, per_sample=per_sample)
                for per_sample in (False, True)
            )
            # The general instance of `rows` has no room for the longest of them.
            scheme = common["scheme"]
            others = {"rows": {"stream", "columns"}}.get(scheme, set())
            assert own["scheme"] in {scheme} | others
            assert own["repeats"] == 1
            blocks = common["launches"][0]["blocks"]
            fewest = min(blocks, DEVICES[device]["multiprocessors"])
            assert own["launches"][0]["blocks"] >= fewest
