"""Training steps, comparisons, the committed results, and the scripts beside them."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fusednorm.bench import (
    compare,
    models,
    networks,
    page,
    plots,
    records,
    run,
    table,
)
from support.fake_machine import FakeMachine

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"
FOLDERS = sorted(path for path in RESULTS.iterdir() if path.is_dir())


# Models


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_the_norms_of_models_are_converted_fused_or_left_out(name):
    made = models.models_of(name, "float32", gpu=False)
    norms = {
        kind: [each for each in model.layers if "Normalization" in type(each).__name__]
        for kind, model in made.items()
    }
    modules = {
        kind: {type(each).__module__.split(".")[0] for each in found}
        for kind, found in norms.items()
    }
    assert modules["keras"] == {"keras"}
    assert modules["fusednorm"] == modules["fused"] == {"fusednorm"}
    assert not norms["none"]
    plain, fused = (models.converted(made[kind]) for kind in ("fusednorm", "fused"))
    assert plain == {"replaced": len(norms["keras"]), "left": 0}
    assert fused["replaced"] > plain["replaced"]
    for ours, theirs in zip(
        made["fused"].get_weights(), made["keras"].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_models_of_gpus_are_larger():
    for name, network in networks.NETWORKS.items():
        assert network.cpu.keys() == network.gpu.keys(), name
        assert network.cpu["batch"] <= network.gpu["batch"]


class NoMemory(FakeMachine):
    def peak_extra_bytes(self, call):
        call()
        return 2**21


@pytest.mark.parametrize(
    ("policy", "modes"),
    [("float32", models.MODES), ("mixed_bfloat16", ["graph"]),
     ("mixed_float16", ["graph"])],
)  # fmt: skip
def test_training_steps_are_reported_and_their_losses_agree(
    policy, modes, tmp_path, monkeypatch
):
    small = {"batch": 2, "tokens": 8, "width": 16, "depth": 1, "heads": 2}
    network = networks.Network(networks.llama, small, small)
    monkeypatch.setitem(models.NETWORKS, "tiny", network)
    made = run.Run(
        [models.ModelJob("tiny", policy, modes, 2, NoMemory())],
        NoMemory(),
        {},
        settings={"suite": "models"},
        json=tmp_path / "models.json",
        progress=lambda *_: None,
        commit="abc",
    )
    made.execute()
    report = records.read(tmp_path / "models.json")
    assert (made.code, report["failed"]) == (0, [])
    (entry,) = report["models"]
    assert records.key(entry) == ("tiny", policy, models.STEP)
    assert entry["wrong"] == []
    wanted = {f"{kind}-{mode}" for kind in models.KINDS for mode in modes}
    assert set(entry["results"]) == wanted
    assert set(entry["first_losses"]) == {w for w in wanted if not w.startswith("none")}
    for losses in entry["first_losses"].values():
        # Steps change the model, and every model begins with the same weights.
        assert losses[0] > losses[1] > losses[2]
    for name, result in entry["results"].items():
        assert result["peak_extra_bytes"] == 2**21
        assert ("share_in_norms" in result) == (not name.startswith("none"))
    text = table.render(report)
    assert "fused: ours after convert(fuse=True)" in text
    assert [path.stem for path in plots.draw_all(report, tmp_path)] == [
        "training_steps"
    ]


@pytest.mark.parametrize("wrong", [1.1, float("nan")])
def test_a_model_whose_losses_differ_is_named(wrong):
    losses = {
        "keras-graph": [1.0, 0.9],
        "fused-graph": [1.0005, 0.9],
        "fusednorm-xla": [1.0, wrong],
        "none-graph": [7.0, 7.0],
    }
    assert models.wrong_losses(losses, 1e-3) == ["fusednorm-xla"]


def test_the_norms_share_is_what_a_step_loses_without_them():
    assert models.share_in_norms([4.0, 2.0, 9.0], [3.0, 1.0, 9.0]) == 0.25


def test_table_of_models():
    result = {"median_us": 2e5, "peak_extra_bytes": 2**21, "first_call_ms": 1500.0}
    entry = {
        "shape": "unet",
        "dtype": "float32",
        "pass": models.STEP,
        "absent": {"fused-xla": "failed: no memory"},
        "wrong": ["fused-graph"],
        "first_losses": {"fused-graph": [1.25, 0.5]},
        "results": {
            "keras-graph": result | {"share_in_norms": 0.3},
            "fused-graph": result | {"median_us": 1e5, "share_in_norms": 0.1},
            "none-graph": result,
        },
    }
    rows = table.model_rows({"models": [entry]})
    cells = ["unet", "float32", "fused", "graph", "100.00", "2.00", "10%", "2", "1.5"]
    assert [*cells, "1.25 0.5!"] in rows
    assert [
        "unet",
        "float32",
        "none",
        "graph",
        "200.00",
        "-",
        "-",
        "2",
        "1.5",
        "-",
    ] in rows


# Comparisons


def report_of(*medians, spread=0.01, device="Some GPU"):
    """A report with two results of each case, with numbers that were never measured."""

    def result(median):
        quartiles = [median * (1 - spread), median * (1 + spread)]
        return {"median_us": median, "quartiles_us": quartiles, "rounds": 9}

    cases = [
        {"shape": f"case-{i}", "dtype": "float32", "pass": "forward",
         "results": {records.KERNEL: result(median), "torch": result(50.0)}}
        for i, median in enumerate(medians)
    ]  # fmt: skip
    environment = {"device": device, "commit": "abc", "date": "2000-01-01"}
    return {"environment": environment, "cases": cases}


def test_changes_beyond_the_quartiles_count():
    old, new = report_of(100, 100, 100), report_of(90, 101, 110)
    ours = [c for c in compare.changes(old, new) if c.name == records.KERNEL]
    assert [each.verdict for each in ours] == [
        compare.FASTER, compare.SAME, compare.SLOWER,
    ]  # fmt: skip
    assert ours[0].ratio == pytest.approx(0.9)
    assert ours[0].noise == pytest.approx(0.02)


def test_the_same_change_in_more_noise_does_not_count():
    old, new = report_of(100, spread=0.1), report_of(90, spread=0.1)
    assert {each.verdict for each in compare.changes(old, new)} == {compare.SAME}


def test_a_comparison_has_a_line_for_each_of_ours_and_a_control():
    text = compare.render(report_of(100, 100, 7), report_of(50, 100))
    lines = [line.split() for line in text.splitlines()]
    assert lines[3][:7] == [
        "case-0", "float32", "forward", records.KERNEL, "100.0", "50.0", "0.500",
    ]  # fmt: skip
    assert (
        "ours: 1 faster, 1 within the noise; new time over old, geometric mean: 0.707"
        in text
    )
    assert "code did not change: 2 within the noise" in text
    assert "1 cases of the older report were not measured now" in text


def test_without_quartiles_the_noise_is_unknown():
    old = report_of(100)
    for case in old["cases"]:
        for result in case["results"].values():
            del result["quartiles_us"]
    (verdict,) = {each.verdict for each in compare.changes(old, report_of(50))}
    assert verdict == compare.UNKNOWN


def test_another_device_and_nothing_in_common_are_said():
    text = compare.render(report_of(1, device="A"), report_of(device="B"))
    assert "Another device: A, now B." in text
    assert "no figure of ours in common" in text


def test_committed_results_compare_with_themselves(capsys):
    from fusednorm import cli

    path = str(RESULTS / "h200" / "kernels.json")
    assert cli.main(["bench", "--from", path, "--compare", path]) == 0
    out = capsys.readouterr().out
    assert "geometric mean: 1.000" in out
    assert f" {compare.FASTER}," not in out
    assert f" {compare.SLOWER}" not in out


# The committed results


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_page_of_a_folder_is_drawn_from_its_json(folder, tmp_path, monkeypatch):
    """But for the images, whose bytes are another matplotlib's elsewhere."""
    for path in folder.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    images = {path.name for path in folder.glob("*.png")}

    def pretend(report, into, prefix=""):
        return [into / f"{prefix}{name}.png" for name in plots.PLOTS
                if f"{prefix}{name}.png" in images]  # fmt: skip

    monkeypatch.setattr(plots, "draw_all", pretend)
    assert page.draw(tmp_path).read_text() == (folder / page.PAGE).read_text()
    for path in tmp_path.glob("*.txt"):
        assert path.read_text() == (folder / path.name).read_text()
    assert all(name.startswith(tuple(p.stem for p in folder.glob("*.json")))
               for name in images)  # fmt: skip


def test_reports_say_what_they_are_of():
    reports = sorted(RESULTS.glob("*/*.json"))
    assert {path.parent for path in reports} == set(FOLDERS)
    for path in reports:
        report = records.read(path)
        assert report["kind"] == "bench"
        assert report["environment"]["device"]
        assert report["settings"]["suite"]
        assert records.entries(report), path
        assert report["environment"]["commit"]


def test_the_checks_of_the_h200_are_kept():
    report = records.read(RESULTS / "h200" / "layers.json")
    assert "44 of 44 checks passed" in table.checks(report)
    failed = copy.deepcopy(report)
    failed["checks"][3] |= {"status": "failed", "why": "no"}
    assert table.checks(failed)[0] == "43 of 44 checks passed"
    assert table.checks(failed)[1].startswith("failed: ")


# Scripts


@pytest.mark.parametrize("name", ["gpu_check.sh", "gpu_tensorflow.sh"])
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [(["--help"], 0, "--out DIR"), (["--no-such"], 64, "--help"), (["--out"], 64, "")],
)
def test_scripts_explain_themselves(name, arguments, code, text):
    done = subprocess.run(
        ["bash", str(BENCHMARKS / name), *arguments], capture_output=True, text=True
    )
    assert done.returncode == code
    assert text in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["sanitize.py", "profile_kernels.py"])
def test_without_a_gpu_programs_say_so(name):
    # No device is visible, whatever this machine has.
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 2
    assert "GPU tests: " in done.stderr


def test_other_json_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"schema": 0}))
    with pytest.raises(ValueError, match="schema 2, got 0"):
        records.read(path)
