"""`fusednorm bench`, all but its timings: cases, schedule, verification, report."""

import dataclasses
import itertools
import json
import math
import sys

import numpy as np
import pytest
from fusednorm import cli
from fusednorm.bench import (
    atex,
    cases,
    environment,
    launches,
    machines,
    measure,
    page,
    plots,
    progress,
    records,
    run,
    shapes,
    table,
    timing,
    traffic,
    verify,
)
from fusednorm.bench.cases import BACKWARD, BOTH, FORWARD, Case, Suite
from fusednorm.bench.competitors import base, native, registry
from fusednorm.bench.competitors.base import Competitor, Outputs
from fusednorm.bench.data import Data
from fusednorm.bench.shapes import FAMILIES, Shape
from support import reference
from support.fake_machine import CACHE, FakeMachine

SMALL = {
    "group_norm": Shape("gn", "group_norm", (3, 5, 4, 6), (-1,), 3, "silu"),
    "channels_first": Shape("gn-cf", "group_norm", (3, 6, 5, 4), (1,), 2, "relu"),
    "instance_norm": Shape("in", "group_norm", (3, 5, 4, 6), (-1,), -1, "leaky_relu"),
    "layer_norm": Shape("ln", "layer_norm", (7, 19)),
    "axis 1": Shape("ln1", "layer_norm", (4, 8, 5, 3), (1,)),
    "rms_norm": Shape("rms", "rms_norm", (6, 3, 11)),
    "residual": Shape("rms-residual", "rms_norm", (6, 11), residual=True),
}


def small_case(name, dtype="float32"):
    return Case(SMALL[name], SMALL[name].shape, dtype)


# Cases


@pytest.mark.parametrize(
    ("dims", "limit", "scaled"),
    [
        ((32, 56, 56, 256), 2**24, (20, 56, 56, 256)),
        ((1, 512, 512, 128), 2**20, (1, 512, 512, 128)),
        ((4, 10), 2**20, (4, 10)),
        ((32, 10), None, (32, 10)),
    ],
)
def test_only_the_batch_is_scaled_down(dims, limit, scaled):
    assert cases.scaled_dims(dims, limit) == scaled


@pytest.mark.parametrize("name", cases.SUITES)
def test_suites(name):
    suite = cases.SUITES[name]
    chosen = cases.cases_of(suite)
    labels = [str(case) for case in chosen]
    assert len(set(labels)) == len(labels)
    for case in chosen:
        assert case.shape.activation in verify.ACTIVATIONS
        assert case.shape.family in FAMILIES
        assert case.dims[1:] == case.shape.shape[1:]
        assert case.scaled == (case.dims[0] < case.shape.shape[0])
        per_sample = case.elements // case.dims[0]
        sweep = case.shape.name.startswith("size-")
        assert sweep or case.elements <= max(suite.most_elements, per_sample)
    assert not any(case.scaled for case in cases.cases_of(suite, scale=False))


def test_the_sweep_is_from_1_kib_to_1_gib_in_float32():
    sweep = [
        case.tensor_bytes
        for case in cases.cases_of(cases.SUITES["canonical"])
        if case.shape.name.startswith("size-")
    ]
    assert sweep == [2**n for n in range(10, 31, 2)]


def test_launch_has_three_norms_from_1_kib_to_1_mib():
    found = {}
    for case in cases.cases_of(cases.SUITES["launch"]):
        assert shapes.size_of(case.shape.name) == case.tensor_bytes
        found.setdefault(case.shape.family, []).append(case.tensor_bytes)
    sizes = [2**n for n in range(10, 21, 2)]
    assert found == dict.fromkeys(["layer_norm", "rms_norm", "group_norm"], sizes)


def test_kernels_are_small_to_large_in_each_type():
    chosen = cases.cases_of(cases.SUITES["kernels"], scale=False)
    assert len(chosen) == 32 * 3
    for dtype in cases.DTYPES:
        sizes = [case.elements for case in chosen if case.dtype == dtype]
        assert sizes == sorted(sizes)


def test_cases_of_an_op_and_of_names():
    suite = cases.SUITES["canonical"]
    chosen = cases.cases_of(suite, families=["instance_norm"], dtypes=["bfloat16"])
    assert {case.shape.groups for case in chosen} == {-1}
    assert {case.dtype for case in chosen} == {"bfloat16"}
    chosen = cases.cases_of(suite, names=["vit-b"], dtypes=["float16"])
    assert [str(case) for case in chosen] == ["vit-b float16"]
    with pytest.raises(ValueError, match="got no-such-shape"):
        cases.cases_of(suite, names=["vit-b", "no-such-shape"])
    with pytest.raises(ValueError, match="no shape"):
        cases.cases_of(suite, names=["vit-b"], families=["rms_norm"])


def test_atex_has_nine_rows_and_twenty_cubes_with_their_published_times():
    families = [shape.family for shape in atex.ATEX]
    assert families == ["layer_norm"] * 9 + ["instance_norm"] * 20
    published = {name: times["atex"] for name, times in atex.PUBLISHED_H100.items()}
    assert published["atex-ln-100000x1000"] == 4.73
    assert published["atex-ln-10000000x10"] == 10.61
    assert published["atex-in-8x64x64x64x64"] == 5.98
    assert published["atex-in-8x64x64x64x64-cf"] == 3.51
    assert len(published) == 29


# Schedule and statistics


def test_everyone_follows_everyone_else_in_turn():
    rounds = list(timing.in_turn("abc", rounds=3, seconds=math.inf, fewest_rounds=1))
    assert [number for number, _ in rounds] == [-1, 0, 1, 2]
    assert ["".join(order) for _, order in rounds] == ["cab", "abc", "bca", "cab"]


def test_rounds_end_with_the_time_but_not_before_the_fewest():
    rounds = list(timing.in_turn("ab", rounds=9, seconds=0, fewest_rounds=2))
    assert [number for number, _ in rounds] == [-1, 0, 1]


def test_a_task_goes_around_its_sets_and_keeps_their_results():
    seen, alive = [], set()

    class Result:
        def __init__(self):
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    def call(i):
        seen.append(i)
        return Result()

    task = timing.Task("a", call, 3, 1.0)
    task.run(2, lambda: None)
    task.run(5, lambda: None)
    assert seen == [0, 1, 2, 0, 1, 2, 0]
    assert len(alive) == 3
    task.ring.release()
    assert not alive
    # Large tensors have few sets, and results that are not kept from run to run.
    timing.Task("b", call, 2, 1.0).run(3, lambda: None)
    assert not alive


def test_tasks_together_keep_no_more_results_than_there_are_sets():
    alive, most = [0], [0]

    class Result:
        def __init__(self):
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    tasks = [timing.Task(name, lambda i: Result(), 3, 1.0) for name in "abcd"]
    timing.measure(tasks, rounds=2, seconds=9, call_seconds=1e-9)
    assert most == [3]
    assert alive == [0]


def test_short_calls_are_repeated():
    count = itertools.count()
    task = timing.Task("a", lambda i: next(count), 2, 1e-4)
    times = timing.measure([task], rounds=2, seconds=9, call_seconds=1e-3)
    assert task.calls == 10
    assert len(times["a"]) == 2
    assert next(count) == 10 + 2 * (1 + 10)  # warming up; a call that wakes, ten timed


@pytest.mark.parametrize(
    ("set_bytes", "sets", "past"),
    [
        (0, timing.MOST_SETS, False),
        (2**26 // timing.MOST_SETS - 1, timing.MOST_SETS, False),
        (2**26 // timing.MOST_SETS, timing.MOST_SETS, True),
        (2**24, 4, True),
        (2**24 + 1, 4, True),
        (2**24 - 1, 5, True),
        (2**27, 2, True),
        (2**28 - 1, 2, True),
        (2**28, 1, True),
    ],
)
def test_sets_are_past_a_cache_of_32_mib_or_not(set_bytes, sets, past):
    assert timing.number_of_sets(set_bytes, 2**25) == sets
    assert timing.past_the_cache(set_bytes, 2**25) is past


def test_geometric_mean():
    assert records.geometric_mean([1, 4, 16]) == pytest.approx(4)
    assert records.geometric_mean([]) is None


# Verification and competitors


@pytest.mark.parametrize("name", SMALL)
def test_exact_outputs_are_those_of_the_reference(name):
    data = Data(small_case(name), CACHE)
    shape, one = SMALL[name], data.sets[0]
    exact = verify.Exact(data).outputs
    norm = reference.Norm(
        shape.op, shape.axes, shape.groups, shape.epsilon, shape.activation
    )
    of = reference.forward(norm, one.x, data.gamma, data.beta, one.residual)
    wanted = reference.backward(norm, of, one.dy, 0 if one.dsum is None else one.dsum)
    pairs = [(exact.y, of.y), (exact.dx, wanted.dx), (exact.dgamma, wanted.dgamma)]
    if shape.centred:
        pairs.append((exact.dbeta, wanted.dbeta))
    for got, expected in pairs:
        np.testing.assert_allclose(got, expected.astype(np.float64), rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("name", SMALL)
def test_everybody_computes_the_same_norm(name, dtype):
    """Within the bounds of verify.py; also the backward pass alone."""
    data = Data(small_case(name, dtype), CACHE)
    exact = verify.Exact(data)
    field = registry.Field(data, FakeMachine(), registry.versions(base.CPU_PEERS))
    found = {}
    for each in field.competitors:
        if each.both is None:
            continue
        results = each.both(0)
        found[each.name] = exact.errors(each.outputs(results))
        if each.backward is not None:
            alone = each.outputs((results[0], each.backward(0)))
            assert max(exact.errors(alone).values()) <= 1
    assert {base.KERNEL, base.GRAPH, base.EAGER, "keras-graph", "keras-xla"} <= {*found}
    print(found, field.absent)
    for errors in found.values():
        assert set(errors) >= {"y", "dx", "dgamma"}
        assert max(errors.values()) <= 1
    assert max(found[base.KERNEL].values()) <= 0.2
    assert {*found, *field.absent} >= {*base.OURS, *base.CPU_PEERS}


def test_where_a_slope_jumps_there_is_nothing_to_compare():
    shape = Shape("gn", "group_norm", (2, 64, 32), (-1,), 4, "relu")
    data = Data(Case(shape, shape.shape, "bfloat16"), CACHE)
    one = data.sets[0]
    verify.Exact(data)
    z = native.kernel(data, 1).forward(0)[0].astype(np.float32)
    small = (z > 0) & (z < 0.9 * verify.BOUNDS["bfloat16"])
    assert small.any()
    assert not one.dy[small].any()
    assert one.dy[z > 1.1 * verify.BOUNDS["bfloat16"]].all()


@pytest.mark.parametrize("wrong", ["y", "dx", "dgamma"])
@pytest.mark.parametrize("value", [0.1, math.nan])
def test_wrong_outputs_are_noticed(wrong, value):
    data = Data(small_case("group_norm"), CACHE)
    exact = verify.Exact(data)
    made = native.kernel(data, 1)
    outputs = made.outputs(made.both(0))
    getattr(outputs, wrong).flat[3] += value
    errors = exact.errors(outputs)
    assert [name for name, error in errors.items() if not error <= 1] == [wrong]


def test_of_large_tensors_the_first_and_last_samples_are_compared(monkeypatch):
    monkeypatch.setattr(verify, "MOST_ELEMENTS", 4 * 19)
    data = Data(small_case("layer_norm"), CACHE)
    exact = verify.Exact(data)
    assert not exact.complete
    assert list(exact.samples) == [0, 1, 5, 6]
    made = native.kernel(data, 1)
    outputs = made.outputs(made.both(0))
    errors = exact.errors(outputs)
    assert set(errors) == {"y", "dx"}
    assert max(errors.values()) <= 1
    outputs.y[6] += 1
    assert exact.errors(outputs)["y"] > 1


# Runs


def a_run(tmp_path, names=("layer_norm", "residual"), peers=(), **options):
    suite = Suite((), rounds=2, seconds=1, call_seconds=1e-5)
    suite = dataclasses.replace(suite, **options.pop("suite", {}))
    machine = options.pop("machine", None) or FakeMachine()
    jobs = [
        measure.CaseJob(small_case(name), suite, machine, dict(peers)) for name in names
    ]
    return run.Run(
        jobs,
        machine,
        dict(peers),
        settings={"suite": "small", "latency": suite.latency},
        json=tmp_path / "bench.json",
        progress=options.pop("progress", lambda *_: None),
        commit="abc",
        **options,
    )


def quick_field(monkeypatch, *competitors):
    """Lets only these compete, and our kernel."""

    class Small(registry.Field):
        def __init__(self, data, machine, peers, *, kernels, layers):
            self.competitors = [native.kernel(data, 1), *competitors]
            self.absent = dict(peers)

    monkeypatch.setattr(registry, "Field", Small)


def test_a_run_records_every_pass_and_reads_back(tmp_path, monkeypatch):
    quick_field(monkeypatch)
    made = a_run(tmp_path)
    made.execute()
    assert made.code == 0
    report = records.read(tmp_path / "bench.json")
    assert report == json.loads(json.dumps(made.report))
    assert [(each["shape"], each["pass"]) for each in report["cases"]] == [
        (shape, direction)
        for shape in ("ln", "rms-residual")
        for direction in (FORWARD, BACKWARD, BOTH)
    ]
    for case in report["cases"]:
        assert set(case["results"]) == {base.KERNEL, "copy"}
        result = case["results"][base.KERNEL]
        assert result["rounds"] == 2
        # Nobody's first call is a backward pass alone.
        assert ("first_call_ms" in result) == (case["pass"] != BACKWARD)
        assert result["resident"]["median_us"] > 0
        assert max(case["errors"].values()) <= 1
    assert report["cases"][2]["least_bytes"] == 5 * 4 * 7 * 19
    assert report["copy"]["bytes_per_second_afterwards"] > 0


def test_what_backward_adds_to_forward_is_the_difference_round_by_round():
    times = {("a", FORWARD, False): [1.0, 2.0], ("a", BOTH, False): [4.0, 4.0]}
    assert measure.times_of(times, "a", BACKWARD, False) == [3.0, 2.0]
    times["a", BACKWARD, False] = [9.0]
    assert measure.times_of(times, "a", BACKWARD, False) == [9.0]


def test_an_interruption_keeps_what_was_measured(tmp_path, monkeypatch):
    quick_field(monkeypatch)

    def progress(schedule, done, total, label):
        if label.startswith("rms-residual"):
            raise KeyboardInterrupt

    made = a_run(tmp_path, progress=progress)
    made.execute()
    assert made.code == 130
    report = records.read(tmp_path / "bench.json")
    assert {case["shape"] for case in report["cases"]} == {"ln"}
    assert {(each["shape"], each["why"]) for each in report["cut"]} == {
        ("rms-residual", "interrupted")
    }


def test_what_there_is_no_time_for_is_cut(tmp_path, monkeypatch):
    quick_field(monkeypatch)
    made = a_run(tmp_path, budget=1e-9)
    made.execute()
    assert {each["why"] for each in made.report["cut"]} == {"no time"}
    assert made.report["settings"]["budget_seconds"] == 1e-9
    assert made.code == 1  # Nothing is left.


@pytest.mark.parametrize(("waits", "count"), [(True, 2 + 3), (False, 2)])
def test_calls_are_waited_for_one_by_one_or_together(waits, count):
    seen = []
    task = timing.Task("a", lambda i: None, 1, 1.0, waits=waits)
    task.run(3, lambda: seen.append(1))
    assert len(seen) == count


def test_no_forward_pass_is_timed_with_a_backward_pass(tmp_path, monkeypatch):
    begun, late = set(), []
    measured = timing.measure

    def backward(i):
        begun.add(i)
        return 0

    def measure_tasks(tasks, **options):
        if {task.key for task in tasks} != {"copy"}:
            late.extend(set(range(tasks[0].sets)) - begun)
        return measured(tasks, **options)

    lazy = Competitor(
        "torch",
        lambda i: 0,
        lambda i: 0,
        backward,
        outputs=lambda _: Outputs(np.zeros((7, 19))),
    )
    quick_field(monkeypatch, lazy)
    monkeypatch.setattr(timing, "measure", measure_tasks)
    a_run(tmp_path, ("layer_norm",)).execute()
    assert len(begun) > 1
    assert late == []


def test_what_a_call_costs_is_timed_on_one_set_and_waited_for(tmp_path, monkeypatch):
    quick_field(monkeypatch)
    tasks = []
    measured = timing.measure
    monkeypatch.setattr(
        timing,
        "measure",
        lambda found, **o: tasks.extend(found) or measured(found, **o),
    )
    made = a_run(tmp_path, ("layer_norm",), suite={"latency": True})
    made.execute()
    (case, *_) = made.report["cases"]
    assert case["sets"] == 1
    assert set(case["results"]) == {base.KERNEL}
    of_the_case = [task for task in tasks if task.key != "copy"]
    assert of_the_case
    assert all(task.waits and task.sets == 1 for task in of_the_case)


def test_what_does_not_fit_into_memory_is_cut_with_the_reason(tmp_path):
    made = a_run(tmp_path, machine=FakeMachine(available=1000))
    made.execute()
    assert made.code == 1  # Nothing is left.
    assert "GiB of memory" in made.report["cut"][0]["why"]


def test_a_competitor_that_fails_is_named(tmp_path, monkeypatch):
    def broken(i):
        raise ArithmeticError("no way")

    quick_field(monkeypatch, Competitor("torch", broken, broken))
    made = a_run(tmp_path, ("layer_norm",))
    made.execute()
    (why,) = {case["absent"]["torch"] for case in made.report["cases"]}
    assert why == "failed: ArithmeticError: no way"
    assert made.code == 0


def test_a_wrong_output_is_marked_and_timed_all_the_same(tmp_path, monkeypatch):
    wrong = Competitor(
        "torch", lambda i: 0, lambda i: 0, outputs=lambda _: Outputs(np.zeros((7, 19)))
    )
    quick_field(monkeypatch, wrong)
    made = a_run(tmp_path, ("layer_norm",))
    made.execute()
    assert made.report["cases"][0]["wrong"] == ["torch"]
    assert "torch" in made.report["cases"][0]["results"]
    assert "!: its outputs" in table.render(made.report)


def test_peers_that_are_not_installed_are_missing_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = registry.versions(["torch", "keras-graph"])
    assert found["torch"].startswith("missing: ModuleNotFoundError: ")
    assert not found["keras-graph"].startswith("missing")
    data = Data(small_case("layer_norm"), CACHE)
    field = registry.Field(data, FakeMachine(), {"torch": found["torch"]})
    assert field.absent["torch"] == found["torch"]


# Report


def canned(shape="vit-b", dtype="float32", direction=FORWARD, scaled=True):
    """A case of a report, with numbers that were never measured."""

    def result(factor, **more):
        return {
            "median_us": 100.0 * factor,
            "quartiles_us": [90.0 * factor, 110.0 * factor],
            "rounds": 7,
            "gigabytes_per_second": 20.0 / factor,
            "share_of_copy": 0.8 / factor,
            "first_call_ms": 5.0,
            **more,
        }

    return {
        "shape": shape,
        "dtype": dtype,
        "pass": direction,
        "op": "layer_norm",
        "dims": [8, 197, 768],
        "model_dims": [64, 197, 768],
        "scaled": scaled,
        "least_bytes": 10**7,
        "errors": {"y": 0.01},
        "wrong": [],
        "results": {
            base.KERNEL: result(1, resident=result(0.5)),
            base.GRAPH: result(2, peak_extra_bytes=2**20),
            base.EAGER: result(1.5),
            "torch": result(3, against=base.KERNEL),
            "keras-graph": result(5, against=base.GRAPH, peak_extra_bytes=2**22),
            "keras-xla": result(3, against=base.GRAPH),
            "copy": result(0.8),
        },
        "absent": {"tf_keras": "fused over the last axis only"},
        "published_h100_ms": {"tensorflow": 7.0, "atex": 3.0},
    }


@pytest.fixture
def report():
    return {
        "schema": records.SCHEMA,
        "environment": {"device": "Some CPU", "threads": 2, "date": "2000-01-01",
                        "commit": "abc", "dirty": False, "fusednorm": "0"},
        "settings": {},
        "copy": {"bytes_per_second": 2e10, "bytes_per_second_afterwards": 1e10},
        "peers": {"torch": "1.0", "tf_keras": "missing: not installed"},
        "cases": [
            canned(),
            canned(direction=BACKWARD),
            canned(direction=BOTH),
            canned("bert-base", scaled=False),
            *(canned(f"size-{size}", direction=direction)
              for size in ("1KiB", "4MiB", "1GiB") for direction in (FORWARD, BOTH)),
        ],
        "cut": [{"shape": "long-row", "dtype": "float32", "pass": FORWARD,
                 "why": "needs about 99 GiB of memory"}],
        "failed": [],
    }  # fmt: skip


def test_like_is_compared_with_like(report):
    case = report["cases"][0]
    assert records.ratio(case, "torch") == pytest.approx(3)
    assert records.ratio(case, "keras-graph") == pytest.approx(2.5)
    assert records.ratio(case, "liger") is None
    assert records.best_peer(case) == ("keras-xla", pytest.approx(1.5))


def cells_of(report, shape, direction=FORWARD):
    """Returns heading -> cell of the table's line of a case."""
    headings, *lines = table.rows(report)
    found = (dict(zip(headings, line, strict=True)) for line in lines)
    return next(each for each in found if each["shape"].startswith(shape)
                and each["pass"] == direction)  # fmt: skip


def test_the_table_says_everything(report):
    text = table.render(report)
    assert "Some CPU, 2 threads, 2000-01-01, fusednorm 0, commit abc" in text
    assert "this machine was not quiet" in text
    assert cells_of(report, "vit-b") == {
        "shape": "vit-b*", "dtype": "float32", "pass": "forward", "kernel us": "100.0",
        "GB/s": "20.0", "share": "80%", "copy us": "80.0", "in cache us": "50.0",
        "graph us": "200.0", "torch x": "3.00", "keras-graph x": "2.50",
        "keras-xla x": "1.50", "error/bound": "0.01",
    }  # fmt: skip
    assert "missing: tf_keras: missing: not installed" in text
    assert "missing: tf_keras: fused over the last axis only (all shapes)" in text
    assert "cut: long-row float32 forward: needs about 99 GiB of memory" in text
    (mean,) = [
        each.split() for each in text.splitlines() if each.startswith("torch  ")
        and " backward " in each
    ]  # fmt: skip
    assert mean[:6] == ["torch", base.KERNEL, "float32", "backward", "1", "3.00"]
    assert "meet the goal" not in text


def test_columns_that_say_nothing_are_left_out(report):
    for case in report["cases"]:
        del case["results"]["torch"]
    assert not {"torch x", "scheme"} & set(table.rows(report)[0])


def test_the_page_of_a_folder_comes_from_its_json_alone(report, tmp_path, capsys):
    records.write(tmp_path / "first.json", report)
    records.write(tmp_path / "second.json", report | {"cases": [canned()]})
    assert cli.main(["bench", "--from", str(tmp_path)]) == 0
    assert "vit-b*" in capsys.readouterr().out
    drawn = {"share_of_copy", "best_peer", "peers"}
    assert {each.name for each in tmp_path.iterdir()} == {
        *(f"{stem}{end}" for stem in ("first", "second") for end in (".json", ".txt")),
        *(f"{stem}_{plot}.png" for stem in ("first", "second") for plot in drawn),
        "first_time_against_size.png", "index.html",
    }  # fmt: skip
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / page.PAGE).read_text()
    for path in tmp_path.glob("*.png"):
        assert f'src="{path.name}"' in text
    assert "http" not in text
    assert "8x197x768 of batch 64" in text
    assert "ATEX on H100" in text


def test_without_matplotlib_the_page_says_that_there_are_no_plots(
    report, tmp_path, monkeypatch
):
    monkeypatch.setattr(plots, "can_draw", lambda: False)
    records.write(tmp_path / "a.json", report)
    assert "pip install matplotlib" in page.draw(tmp_path).read_text()
    assert not list(tmp_path.glob("*.png"))


def test_a_report_of_one_pass_is_drawn(report, tmp_path):
    report["cases"] = [canned(direction=BOTH)]
    names = {path.stem for path in plots.draw_all(report, tmp_path)}
    assert names == {"share_of_copy", "best_peer", "peers"}


def test_a_file_is_printed_and_nothing_is_written(report, tmp_path, capsys):
    records.write(tmp_path / "a.json", report)
    assert cli.main(["bench", "--from", str(tmp_path / "a.json")]) == 0
    assert "vit-b*" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_what_calls_cost_is_shown_beside_the_kernels_that_were_counted(
    report, tmp_path
):
    case = canned("launch-ln-1KiB")
    case["plan"] = {"scheme": "rows", "launches": [{}]}
    case["results"][base.GRAPH]["kernels"] = 2
    case["results"][base.KERNEL]["kernels"] = 3
    report |= {"settings": {"latency": True}, "cases": [case, canned("launch-ln-1MiB")]}
    headings, first, second = table.launch_rows(report)
    cells = dict(zip(headings, first, strict=True))
    assert (cells["planned"], cells[base.GRAPH]) == ("1", "200.0 (2)")
    assert cells[base.KERNEL] == "100.0 (3!)"
    assert dict(zip(headings, second, strict=True))["planned"] == "-"
    assert "the kernels that were counted; planned" in table.render(report)
    names = {path.stem for path in plots.draw_all(report, tmp_path)}
    assert names == {"time_against_size"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--suite huge", "argument --suite: invalid choice"),
        ("--device tpu", "argument --device: invalid choice"),
        ("--dtype int8", "--dtype must be of float32"),
        ("--op batch_norm", "--op must be of group_norm"),
        (
            "--peers jax",
            "--peers must be of torch, keras-eager, keras-graph, keras-xla, tf_keras,",
        ),
        ("--peers liger", "got liger"),
        ("--shapes no-such", "got no-such"),
        ("--threads 0", "argument --threads: invalid positive integer"),
        ("--minutes 0", "argument --minutes: invalid positive number"),
        ("--compile", "--compile must be of torch, keras-eager"),
        ("--suite models --dtype bfloat16", "--dtype must be of float32, mixed_bfl"),
        ("--suite models --shapes vgg", "--shapes must be of resnet18-gn, unet"),
        ("--suite models --modes eager", "--modes must be of graph, xla, got eager"),
        ("--compare no-such.json", "No such file"),
        ("--from no-such.json", "No such file"),
    ],
)
def test_wrong_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["bench", *arguments.split()])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_other_json_is_refused(tmp_path, capsys):
    path = tmp_path / "other.json"
    for text in ("[]", "{}"):
        path.write_text(text)
        with pytest.raises(SystemExit):
            cli.main(["bench", "--from", str(path)])
        assert "must have schema 2, got None" in capsys.readouterr().err


def test_cases_are_listed(capsys):
    assert (
        cli.main(["bench", "--list", "--suite", "canonical", "--op", "rms_norm"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["llama-7b", "float32", "2x2048x4096", "(scaled)"]
    assert len(lines) == 6


@pytest.mark.parametrize("suite", ["kernels", "layers", "canonical", "launch", "atex"])
def test_on_a_gpu_whole_shapes_are_listed_without_one(suite, capsys):
    assert cli.main(["bench", "--device", "gpu", "--list", "--suite", suite]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(cases.cases_of(cases.SUITES[suite]))
    assert "(scaled)" not in out


def test_models_are_listed_in_the_size_of_the_device(capsys):
    for device, size in (("cpu", "batch 8, image 64"), ("gpu", "batch 64, image 224")):
        arguments = ["--suite", "models", "--dtype", "float32", "--shapes", "vit"]
        assert cli.main(["bench", "--device", device, "--list", *arguments]) == 0
        assert size in capsys.readouterr().out


def test_no_gpu_is_a_readable_error(monkeypatch):
    from fusednorm import _native

    monkeypatch.setattr(_native, "cuda_devices", list)
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        cli.main(["bench", "--device", "gpu"])


# Progress, profiles, traffic


def test_the_time_left_is_learnt_from_what_is_done():
    schedule = progress.Schedule([10.0, 10.0, 10.0])
    assert schedule.left(0) == pytest.approx(30)
    schedule.took(0, 30.0)  # Three times the estimate, half of which is believed.
    assert schedule.left(1) == pytest.approx(2 * 20)


def test_a_budget_leaves_out_what_does_not_fit():
    schedule = progress.Schedule([1.0, 50.0, 1.0], budget=20)
    assert [schedule.fits(i) for i in range(3)] == [True, False, True]
    assert progress.Schedule([1e9]).fits(0)


def test_progress_says_how_long_it_still_takes():
    said = []
    show = progress.Progress(said.append)
    schedule = progress.Schedule([60.0, 65.0])
    show(schedule, 0, 2, "vit-b float32")
    show(schedule, 2, 2, "done")
    assert said == [
        "[0/2 0:00, about 2:05 left: vit-b float32]\n",
        "[2/2 0:00: done]\n",
    ]


def test_kernels_of_a_trace_are_those_on_the_streams_of_a_gpu():
    xplane = pytest.importorskip("tensorflow.tsl.profiler.protobuf.xplane_pb2")
    space = xplane.XSpace()
    for name, lines in {
        "/device:GPU:0": {"Stream #1(Compute)": [1, 2, 1], "XLA Ops": [1]},
        "/host:CPU": {"Stream #2": [1]},
    }.items():
        plane = space.planes.add(name=name)
        plane.event_metadata[1].name = "RowsForward"
        plane.event_metadata[2].name = "MemcpyD2D"
        for title, events in lines.items():
            line = plane.lines.add(name=title)
            for event in events:
                line.events.add(metadata_id=event)
    names = launches.of_trace(space.SerializeToString())
    assert launches.kernels(names) == ["RowsForward"] * 2


def test_a_call_is_profiled_by_tensorflow():
    """On a CPU nothing runs on a device, so the count is none; the rest is run."""
    tf = pytest.importorskip("tensorflow")
    calls = []
    count = launches.count(
        lambda: calls.append(tf.ones(3) + 1), lambda: None, by="tensorflow"
    )
    assert (count, len(calls)) == (0, 1)


@pytest.mark.parametrize(
    ("device", "threads", "name"),
    [
        ("NVIDIA H200", None, "nvidia-h200"),
        ("Intel(R) Xeon(R) Processor", 2, "intel-r-xeon-r-processor-2-threads"),
    ],
)
def test_every_machine_has_a_folder_of_its_own(device, threads, name):
    assert machines.folder_name(device, threads) == name


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


def test_a_huge_set_is_enough_alone():
    assert timing.number_of_sets(10**9, 50 * 2**20) == 1


def test_summary_is_median_and_quartiles():
    summary = timing.summary(list(np.arange(1, 10) * 1e-6))
    assert summary["median_us"] == pytest.approx(5)
    assert summary["quartiles_us"] == pytest.approx([3, 7])
    assert timing.summary([2e-6])["median_us"] == pytest.approx(2)


def test_json_is_written_whole_and_in_a_new_folder(report, tmp_path):
    path = tmp_path / "new folder" / "bench.json"
    records.write(path, report)
    assert records.read(path) == report
    assert [each.name for each in path.parent.iterdir()] == ["bench.json"]


def test_a_nan_is_the_worst_error(report):
    report["cases"][0]["errors"]["dx"] = math.nan
    assert math.isnan(records.worst_error(report["cases"][0]))
    assert records.worst_error({"errors": None}) is None


def test_commit_is_that_of_git_or_the_one_given(monkeypatch):
    monkeypatch.delenv("FUSEDNORM_COMMIT", raising=False)
    assert environment.commit("abc")["commit"] == "abc"
    monkeypatch.setenv("FUSEDNORM_COMMIT", "def")
    assert environment.commit() == {"commit": "def", "dirty": None, "from": "given"}
