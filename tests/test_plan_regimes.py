"""Which kernels the canonical shapes get: a change of the plan shows here.

Each entry: on an H100, on a T4; on each forward and backward in bfloat16, then in
float32; the scheme, whether groups are read twice where a scheme can do either, and the
blocks of a cluster where there are several.
"""

import pytest
from canonical import SHAPES, plan
from fusednorm import _native, explain

DEVICES = _native.known_devices()

REGIMES = {
    "sd15-unet-64": (
        "tile/16 tile/16 tile/16 tile/16",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "sd15-unet-32": (
        "tile/16 tile/16 tile/8 tile/8",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "sd15-unet-16": (
        "tile/4 tile/4 tile/4 tile/4",
        "tile tile_twice tile tile_twice",
    ),
    "sd15-unet-8-skip": (
        "tile tile tile/2 tile/2",
        "tile tile tile tile",
    ),
    "sdxl-unet-128": (
        "tile/16 tile_twice tile/16 tile_twice",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "sd-vae-512": (
        "tile_twice tile_twice tile_twice tile_twice",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "sd-vae-256": (
        "tile_twice tile_twice tile_twice tile_twice",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "sd15-unet-64-cf": (
        "split_rows runs/4 split_rows runs/4",
        "split_rows runs_twice split_rows runs_twice",
    ),
    "sdxl-unet-128-cf": (
        "split_rows runs/8 split_rows runs/16",
        "split_rows runs_twice split_rows runs_twice",
    ),
    "rn50-gn-56": (
        "tile/8 tile/16 tile/4 tile/16",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "rn50-gn-28": (
        "tile/2 tile/4 tile tile/4",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "rn50-gn-14": (
        "tile tile tile tile",
        "tile tile_twice tile tile_twice",
    ),
    "rn50-gn-7": (
        "tile tile tile tile",
        "tile tile tile tile",
    ),
    "bit-stem-112": (
        "tile/16 tile/16 tile/16 tile/16",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "cyclegan-256": (
        "tile_twice tile_twice tile_twice tile_twice",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "cyclegan-64": (
        "tile_twice tile_twice tile/16 tile/16",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "pix2pix-128-cf": (
        "rows runs split_rows runs/2",
        "rows runs_twice split_rows runs_twice",
    ),
    "style-1024": (
        "tile_twice tile_twice tile_twice tile_twice",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "nnunet-128": (
        "tile_twice tile_twice tile_twice tile_twice",
        "tile_twice tile_twice tile_twice tile_twice",
    ),
    "nnunet-32-cf": (
        "split_rows runs/2 split_rows runs/4",
        "split_rows runs_twice split_rows runs_twice",
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
        "split_rows columns split_rows columns",
        "split_rows columns split_rows columns",
    ),
    "short-row": (
        "rows rows rows rows",
        "rows rows rows rows",
    ),
}


def regime(shape, dtype, device, direction):
    made = plan(shape, dtype, device, direction)
    cluster = made["launches"][0]["cluster"]
    name = explain.scheme_of(made).replace(", read ", "_")
    return name + (f"/{cluster}" if cluster > 1 else "")


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
    schemes = {scheme.replace(", read ", "_") for scheme in explain.SCHEMES}
    # The second order is planned apart; only empty tensors get no kernel.
    assert found == schemes - {"empty", "second_order"}


@pytest.mark.parametrize(
    "shape",
    [shape for shape in SHAPES if shape.op == "group_norm"],
    ids=lambda shape: shape.name,
)
def test_groups_with_a_mask_are_read_twice(shape):
    for direction in ("forward", "backward"):
        made = plan(shape, "bfloat16", "h100", direction, has_mask=True)
        assert made["scheme"] == "split_rows" or not made["geometry"]["resident"]
        kernels = [launch["kernel"] for launch in made["launches"]]
        assert ("CountMask" in kernels) == (direction == "backward")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_parameters_of_each_position_are_read_and_written_once(shape):
    for device in ("h100", "t4"):
        common, own = (
            plan(shape, "float32", device, "backward", per_position=per_position)
            for per_position in (False, True)
        )
        assert "ColumnSums" not in [each["kernel"] for each in own["launches"]]
        assert own["param_bytes"] == 0
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
            schemes = (explain.scheme_of(common), "split_rows")
            assert explain.scheme_of(own) in schemes
            assert own["repeats"] == 1
            blocks = common["launches"][0]["blocks"]
            fewest = min(blocks, DEVICES[device]["multiprocessors"])
            assert own["launches"][0]["blocks"] >= fewest
