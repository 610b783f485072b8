"""`fusednorm explain`, and the limits that every plan keeps on every known device."""

import json
from pathlib import Path

import pytest
from canonical import SHAPES, plan
from fusednorm import _native, cli, explain

ARGUMENTS = [
    "explain",
    "--op",
    "group_norm",
    "--shape",
    "2,64,64,320",
    "--groups",
    "32",
]
DEVICES = _native.known_devices()


def test_text(capsys):
    assert cli.main([*ARGUMENTS, "--device", "h100"]) == 0
    text = capsys.readouterr().out
    for part in ("h100, 3350 GB/s", "forward:", "backward:", "blocks of", "workspace"):
        assert part in text
    assert text.count("an estimate of the plan, not a measurement") == 2


def test_several_devices_make_a_table(capsys):
    cli.main([*ARGUMENTS, "--device", "h100", "--device", "t4"])
    header, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert header.split()[:3] == ["device", "direction", "variant"]
    assert [row.split()[:2] for row in rows] == [
        [device, direction]
        for device in ("h100", "t4")
        for direction in explain.DIRECTIONS
    ]


def test_json(capsys):
    cli.main([*ARGUMENTS, "--device", "a100", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["device"] == "a100"
    for direction in explain.DIRECTIONS:
        fields = entry[direction]
        assert fields["seconds_at_bandwidth"] == pytest.approx(
            fields["bytes_moved"] / entry["bandwidth"]
        )


def test_instance_norm_is_a_group_per_channel():
    common = {"shape": (2, 64, 64, 32), "devices": ["h100"]}
    assert explain.collect(op="instance_norm", **common) == explain.collect(
        op="group_norm", groups=32, **common
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--op group_norm --shape 2,64", "group_norm needs groups"),
        ("--op layer_norm --shape 2,64 --groups 2", "groups is only for group_norm"),
        ("--op layer_norm --shape 2,64 --device x", "device must be one of a10,"),
        ("--op layer_norm --shape 2,64 --activation x", "activation must be one of"),
        ("--op group_norm --shape 2,64 --groups 5", "groups"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(SystemExit, match=message):
        cli.main(["explain", *arguments.split()])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_plans_keep_the_limits_of_the_device(shape, device):
    limits = DEVICES[device]
    for dtype in explain.DTYPES:
        for direction in explain.DIRECTIONS:
            fields = plan(shape, dtype, device, direction)
            where = (dtype, direction, fields)
            tensor = fields["least_bytes"]
            assert fields["variant"] in explain.VARIANTS, where
            assert 0 < fields["predicted_share"] <= 1, where
            assert fields["bytes_moved"] >= fields["least_bytes"], where
            assert fields["workspace_bytes"] <= max(64 << 20, tensor // 2), where
            for launch in fields["launches"]:
                assert launch["threads"] % 32 == 0, where
                assert 0 < launch["threads"] <= 1024, where
                assert 0 < launch["blocks"] < 2**31, where
                assert launch["shared_bytes"] <= limits["shared_bytes_per_block"], where
                assert launch["cluster"] <= limits["max_cluster"], where
                assert launch["blocks"] % launch["cluster"] == 0, where


def test_every_variant_has_an_explanation():
    text = (Path(__file__).parents[1] / "cuda" / "plan.cc").read_text()
    for variant in explain.VARIANTS:
        assert f'"{variant}"' in text
