"""`fusednorm explain`, and the limits that every plan keeps on every known device."""

import json
import math
import re
from pathlib import Path

import pytest
from fusednorm import _native, cli, explain
from support import plan_limits
from support.canonical import SHAPES, candidates, plan

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
    assert "predicted" not in text
    assert "measured" not in text


def test_text_has_what_a_multiprocessor_has_in_flight(capsys):
    options = ["--op", "layer_norm", "--shape", "64,197,768"]
    cli.main(["explain", *options, "--device", "h200"])
    lines = capsys.readouterr().out.splitlines()
    (entry,) = explain.collect(op="layer_norm", shape=(64, 197, 768), devices=["h200"])
    launch = entry["forward"]["launches"][0]
    place = lines.index(
        f"  RowsForward: {launch['blocks']:,} blocks of {launch['threads']} threads, "
        "0 bytes of shared memory"
    )
    threads = launch["threads_resident"]
    loads = threads * launch["bytes_in_flight"]
    assert threads > 0
    assert lines[place + 1] == (
        f"    on each multiprocessor {threads:,} threads, with {loads:,} bytes of "
        "loads in flight"
    )
    assert lines[place - 1].startswith("  general no, width 8, vectors ")


@pytest.mark.parametrize(
    ("blocks", "threads"), [(1, 128), (132, 128), (133, 256), (10**6, 1024)]
)
def test_few_blocks_leave_few_threads_in_flight(blocks, threads):
    launch = {"blocks": blocks, "threads": 128, "threads_resident": 1024}
    assert explain.in_flight(launch, 132) == threads


def test_several_devices_make_a_table(capsys):
    cli.main([*ARGUMENTS, "--device", "h100", "--device", "t4"])
    header, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert header.split()[:3] == ["device", "direction", "scheme"]
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
            fields["dram_bytes"] / entry["bandwidth"]
        )
        assert [each["kernel"] for each in fields["traffic"]] == [
            each["kernel"] for each in fields["launches"]
        ]
        assert fields["dram_bytes"] == sum(
            each["read_bytes"] + each["written_bytes"] for each in fields["traffic"]
        )
        assert fields["dram_bytes"] >= fields["least_bytes"]


@pytest.mark.parametrize(
    ("options", "scheme", "directions"),
    [
        ("--mask", "stream", 2),
        ("--parameters-of sample", "stream", 3),
        ("--parameters-of position", "stream", 2),
    ],
)
def test_masks_and_parameters(options, scheme, directions, capsys):
    cli.main([*ARGUMENTS, "--device", "h100", "--json", *options.split()])
    (entry,) = json.loads(capsys.readouterr().out)
    plans = [entry[each] for each in explain.DIRECTIONS if each in entry]
    assert len(plans) == directions
    cli.main([*ARGUMENTS, "--device", "h100", "--device", "t4", *options.split()])
    # The second order takes one sample after the other.
    assert ("2 x " in capsys.readouterr().out) == (options.endswith("sample"))
    assert [plan["scheme"] for plan in plans[:2]] == [scheme] * 2


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
        assert made["geometry"]["width"] == 1
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
    composed = shape.activation != "none" or shape.residual
    for dtype in explain.DTYPES:
        bytes_of_x = math.prod(shape.shape) * int(dtype.strip("abflot")) // 8
        for name, device in DEVICES.items():
            for direction in explain.DIRECTIONS[: 2 if composed else 3]:
                fields = plan(shape, dtype, name, direction, aligned=aligned)
                assert fields["workspace_bytes"] <= max(64 << 20, bytes_of_x)
                plan_limits.check(fields, device)


# Problems that no canonical shape is: a mask, and no elements.
OTHERS = [
    ("group_norm", [2, 0, 4], {"axes": [-1], "groups": 2}),
    ("group_norm", [2, 64, 96], {"axes": [1], "groups": 2, "has_mask": True}),
]


def all_candidates():
    """Yields every plan of the canonical shapes and of `OTHERS` on every device."""
    for device in DEVICES:
        for direction in ("forward", "backward"):
            for dtype in explain.DTYPES:
                for shape in SHAPES:
                    yield from candidates(shape, dtype, device, direction)
            for op, shape, options in OTHERS:
                yield from _native.candidates(
                    op, shape, "float32", device=device, direction=direction, **options
                )
        for op, axis in (("layer_norm", -1), ("layer_norm", 1), ("group_norm", 1)):
            yield from _native.candidates(
                op,
                [8, 64, 96],
                "float32",
                axes=[axis],
                groups=2 if op == "group_norm" else 0,
                has_gamma=True,
                device=device,
                direction="second_order",
            )


def test_every_scheme_has_an_explanation_and_every_explanation_a_scheme():
    assert {plan["scheme"] for plan in all_candidates()} == set(explain.SCHEMES)


def test_kernels_are_named_as_in_their_source():
    folder = Path(__file__).parents[2] / "cuda" / "kernels"
    kernel = re.compile(r"^FUSEDNORM_KERNEL\([^;{]*?^(\w+)\(", re.MULTILINE | re.DOTALL)
    defined = {
        name
        for path in folder.rglob("*.cuh")
        for name in kernel.findall(path.read_text())
    }
    launched = {
        launch["kernel"] for plan in all_candidates() for launch in plan["launches"]
    }
    assert launched == defined
