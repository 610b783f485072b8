"""`fusednorm explain`, and the limits that every plan keeps on every known device."""

import json
import math
from pathlib import Path

import pytest
from canonical import SHAPES
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
    for part in (
        "h100, 3350 GB/s",
        "forward:",
        "backward:",
        "second_order:",
        "blocks of",
    ):
        assert part in text
    assert text.count("an estimate of the plan, not a measurement") == 3


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


@pytest.mark.parametrize(
    ("options", "variant", "directions"),
    [
        ("--mask", "split_tile", 2),
        ("--parameters-of sample", "tile", 3),
        ("--parameters-of position", "tile", 2),
    ],
)
def test_masks_and_parameters(options, variant, directions, capsys):
    cli.main([*ARGUMENTS, "--device", "h100", "--json", *options.split()])
    (entry,) = json.loads(capsys.readouterr().out)
    plans = [entry[each] for each in explain.DIRECTIONS if each in entry]
    assert len(plans) == directions
    cli.main([*ARGUMENTS, "--device", "h100", "--device", "t4", *options.split()])
    # The second order takes one sample after the other.
    assert ("2 x " in capsys.readouterr().out) == (options.endswith("sample"))
    assert [plan["variant"] for plan in plans[:2]] == [variant] * 2


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
        ("--op group_norm --shape 2,64 --groups 5", "groups must divide"),
        ("--op layer_norm --shape 2,64 --axis 5", "axes are out of range"),
        ("--op layer_norm --shape 2,x", "argument --shape: invalid"),
        ("--op layer_norm --shape 2,99999999999999999999", "argument --shape"),
        ("--op layer_norm --shape=-2,64", "shape must have sizes >= 0"),
        ("--op layer_norm --shape 9999999,9999999", "at most 2^38 elements"),
        ("--op layer_norm --shape 2,64 --dtype int8", "argument --dtype"),
        ("--op layer_norm --shape 2,64 --param-dtype int8", "argument --param-dtype"),
    ],
)
def test_errors(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["explain", *arguments.split()])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_options_reach_the_plan(capsys):
    """--misaligned, --param-dtype and several axes are what the plan is made for."""
    options = "--misaligned --param-dtype bfloat16 --axis=-2,-1 --device t4 --json"
    cli.main(f"explain --op layer_norm --shape 8,24,320 {options}".split())
    (entry,) = json.loads(capsys.readouterr().out)
    for direction in explain.DIRECTIONS:
        made = _native.plan(
            "layer_norm",
            [8, 24, 320],
            "bfloat16",
            axes=[-2, -1],
            has_gamma=True,
            has_beta=True,
            param_dtype="bfloat16",
            device="t4",
            direction=direction,
            aligned=False,
        )
        assert made["width"] == 1
        assert {name: entry[direction][name] for name in made} == made


def test_a_device_of_unknown_bandwidth_has_no_times():
    (entry,) = explain.collect(op="rms_norm", shape=(8, 64), devices=["h100"])
    for direction in explain.DIRECTIONS:
        entry[direction]["seconds_at_bandwidth"] = None
    text = explain.render([entry | {"bandwidth": 0.0}])
    assert text.startswith("h100, unknown bandwidth\n")
    assert text.count("at bandwidth     unknown") == 3


@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "misaligned"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_plans_keep_the_limits_of_every_device(shape, aligned):
    for dtype in explain.DTYPES:
        report = explain.collect(
            op=shape.op,
            shape=shape.shape,
            dtype=dtype,
            axes=shape.axes,
            groups=shape.groups or None,
            activation=shape.activation,
            residual=shape.residual,
            aligned=aligned,
            devices=list(DEVICES),
        )
        bytes_of_x = math.prod(shape.shape) * int(dtype.strip("abflot")) // 8
        for entry in report:
            assert ("second_order" in entry) == (shape.activation == "none")
            for direction in explain.DIRECTIONS:
                if direction not in entry:
                    continue
                fields = entry[direction]
                where = (entry["device"], dtype, direction, fields)
                assert fields["variant"] in explain.VARIANTS, where
                assert fields["bytes_moved"] >= fields["least_bytes"], where
                assert fields["workspace_bytes"] <= max(64 << 20, bytes_of_x), where
                for launch in fields["launches"]:
                    check_launch(launch, DEVICES[entry["device"]], where)


def check_launch(launch, limits, where):
    assert launch["threads"] in range(32, 1025, 32), where
    assert 0 < launch["blocks"] < 2**31, where
    assert launch["shared_bytes"] <= limits["shared_bytes_per_block"], where
    assert launch["cluster"] <= limits["max_cluster"], where
    assert launch["blocks"] % launch["cluster"] == 0, where


def test_every_variant_has_an_explanation():
    text = (Path(__file__).parents[1] / "cuda" / "plan.cc").read_text()
    for variant in explain.VARIANTS:
        assert f'"{variant}"' in text
