"""Which kernels the canonical shapes get: a change of the plan shows here.

Each entry: on an H100, on a T4; on each forward and backward in bfloat16, then in
float32; the variant, and the blocks of a cluster where there are several.
"""

import pytest
from canonical import SHAPES, plan

REGIMES = {
    "sd15-unet-64": (
        "tile/16 tile/16 tile/16 tile/16",
        "split_tile split_tile split_tile split_tile",
    ),
    "sd15-unet-32": (
        "tile/16 tile/16 tile/8 tile/8",
        "split_tile split_tile split_tile split_tile",
    ),
    "sd15-unet-16": (
        "tile/4 tile/4 tile/4 tile/4",
        "tile split_tile tile split_tile",
    ),
    "sd15-unet-8-skip": (
        "tile tile tile/2 tile/2",
        "tile tile tile tile",
    ),
    "sdxl-unet-128": (
        "tile/16 split_tile tile/16 split_tile",
        "split_tile split_tile split_tile split_tile",
    ),
    "sd-vae-512": (
        "split_tile split_tile split_tile split_tile",
        "split_tile split_tile split_tile split_tile",
    ),
    "sd-vae-256": (
        "split_tile split_tile split_tile split_tile",
        "split_tile split_tile split_tile split_tile",
    ),
    "sd15-unet-64-cf": (
        "shared_rows/2 runs/4 shared_rows/4 runs/4",
        "split_rows split_runs split_rows split_runs",
    ),
    "sdxl-unet-128-cf": (
        "shared_rows/4 runs/8 shared_rows/8 runs/16",
        "split_rows split_runs split_rows split_runs",
    ),
    "rn50-gn-56": (
        "tile/8 tile/16 tile/4 tile/16",
        "split_tile split_tile split_tile split_tile",
    ),
    "rn50-gn-28": (
        "tile/2 tile/4 tile tile/4",
        "split_tile split_tile split_tile split_tile",
    ),
    "rn50-gn-14": (
        "tile tile tile tile",
        "tile split_tile tile split_tile",
    ),
    "rn50-gn-7": (
        "tile tile tile tile",
        "tile tile tile tile",
    ),
    "bit-stem-112": (
        "tile/16 tile/16 tile/16 tile/16",
        "split_tile split_tile split_tile split_tile",
    ),
    "cyclegan-256": (
        "split_tile split_tile split_tile split_tile",
        "split_tile split_tile split_tile split_tile",
    ),
    "cyclegan-64": (
        "split_tile split_tile tile/16 tile/16",
        "split_tile split_tile split_tile split_tile",
    ),
    "pix2pix-128-cf": (
        "block_rows block_rows/2 shared_rows block_rows/4",
        "block_rows split_runs split_rows split_runs",
    ),
    "style-1024": (
        "split_tile split_tile split_tile split_tile",
        "split_tile split_tile split_tile split_tile",
    ),
    "nnunet-128": (
        "split_tile split_tile split_tile split_tile",
        "split_tile split_tile split_tile split_tile",
    ),
    "nnunet-32-cf": (
        "shared_rows block_rows/4 shared_rows/2 block_rows/8",
        "split_rows split_runs split_rows split_runs",
    ),
    "mnist-tutorial": (
        "tile/8 tile/8 tile/8 tile/8",
        "tile tile tile tile",
    ),
    "mnist-tutorial-ln1": (
        "tile tile tile tile",
        "tile tile tile tile",
    ),
    "vit-b": (
        "warp_rows block_rows warp_rows block_rows",
        "warp_rows block_rows warp_rows block_rows",
    ),
    "bert-base": (
        "warp_rows block_rows warp_rows block_rows",
        "warp_rows block_rows warp_rows block_rows",
    ),
    "gpt2-xl": (
        "warp_rows block_rows block_rows block_rows",
        "warp_rows block_rows block_rows block_rows",
    ),
    "gpt3": (
        "block_rows block_rows/2 shared_rows block_rows/2",
        "block_rows split_rows shared_rows split_rows",
    ),
    "swin-stage1": (
        "warp_rows warp_rows warp_rows warp_rows",
        "warp_rows warp_rows warp_rows warp_rows",
    ),
    "llama-7b": (
        "block_rows block_rows block_rows block_rows",
        "block_rows block_rows block_rows block_rows",
    ),
    "llama-70b": (
        "block_rows block_rows block_rows block_rows/2",
        "block_rows block_rows block_rows split_rows",
    ),
    "gemma-head": (
        "warp_rows warp_rows warp_rows warp_rows",
        "warp_rows warp_rows warp_rows warp_rows",
    ),
    "long-row": (
        "shared_rows/16 split_rows split_rows split_rows",
        "split_rows split_rows split_rows split_rows",
    ),
    "short-row": (
        "warp_rows warp_rows warp_rows warp_rows",
        "warp_rows warp_rows warp_rows warp_rows",
    ),
}


def regime(shape, dtype, device, direction):
    made = plan(shape, dtype, device, direction)
    cluster = made["launches"][0]["cluster"]
    return made["variant"] + (f"/{cluster}" if cluster > 1 else "")


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


def test_every_regime_is_among_them():
    found = {
        each.partition("/")[0]
        for regimes in REGIMES.values()
        for text in regimes
        for each in text.split()
    }
    variants = {"warp_rows", "block_rows", "shared_rows", "split_rows"}
    assert found == variants | {"runs", "split_runs", "tile", "split_tile"}


@pytest.mark.parametrize(
    "shape",
    [shape for shape in SHAPES if shape.op == "group_norm"],
    ids=lambda shape: shape.name,
)
def test_masks_are_for_kernels_that_split(shape):
    for direction in ("forward", "backward"):
        made = plan(shape, "bfloat16", "h100", direction, has_mask=True)
        assert made["variant"].startswith("split_")
        kernels = [launch["kernel"] for launch in made["launches"]]
        assert ("CountMask" in kernels) == (direction == "backward")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_parameters_of_each_position_are_read_and_written_once(shape):
    for device in ("h100", "t4"):
        common, own = (
            plan(shape, "float32", device, "backward", per_position=per_position)
            for per_position in (False, True)
        )
        assert "SumParams" not in [each["kernel"] for each in own["launches"]]
        assert own["param_bytes"] == 0
        assert own["least_bytes"] > common["least_bytes"]
