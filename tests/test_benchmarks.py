"""The parts of the benchmarks that need no GPU: traffic, schedule, tables, plots."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gpu_environment
import gpu_problems
import gpu_report
import gpu_schedule
import gpu_timing
import models
import networks
import plot_gpu
import reference
from fusednorm.bench import timing, traffic

BENCHMARKS = Path(gpu_problems.__file__).parent
CASES = gpu_problems.all_cases()


def synthetic(shape="vit-b", dtype="bfloat16", direction="forward", microseconds=10.0):
    """A case of a report, with numbers that were never measured."""

    def result(factor, method="graph"):
        median = microseconds * factor
        return {
            "median_us": median,
            "quartiles_us": [median * 0.9, median * 1.1],
            "rounds": 15,
            "method": method,
            "gigabytes_per_second": 1000 / factor,
            "share_of_copy": 0.9 / factor,
        }

    return {
        "shape": shape,
        "dtype": dtype,
        "pass": direction,
        "least_bytes": 10**7,
        "errors": {"y": 0.25, "rstd": 0.5},
        "plan": {"scheme": "stream"},
        "results": {
            "fusednorm": result(1),
            "fusednorm calls": result(0.5, "calls"),
            "copy": result(0.9),
            "eager": result(3),
            "compile": result(1.5, "calls"),
        },
        "absent": {"quack": "no backward"},
    }


@pytest.fixture
def report():
    return {
        "schema": gpu_report.SCHEMA,
        "kind": "kernels",
        "environment": {
            "device": "Some GPU",
            "date": "2000-01-01",
            "commit": "abc",
            "dirty": True,
        },
        "copy": {"bytes_per_second": 3e12},
        "peers": {"eager": "1.0", "liger": "missing: not installed"},
        "cases": [
            synthetic(),
            synthetic(direction="backward", microseconds=30),
            synthetic("llama-7b", "float32", microseconds=20),
        ],
        "cut": [{"shape": "nnunet-128", "dtype": "float16", "pass": "forward",
                 "why": "no time"}],
        "failed": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("backward", "residual", "tensors"),
    [(False, False, 2), (False, True, 4), (True, False, 3), (True, True, 4)],
)
def test_least_traffic(backward, residual, tensors):
    moved = traffic.least_bytes(1000, 2, backward=backward, residual=residual)
    assert moved == 2000 * tensors


def test_share_is_one_at_the_speed_of_a_copy():
    assert traffic.share_of_copy(3 * 10**9, 1e-3, 3e12) == pytest.approx(1)
    assert traffic.share_of_copy(3 * 10**9, 2e-3, 3e12) == pytest.approx(0.5)
    assert traffic.gigabytes_per_second(3 * 10**9, 1e-3) == pytest.approx(3000)


def test_canonical_shapes_are_problems_that_the_reference_takes():
    problems = gpu_problems.all_problems()
    assert len({problem.name for problem in problems}) == len(problems) == 32
    for problem in problems:
        shape, reduced, _ = reference.view(problem.norm, problem.shape)
        assert math.prod(shape) == math.prod(problem.shape)
        assert reduced
        assert problem.norm.activation in reference.ACTIVATIONS


def test_cases_are_small_to_large_in_each_type():
    assert len(CASES) == 32 * 3 * 2
    for dtype in gpu_problems.DTYPES:
        sizes = [
            case.least_bytes
            for case in CASES
            if case.dtype == dtype
            and case.direction == "forward"
            and not case.problem.residual
        ]
        assert sizes == sorted(sizes)


def test_unknown_shapes_are_named():
    with pytest.raises(ValueError, match="got no-such-shape"):
        gpu_problems.all_cases(["vit-b", "no-such-shape"])


@pytest.mark.parametrize("set_bytes", [1, 10**5, 10**7, 10**8, 3 * 10**8])
def test_buffers_exceed_twice_the_cache(set_bytes):
    cache = 50 * 2**20
    count = timing.number_of_sets(set_bytes, cache)
    assert 2 <= count <= timing.MOST_SETS
    full = count == timing.MOST_SETS
    assert count * set_bytes >= 2 * cache or full


def test_a_huge_set_is_enough_alone():
    assert timing.number_of_sets(10**9, 50 * 2**20) == 1


def test_every_set_is_used():
    for traffic_bytes in (1, 10**6, 10**10):
        assert gpu_timing.number_of_calls(256, traffic_bytes) >= 256
    assert gpu_timing.number_of_calls(1, 10**10) == 1


def test_summary_is_median_and_quartiles():
    times = list(np.arange(1, 10) * 1e-6)
    summary = timing.summary(times)
    assert summary["median_us"] == pytest.approx(5)
    assert summary["quartiles_us"] == pytest.approx([3, 7])
    assert timing.summary([2e-6])["median_us"] == pytest.approx(2)


def test_without_time_nothing_fits_and_large_cases_are_the_first_to_go():
    small, large = CASES[0], max(CASES, key=lambda case: case.least_bytes)
    schedule = gpu_schedule.Schedule(budget=0.6)
    assert schedule.fits(small)
    assert not schedule.fits(large)
    assert not gpu_schedule.Schedule(budget=0).fits(small)


def test_compiling_waits_until_everything_else_has_time():
    assert gpu_schedule.Schedule(budget=1000).may_compile(CASES[0], CASES[1:])
    assert not gpu_schedule.Schedule(budget=20).may_compile(CASES[0], CASES[1:])
    assert gpu_schedule.Schedule(budget=20).may_compile(CASES[0], [])


def test_a_slow_first_case_does_not_cut_the_rest():
    schedule = gpu_schedule.Schedule(budget=240)
    schedule.took(CASES[0], 30, 0)
    assert schedule.scale <= 3
    assert schedule.fits(CASES[1])


def test_json_round_trip(report, tmp_path):
    path = tmp_path / "new folder" / "kernels.json"
    gpu_report.write(path, report)
    assert gpu_report.read(path) == report
    assert [each.name for each in path.parent.iterdir()] == ["kernels.json"]


def test_other_json_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"schema": 0}))
    with pytest.raises(ValueError, match="schema 1, got 0"):
        gpu_report.read(path)


def test_best_peer_is_neither_the_copy_nor_ourselves(report):
    name, ratio = gpu_report.best_peer(report["cases"][0])
    assert name == "compile"
    assert ratio == pytest.approx(1.5)


def test_table(report):
    text = gpu_report.table(report)
    assert "Some GPU, 2000-01-01, commit abc with changes" in text
    assert "liger: missing: not installed" in text
    (line,) = [each for each in text.splitlines() if each.startswith("vit-b  ")
               and "forward" in each]  # fmt: skip
    cells = line.split()
    assert cells[3:8] == ["stream", "10.0", "1000", "90.0%", "9.0"]
    assert cells[8:] == ["3.00", "1.50*", "-", "-", "0.50"]
    assert "cut: nnunet-128 float16 forward: no time" in text


def test_reports_of_before_there_were_schemes_have_the_variant(report):
    report["cases"][0]["plan"] = {"variant": "warp_rows"}
    cells = gpu_report.row(report["cases"][0])
    assert cells[gpu_report.HEADINGS.index("scheme")] == "warp_rows"


def test_a_nan_is_the_worst_error(report):
    case = copy.deepcopy(report["cases"][0])
    case["errors"]["dx"] = math.nan
    assert math.isnan(gpu_report.worst_error(case))
    assert gpu_report.worst_error({"errors": None}) is None


def test_slowest_cases_come_first(report):
    report["cases"][1]["results"]["fusednorm"]["share_of_copy"] = 0.2
    slow = gpu_report.slowest(report, 1)
    assert [each["pass"] for each in slow] == ["backward"]


def test_plots_come_from_the_json_alone(report, tmp_path):
    path = tmp_path / "kernels.json"
    gpu_report.write(path, report)
    assert plot_gpu.main([str(path)]) == 0
    for name in ("share_by_family", "share_of_copy", "best_peer"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_training_steps_are_drawn_where_a_mode_or_a_kind_is_missing(tmp_path):
    path = BENCHMARKS / "results/h200/models.json"
    assert plot_gpu.main([str(path), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "training_steps.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused(report, tmp_path):
    path = tmp_path / "kernels.json"
    gpu_report.write(path, report | {"cases": []})
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_gpu.main([str(path)])
    gpu_report.write(path, report | {"kind": "tensorflow"})
    with pytest.raises(ValueError, match="got 'tensorflow'"):
        plot_gpu.main([str(path)])


def test_commit_is_that_of_git_or_the_one_given(monkeypatch):
    monkeypatch.delenv("FUSEDNORM_COMMIT", raising=False)
    assert gpu_environment.commit("abc")["commit"] == "abc"
    monkeypatch.setenv("FUSEDNORM_COMMIT", "def")
    assert gpu_environment.commit() == {"commit": "def", "dirty": None, "from": "given"}


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


@pytest.mark.parametrize("name", ["gpu_kernels.py", "gpu_sanitize.py"])
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


@pytest.mark.parametrize("name", networks.MODELS)
def test_models_with_our_norms_have_the_weights_of_those_with_keras(name):
    make, _ = networks.MODELS[name]
    shapes = {
        kind: [each.shape for each in make(networks.Norms(kind)).get_weights()]
        for kind in networks.KINDS
    }
    assert shapes["fusednorm"] == shapes["keras"]
    assert len(shapes["none"]) < len(shapes["keras"])


def test_models_that_nobody_knows_are_named(capsys):
    with pytest.raises(SystemExit):
        models.parse(["--models", "unet,vgg"])
    assert "--models must be of unet" in capsys.readouterr().err


def test_table_of_models():
    result = {"median_us": 2e5, "peak_extra_bytes": 2**21, "first_call_ms": 1500.0}
    entry = {
        "model": "unet",
        "absent": {"fusednorm-xla": "no XLA kernels in this build"},
        "results": {
            "keras-graph": result | {"share_in_norms": 0.3},
            "fusednorm-graph": result | {"median_us": 1e5, "share_in_norms": 0.1},
            "none-graph": result,
        },
    }
    text = models.table({"models": [entry], "failed": [{"model": "x", "why": "y"}]})
    rows = [line.split() for line in text.splitlines()]
    assert ["unet", "fusednorm-graph", "100.0", "2.00", "10%", "2", "1.5"] in rows
    assert "missing: unet fusednorm-xla: no XLA kernels in this build" in text
    assert "failed: x: y" in text
