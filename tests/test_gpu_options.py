"""Options of the GPU benchmark, and torch.compile in parallel processes."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gpu_compile
import gpu_copy
import gpu_goal
import gpu_kernels
import gpu_measure
import gpu_problems
import gpu_report
from fusednorm.bench import torch_functions

# Python, PyTorch and CUDA start, and the last case goes on past the budget.
STARTING_SECONDS = 20


def test_quick_measures_every_family_within_90_seconds():
    options = gpu_kernels.parse(["--quick"])
    assert options.budget + STARTING_SECONDS < 90
    assert {gpu_goal.family(name) for name in options.shapes} == set(gpu_goal.SHARES)
    assert options.dtypes == ["bfloat16", "float32"]
    assert "compile" not in options.peers


def test_the_whole_takes_less_than_four_minutes():
    options = gpu_kernels.parse([])
    assert options.budget + STARTING_SECONDS < 240
    assert options.shapes is None
    assert options.dtypes == ["bfloat16", "float32", "float16"]
    assert options.peers == ["eager", "liger", "quack"]


def test_what_is_asked_for_goes_before_the_quick_choice():
    options = gpu_kernels.parse(
        ["--quick", "--shapes", "gpt3", "--dtypes", "float16", "--budget", "7"]
    )
    assert (options.shapes, options.dtypes) == (["gpt3"], ["float16"])
    assert options.budget == 7


def test_compile_is_a_switch_with_time_of_its_own():
    plain, compiling = gpu_kernels.parse([]), gpu_kernels.parse(["--compile"])
    assert compiling.peers == [*plain.peers, "compile"]
    assert compiling.budget - plain.budget >= gpu_kernels.COMPILE_SECONDS
    assert gpu_kernels.parse(["--compile", "--budget", "100"]).budget == 100


def test_compile_is_no_name_for_peers(capsys):
    with pytest.raises(SystemExit):
        gpu_kernels.parse(["--peers", "eager,compile"])
    assert "--peers must be of eager, liger, quack" in capsys.readouterr().err


def labels(case):
    return tuple(case.label.values())


def test_every_case_is_compiled_by_one_process(monkeypatch):
    done = []
    monkeypatch.setattr(gpu_compile, "compile_case", done.append)
    programs = gpu_compile.commands(
        ["vit-b", "gpt3", "swin-stage1"], ["bfloat16", "float32"], ["forward"], 4
    )
    assert len(programs) == 4
    for program in programs:
        assert gpu_compile.main(program[2:]) == 0
    wanted = gpu_problems.all_cases(
        ["vit-b", "gpt3", "swin-stage1"], ["bfloat16", "float32"], ["forward"]
    )
    assert sorted(map(labels, done)) == sorted(map(labels, wanted))


def test_a_case_that_does_not_compile_does_not_stop_the_others(monkeypatch, capsys):
    def fail_for_gpt3(case):
        if case.problem.name == "gpt3":
            raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu_compile, "compile_case", fail_for_gpt3)
    (program,) = gpu_compile.commands(
        ["gpt3", "vit-b"], ["float32"], ["forward", "backward"], 1
    )
    assert gpu_compile.main(program[2:]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["compiled"] * 2
    assert "gpt3 float32 backward RuntimeError: no such kernel" in err


def test_programs_run_side_by_side_and_late_ones_are_ended(monkeypatch, tmp_path):
    for name, value in gpu_compile.environment(tmp_path).items():
        monkeypatch.setenv(name, value)

    def program(seconds):
        code = (
            "import os, sys, time; print('compiled', flush=True); "
            "assert os.environ['TORCHINDUCTOR_CACHE_DIR'] == sys.argv[1]; "
            f"time.sleep({seconds}); print('compiled')"
        )
        return [sys.executable, "-c", code, str(tmp_path)]

    found = gpu_compile.run_all([program(0), program(600), program(600)], 5)
    assert (found["compiled"], found["processes"], found["ended"]) == (4, 3, 2)


@pytest.fixture
def measured(monkeypatch):
    """Lets `run` measure every case in no time, and collects what it asked for."""
    asked = []

    def measure_case(case, machine, peers, yardstick):
        asked.append((labels(case), list(peers), yardstick))
        result = {"median_us": 10.0, "share_of_copy": 0.5}
        plan = {"scheme": "rows", "geometry": {}}
        entry = {**case.label, "least_bytes": 1, "plan": plan, "absent": {}}
        return entry | {"results": {"fusednorm": result}}, 0.0

    def verified(case, machine, known):
        return {"errors": {"y": 0.5}}

    yardstick = gpu_copy.Yardstick({"bytes_per_second": 1e12, "bytes": 1}, None)
    versions = {"eager": "1", "liger": "2", "quack": "missing: no", "compile": "1"}
    monkeypatch.setattr(gpu_measure, "measure_case", measure_case)
    monkeypatch.setattr(gpu_measure, "verified", verified)
    monkeypatch.setattr(gpu_copy, "measure", lambda machine: yardstick)
    monkeypatch.setattr(torch_functions, "versions", lambda: versions)
    monkeypatch.setattr(
        gpu_compile, "run_all", lambda programs, seconds: {"processes": len(programs)}
    )
    return asked


def run(tmp_path, *arguments):
    path = tmp_path / "kernels.json"
    options = gpu_kernels.parse(["--json", str(path), *arguments])
    machine = SimpleNamespace(release=lambda: None)
    report, code = gpu_kernels.run(options, machine, {"device": "none"})
    assert gpu_report.read(path) == report
    return report, code


def test_the_report_has_the_yardstick_and_every_case(measured, tmp_path):
    report, code = run(tmp_path, "--quick")
    assert code == 0
    assert report["copy"]["bytes_per_second"] == 1e12
    assert len(report["cases"]) == len(measured) == len(gpu_problems.QUICK_SHAPES) * 4
    assert all(peers == ["eager", "liger"] for _, peers, _ in measured)
    assert "compiled_beforehand" not in report["settings"]
    assert gpu_report.text(report).endswith("a peer is faster in 0.")


def test_with_compile_it_is_a_peer_of_every_case(measured, tmp_path):
    report, _ = run(tmp_path, "--compile", "--shapes", "vit-b", "--dtypes", "float32")
    assert [peers for _, peers, _ in measured] == [["eager", "liger", "compile"]] * 2
    assert report["settings"]["compiled_beforehand"]["processes"] >= 1
