"""The harness on a GPU, as far as it can be tested without one.

PyTorch's CUDA part is played by objects that only count what they are asked.
"""

import json
import sys
from types import SimpleNamespace

import pytest
from fusednorm import _native, cli
from fusednorm.bench import (
    cases,
    command,
    compiling,
    cuda_graphs,
    goal,
    machines,
    run,
    timing,
)
from fusednorm.bench.competitors import base, cuda
from support.fake_machine import FakeMachine

H200 = _native.known_devices()["h200"]


# Options


def parsed(monkeypatch, *arguments):
    """Returns what the command would be called with."""
    found = []
    monkeypatch.setattr(command, "main", lambda options: found.append(options) or 0)
    assert cli.main(["bench", "--device", "gpu", *arguments]) == 0
    return found[0]


def test_torch_compile_is_a_peer_only_if_it_is_asked_for(monkeypatch):
    plain = parsed(monkeypatch, "--suite", "canonical")
    assert command._peers(plain) == [p for p in base.GPU_PEERS if p != "torch-compile"]
    compiling_too = parsed(monkeypatch, "--suite", "canonical", "--compile")
    assert set(command._peers(compiling_too)) == set(base.GPU_PEERS)


def test_suites_have_the_peers_that_they_have_a_place_for(monkeypatch):
    kernels = parsed(monkeypatch, "--suite", "kernels")
    assert command._peers(kernels) == ["torch", "liger", "quack"]
    layers = parsed(monkeypatch, "--suite", "layers")
    assert command._peers(layers) == list(base.LAYER_PEERS)
    assert command._peers(parsed(monkeypatch, "--suite", "models")) == []


def test_the_quick_suite_has_every_family_of_the_goal():
    names = [each.name for each in cases.SUITES["quick"].shapes]
    families = {goal.family(name) for name in names if not name.startswith("size-")}
    assert families == set(goal.SHARES)


# torch.compile in parallel processes


def test_every_case_is_compiled_by_one_process(monkeypatch):
    done = []
    monkeypatch.setattr(compiling, "compile_case", done.append)
    names, dtypes = ["vit-b", "gpt3", "swin-stage1"], ["bfloat16", "float32"]
    chosen = cases.cases_of(
        cases.SUITES["kernels"], names=names, dtypes=dtypes, scale=False
    )
    programs = compiling.commands("kernels", chosen, 4)
    assert len(programs) == 4
    for program in programs:
        assert program[:3] == [sys.executable, "-m", "fusednorm.bench.compiling"]
        assert compiling.main(program[3:]) == 0
    assert sorted(map(str, done)) == sorted(map(str, chosen))
    assert not any(case.scaled for case in done)


def test_a_case_that_does_not_compile_does_not_stop_the_others(monkeypatch, capsys):
    def fail_for_gpt3(case):
        if case.shape.name == "gpt3":
            raise RuntimeError("no such kernel")

    monkeypatch.setattr(compiling, "compile_case", fail_for_gpt3)
    chosen = cases.cases_of(
        cases.SUITES["kernels"], names=["gpt3", "vit-b"], dtypes=["float32"]
    )
    (program,) = compiling.commands("kernels", chosen, 1)
    assert compiling.main(program[3:]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["compiled"]
    assert "gpt3 float32 RuntimeError: no such kernel" in err


def test_programs_run_side_by_side_and_late_ones_are_ended():
    def program(seconds):
        code = (
            "import os, time; print('compiled', flush=True); "
            "assert os.environ['TORCHINDUCTOR_COMPILE_THREADS'] == '1'; "
            f"time.sleep({seconds}); print('compiled')"
        )
        return [sys.executable, "-c", code]

    found = compiling.run_all([program(0), program(600), program(600)], 5)
    assert (found["compiled"], found["processes"], found["ended"]) == (4, 3, 2)


def test_processes_find_what_others_have_compiled(monkeypatch):
    for name in ("CACHE_DIR", "FX_GRAPH_CACHE", "AUTOGRAD_CACHE"):
        monkeypatch.delenv(f"TORCHINDUCTOR_{name}", raising=False)
    environment = {}
    monkeypatch.setattr(compiling.os, "environ", environment)
    compiling.keep_results()
    assert set(environment.values()) > {"1"}
    assert "fusednorm-torch-compile" in environment["TORCHINDUCTOR_CACHE_DIR"]


# CUDA graphs


class FakeCuda:
    """Captures by recording the calls that are made meanwhile; a call takes 2 us."""

    def __init__(self, calls, *, captures=True):
        self.calls, self.captures = calls, captures
        self.waits = 0
        cuda = self

        class CUDAGraph:
            def capture_begin(self, capture_error_mode):
                if not cuda.captures:
                    raise RuntimeError("not while capturing\nmore")
                self.begin = len(cuda.calls)

            def capture_end(self):
                self.captured = cuda.calls[self.begin :]

            def replay(self):
                cuda.clock += 2e-3 * len(self.captured)

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = cuda.clock

            def synchronize(self):
                cuda.waits += 1

            def elapsed_time(self, end):
                return end.at - self.at

        self.clock = 0.0  # milliseconds
        self.CUDAGraph, self.Event = CUDAGraph, Event

    def _sleep(self, cycles):
        self.clock += 0.1

    def synchronize(self):
        pass


@pytest.fixture
def fake_torch(monkeypatch):
    def make(calls, **options):
        fake = FakeCuda(calls, **options)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=fake))
        return fake

    return make


def test_a_graph_of_many_calls_is_timed_by_events(fake_torch):
    calls = []
    fake = fake_torch(calls)
    task = cuda_graphs.GraphTask("a", calls.append, 3, 1.0, 10**4)
    times = timing.measure([task], rounds=4, seconds=9, call_seconds=1e-3)
    assert task.method == "graph"
    # Each set once before the capture, then round and round; none when it is timed.
    assert calls[:3] == [0, 1, 2]
    assert calls[3:9] == [0, 1, 2, 0, 1, 2]
    assert len(calls) == 3 + task.calls
    # The head start is before the first event.
    assert times["a"] == pytest.approx([2e-6] * 4)
    assert fake.waits == 5


def test_what_cannot_be_captured_is_timed_by_calls_and_says_why(fake_torch):
    calls = []
    fake_torch(calls, captures=False)
    task = cuda_graphs.GraphTask("a", calls.append, 2, 1e-3, 10**4)
    times = timing.measure([task], rounds=2, seconds=9, call_seconds=3e-3)
    assert (task.method, task.note) == ("calls", "RuntimeError: not while capturing")
    assert task.calls == 3
    assert len(times["a"]) == 2


def test_every_set_is_in_the_sequence():
    for moved in (1, 10**6, 10**10):
        assert cuda_graphs.number_of_calls(256, moved) >= 256
    assert cuda_graphs.number_of_calls(1, 10**10) == 1


# The machine


def test_a_gpu_needs_a_framework_that_can_use_it(monkeypatch):
    monkeypatch.setattr(_native, "cuda_devices", lambda: [H200])
    monkeypatch.setattr(_native.cuda, "devices", lambda: [H200])
    monkeypatch.setattr(machines, "_imported", lambda module: None)
    with pytest.raises(RuntimeError, match="needs PyTorch with CUDA"):
        machines.Gpu(tensorflow=True)


class FakeTensorFlow:
    """What the machine asks TensorFlow where there is no PyTorch."""

    def __init__(self):
        memory = {"current": 100, "peak": 100}
        self.memory, self.grown = memory, []
        experimental = SimpleNamespace(
            set_memory_growth=lambda device, grow: self.grown.append((device, grow)),
            get_memory_info=lambda device: memory,
            reset_memory_stats=lambda device: memory.update(peak=memory["current"]),
        )
        self.config = SimpleNamespace(
            experimental=experimental, list_physical_devices=lambda kind: [kind]
        )
        sync = SimpleNamespace(sync_devices=lambda: None)
        self.test = SimpleNamespace(experimental=sync)


def test_tensorflow_alone_is_enough_for_layers(monkeypatch):
    fake = FakeTensorFlow()
    modules = {"tensorflow": fake, "torch": None}
    monkeypatch.setattr(_native, "cuda_devices", lambda: [H200])
    monkeypatch.setattr(_native.cuda, "devices", lambda: [H200])
    monkeypatch.setattr(machines, "_imported", modules.get)
    machine = machines.Gpu(tensorflow=True)
    assert fake.grown == [("GPU", True)]
    assert machine.cache_bytes == H200["l2_bytes"]
    assert machine.data_device is None
    assert machine.available_bytes() == H200["memory_bytes"] - 100
    assert type(machine.kernel_task("a", None, 1, 1.0, 1)) is timing.Task
    found = machine.peak_extra_bytes(lambda: fake.memory.update(peak=150))
    assert found == 50
    assert json.dumps(machine.environment())
    assert machine.environment()["device"] == "h200"


class FakeGpu(FakeMachine):
    """A GPU whose kernels cannot be called, as its plan is all that is asked."""

    is_gpu = True
    device = H200


@pytest.mark.parametrize("name", ["vit-b", "llama-7b", "sd15-unet-64", "cyclegan-64"])
def test_the_plan_of_a_case_is_in_the_report(name):
    (case,) = cases.cases_of(
        cases.SUITES["kernels"], names=[name], dtypes=["bfloat16"], scale=False
    )
    forward, backward = (cuda.plan(case, "h200", d) for d in ("forward", "backward"))
    assert forward["scheme"] in ("rows", "tile", "stream")
    assert backward["launches"]
    from fusednorm.bench import measure

    both = measure._plans(case, FakeGpu(), "forward+backward")["launches"]
    assert both == [*forward["launches"], *backward["launches"]]


def test_clocks_of_before_and_after_are_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(run.environment, "query_gpu", lambda: {"sm_clock": "1 MHz"})
    made = run.Run(
        [],
        FakeGpu(),
        {},
        settings={},
        json=tmp_path / "a.json",
        progress=lambda *_: None,
    )
    made.execute()
    assert made.report["environment"]["nvidia_smi_afterwards"] == {"sm_clock": "1 MHz"}
