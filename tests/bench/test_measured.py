"""What `fusednorm explain` says of measurements, and that it is what was measured."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import measured as measured_script
from fusednorm import _build_info, _measured, _native, cli, explain
from fusednorm.bench import records
from support.canonical import SHAPES

RESULTS = Path(measured_script.__file__).parent / "results"
H200 = records.read(RESULTS / "h200" / "kernels.json")
COMMIT = H200["environment"]["commit"]
DEVICES = _native.known_devices()
VIT_B = {"op": "layer_norm", "shape": (64, 197, 768)}


def measured(device="h200", direction="forward", **arguments):
    (entry,) = explain.collect(devices=[device], **(VIT_B | arguments))
    return entry[direction]["measured"]


def test_the_package_has_a_file_for_the_results_of_each_known_device():
    results = {path.parent.name for path in RESULTS.glob("*/kernels.json")}
    packaged = {path.stem for path in _measured.FOLDER.glob("*.json")}
    assert packaged == results & set(DEVICES)


@pytest.mark.parametrize("name", [path.stem for path in _measured.FOLDER.glob("*")])
def test_the_files_of_the_package_are_what_the_results_give(name, tmp_path):
    results = RESULTS / name / "kernels.json"
    measured_script.main([str(results), "--out", str(tmp_path)])
    written = (tmp_path / f"{name}.json").read_text()
    assert written == (_measured.FOLDER / f"{name}.json").read_text()


def test_each_case_of_the_results_is_found():
    shapes = {each.name: each for each in SHAPES}
    for case in H200["cases"]:
        shape = shapes[case["shape"]]
        grouped = shape.family == "group_norm"
        found = measured(
            direction=case["pass"],
            op=shape.family,
            shape=shape.shape,
            dtype=case["dtype"],
            axes=shape.axes,
            groups=shape.groups if grouped else None,
            activation=shape.activation,
            residual=shape.residual,
        )
        ours = case["results"][records.KERNEL]
        assert found["microseconds"] == pytest.approx(ours["median_us"], abs=0.005)
        assert found["share_of_copy"] == pytest.approx(
            ours["share_of_copy"], abs=0.00005
        )
        assert found["commit"] == COMMIT


def test_a_case_that_is_not_that_of_its_name_is_refused():
    case = H200["cases"][0] | {"dims": [1, 2]}
    with pytest.raises(ValueError, match="must have its own shape"):
        measured_script.measured(H200 | {"cases": [case]})


def test_the_device_that_is_here_is_recognised_by_its_full_name(monkeypatch):
    here = DEVICES["h200"] | {"name": H200["environment"]["device"]}
    monkeypatch.setattr(_native.cuda, "devices", lambda: [here])
    (entry,) = explain.collect(**VIT_B)
    assert entry["device"] == "NVIDIA H200"
    assert entry["forward"]["measured"] == measured() is not None


@pytest.mark.parametrize(
    "name", sorted({*DEVICES, "NVIDIA H200 NVL", "NVIDIA H100", "H200", ""} - {"h200"})
)
def test_no_other_device_has_its_times(name, monkeypatch):
    here = DEVICES["h200"] | {"name": name}
    monkeypatch.setattr(_native.cuda, "devices", lambda: [here])
    (entry,) = explain.collect(**VIT_B)
    assert entry["forward"]["measured"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"shape": (64, 196, 768)},
        {"axes": (1,)},
        {"op": "rms_norm"},
        {"dtype": "float16"},
        {"activation": "relu"},
        {"residual": True},
        {"gamma": False},
        {"beta": False},
        {"parameters_of": "sample"},
        {"zero_centered": True},
        {"param_dtype": "bfloat16"},
        {"aligned": False},
    ],
    ids=str,
)
def test_no_other_problem_has_its_time(arguments):
    assert measured() is not None
    assert measured(**arguments) is None


@pytest.mark.parametrize("axes", [(-1,), (2,)])
@pytest.mark.parametrize("param_dtype", ["auto", "float32"])
def test_a_problem_has_several_spellings(axes, param_dtype):
    assert measured(axes=axes, param_dtype=param_dtype) == measured()


def test_instances_are_groups_of_one_channel():
    common = {"shape": (1, 64, 64, 256), "activation": "relu"}
    of_groups = measured(op="group_norm", groups=256, **common)
    assert of_groups == measured(op="instance_norm", **common) is not None


def test_the_second_order_was_not_measured():
    assert measured(direction="second_order") is None


CHANGED = "its kernels may have changed since"


@pytest.mark.parametrize(
    ("built", "same"),
    [
        (COMMIT, True),
        (COMMIT + "0123", True),
        (COMMIT[:-1], True),
        ("0123456", False),
        (None, None),
    ],
)
def test_measurements_of_another_commit_say_so(built, same, monkeypatch, capsys):
    monkeypatch.setattr(_build_info, "COMMIT", built, raising=False)
    assert measured()["of_this_build"] is same
    found = measured()
    arguments = ["explain", "--op", "layer_norm", "--shape", "64,197,768"]
    arguments += ["--device", "h200"]
    for devices in ([], ["--device", "t4"]):
        cli.main([*arguments, *devices])
        text = capsys.readouterr().out
        share = f"{found['share_of_copy']:.0%} of a copy's speed"
        assert f"{found['microseconds']:.1f} us, {share}" in text
        assert text.count(f"Measured at commit {COMMIT} on ") == 1
        assert (CHANGED in text) == (same is not True)
        assert ("built from another commit" in text) == (same is False)
