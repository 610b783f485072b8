"""`fusednorm doctor`: all is well here, and what it says where something is not."""

import copy
import json

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _native, cli, explain, info, layers
from fusednorm._doctor import accuracy, cases, determinism, installation, kept, xla
from fusednorm.bench.verify import Exact
from support import bounds, forks, reference
from support.commands import WITHOUT_TENSORFLOW, python

CHECKS = ["installation", "gpu", "plans", "accuracy", "determinism", "xla", "kept"]
WITH_ROWS = CHECKS[2:]
# Instead of a dozen shapes.
FEW = {"vit-b": (2, 19, 768), "llama-7b": (1, 8, 4096)}
FEW_AS_CODE = f"""
from fusednorm import cli
from fusednorm._doctor import cases
cases.SMALL.clear()
cases.SMALL.update({FEW})
sys.exit(cli.main(["doctor"]))
"""


@pytest.fixture
def few(monkeypatch):
    for name in [*cases.SMALL]:
        if name not in FEW:
            monkeypatch.delitem(cases.SMALL, name)
    for name, dims in FEW.items():
        monkeypatch.setitem(cases.SMALL, name, dims)
    monkeypatch.setattr(xla, "NAMES", ("vit-b",))
    monkeypatch.setattr(determinism, "RUNS", 2)


@pytest.fixture
def doctor(few, tmp_path, capsys):
    """Returns how to run the command: its exit code, and its problems."""

    def run():
        path = tmp_path / "doctor.json"
        code = cli.main(["doctor", "--json", str(path)])
        report = json.loads(path.read_text())
        text = capsys.readouterr().out
        assert report["ok"] == (code == 0) == (not report["problems"])
        assert all(f"Wrong: {each}" in text for each in report["problems"])
        assert ("All is well" in text) == report["ok"]
        return code, report["problems"]

    return run


# All is well


def test_all_is_well_here(tmp_path, capsys):
    path = tmp_path / "doctor.json"
    assert cli.main(["doctor", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith("All is well")
    report = json.loads(path.read_text())
    assert set(report) == {"schema", "ok", "problems", "seconds", "info", "checks"}
    assert (report["schema"], report["ok"], report["problems"]) == (1, True, [])
    assert report["info"]["fusednorm"]["version"] == fusednorm.__version__
    assert list(report["checks"]) == CHECKS
    rows = {name: check["rows"] for name, check in report["checks"].items()}
    for name, check in report["checks"].items():
        assert set(check) == {"rows", "problems", "notes", "seconds"}
        assert len({tuple(row) for row in rows[name]}) == (name in WITH_ROWS)
    assert {row["shape"] for row in rows["plans"]} == set(cases.SMALL)
    assert all(row["forward"] in explain.SCHEMES for row in rows["plans"])
    assert {(row["place"], row["type"]) for row in rows["accuracy"]} >= {
        (place, dtype) for place in ("native", "/CPU:0") for dtype in accuracy.DTYPES
    }
    for row in rows["accuracy"]:
        for kind in accuracy.UNITS:
            assert 0 < row[kind] <= row[f"{kind} bound"]
    assert {row["way"] for row in rows["determinism"]} >= {
        "/CPU:0",
        "native, 3 threads",
        *(f"native, {isa}" for isa in _native.isas()),
    }
    assert not any(row["change"] or row["other bits"] for row in rows["determinism"])
    assert {row["type"] for row in rows["xla"]} == set(xla.DTYPES)
    assert all(row["same bits as the graph"] for row in rows["xla"])
    assert len(rows["kept"]) == 2 * len(cases.SMALL)
    # With float32 data Keras keeps more than x everywhere.
    for row in rows["kept"]:
        assert row["x"] < row["fusednorm"] < 1.2 * row["x"]
        assert row["Keras"] > row["fusednorm"]


def test_as_a_function(few):
    seen = []
    report = fusednorm.doctor(progress=seen.append)
    assert report["ok"], report["problems"]
    assert seen == list(report["checks"]) == CHECKS


@pytest.mark.parametrize("name", cases.SMALL)
def test_the_bound_leaves_room_for_the_derived_one(name):
    """No kernel that tests/support/bounds.py allows exceeds what the doctor does."""
    data = cases.data_of(name, "float32")
    shape, one = data.case.shape, data.sets[0]
    Exact(data)  # Takes away where slopes jump.
    norm = reference.Norm(
        shape.op, shape.axes, shape.groups, shape.epsilon, shape.activation
    )
    of = reference.forward(norm, one.x, data.gamma, data.beta, one.residual)
    gradients = reference.backward(norm, of, one.dy)
    limits = dict(
        zip(
            ("dx", "dgamma", "dbeta"),
            bounds.backward(norm, of, gradients, one.dy, np.float32),
            strict=True,
        )
    )
    limits["y"] = bounds.forward(norm, of, np.float32)
    for output_name, limit in limits.items():
        exact = of.y if output_name == "y" else getattr(gradients, output_name)
        share = np.max(limit) / max(1, np.max(np.abs(exact)))
        print(name, output_name, float(share / 2**-24), "u")
        assert share <= accuracy.bound(accuracy.OUTPUTS[output_name], "float32")


class OneSet:
    """What `kept_bytes` needs of the tensors of a case."""

    def __init__(self, *shape):
        x, dy = tf.zeros(shape), tf.ones(shape)
        self.sets = [(x, None, dy, None)]


@pytest.mark.parametrize(
    ("function", "tensors_kept"),
    [
        (lambda x: x + 1, 0),
        (tf.square, 1),  # x
        (tf.exp, 1),  # y
        (lambda x: tf.exp(tf.square(x)), 2),  # x and y
        (lambda x: tf.square(x) * tf.exp(x), 3),  # x and both factors
        (lambda x: tf.reshape(tf.square(tf.reshape(x, [-1])), x.shape), 1),
    ],
)
def test_bytes_kept_are_those_of_the_tensors_that_gradients_read(
    function, tensors_kept
):
    norm = (lambda x, residual: function(x), [])
    assert kept.kept_bytes(norm, OneSet(3, 5)) == tensors_kept * 3 * 5 * 4


# Something is off


def broken(monkeypatch, owner, name, change):
    """Makes a function or method return what `change` makes of its result."""
    original = getattr(owner, name)

    def call(*arguments, **options):
        return change(original(*arguments, **options), arguments, options)

    monkeypatch.setattr(owner, name, call)


def test_wrong_values_are_named(doctor, monkeypatch):
    broken(monkeypatch, fusednorm, "layer_norm", lambda y, *_: y * 1.0001)
    code, problems = doctor()
    assert code == 1
    assert problems[0].startswith("y of vit-b in float32 on /CPU:0 is off by ")
    # The kernels alone are right, so their bits are others.
    assert problems[-1].startswith("Results are other bits than on /CPU:0 with native")


def test_wrong_gradients_are_named(doctor, monkeypatch):
    def change(y, arguments, _):
        x = arguments[0]
        return y + tf.cast(0.01, x.dtype) * (x - tf.stop_gradient(x))

    broken(monkeypatch, fusednorm, "layer_norm", change)
    code, problems = doctor()
    assert code == 1
    assert problems[0].startswith("dx of vit-b in float32 on /CPU:0 is off by ")
    assert not any(each.startswith("y of ") for each in problems)


def test_results_that_are_not_numbers_are_named(doctor, monkeypatch):
    broken(monkeypatch, fusednorm, "layer_norm", lambda y, *_: y * float("nan"))
    code, problems = doctor()
    assert code == 1
    for dtype in accuracy.DTYPES:
        assert f"y of vit-b in {dtype} on /CPU:0 is not finite." in problems


def test_results_that_change_are_named(doctor, monkeypatch):
    calls = []

    def change(y, *_):
        calls.append(1)
        # A unit in the last place: within the bounds.
        return y * (1 + 2.0**-23 * (len(calls) % 2)) if y.dtype == tf.float32 else y

    broken(monkeypatch, fusednorm, "layer_norm", change)
    assert doctor() == (
        1,
        ["Results change from run to run on /CPU:0: vit-b in float32."],
    )


def test_results_that_depend_on_threads_are_named(doctor, monkeypatch):
    def change(results, arguments, options):
        if options["num_threads"] == 3:
            results[0].flat[0] *= np.float32(1.0078125)
        return results

    broken(monkeypatch, _native, "forward", change)
    assert doctor() == (
        1,
        [
            "Results are other bits than on /CPU:0 with native, 3 threads: vit-b in "
            "float32, llama-7b in float32, vit-b in bfloat16, llama-7b in bfloat16."
        ],
    )


def test_what_xla_does_not_compile_is_named(doctor, monkeypatch):
    def change(y, *_):
        same = tf.numpy_function(lambda a: a, [tf.stop_gradient(y)], y.dtype)
        return y + 0 * tf.reshape(same, tf.shape(y))

    broken(monkeypatch, layers.LayerNormalization, "call", change)
    code, problems = doctor()
    assert code == 1
    assert problems[0].startswith(
        "XLA does not compile vit-b in float32 on /CPU:0: InvalidArgumentError: "
    )
    assert len(problems) == len(xla.DTYPES)


def test_what_xla_computes_wrong_is_named(doctor, monkeypatch):
    broken(monkeypatch, layers.LayerNormalization, "call", lambda y, *_: y + 0.125)
    code, problems = doctor()
    assert code == 1
    assert problems[0].startswith("Under XLA vit-b in float32 on /CPU:0 is off by ")
    assert len(problems) == len(xla.DTYPES)


def test_what_is_kept_beyond_the_promise_is_named(doctor, monkeypatch):
    broken(
        monkeypatch,
        layers.LayerNormalization,
        "call",
        lambda y, *_: y + 0 * tf.abs(y),
    )
    x = 2 * 19 * 768 * 4
    code, problems = doctor()
    assert code == 1
    assert problems[0] == (
        f"vit-b in float32 keeps {2 * x + 2 * 19 * 8:,} bytes for the backward pass, "
        f"more than x and two numbers a group, {x + 2 * 19 * 8:,}."
    )
    assert len(problems) == len(kept.DTYPES)


def test_a_check_that_fails_is_named_and_the_others_run(doctor, monkeypatch):
    def fails(**_):
        raise RuntimeError("no such plan\nand more")

    monkeypatch.setattr(explain, "collect", fails)
    assert doctor() == (1, ["The check of plans failed: RuntimeError: no such plan"])


# What is missing


def test_without_the_ops_the_kernels_are_checked():
    code = f"import sys\n{FEW_AS_CODE}"
    ended = forks.python("-c", code, FUSEDNORM_DISABLE="1")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == (
        "Wrong: The ops do not load: ImportError: fusednorm's op library is switched "
        "off by FUSEDNORM_DISABLE in the environment; its functions and layers run as "
        "plain TensorFlow ops."
    )
    assert ended.stdout.count("Did not run: the ops do not run here.") == 2
    assert "native, 3 threads" in ended.stdout
    assert "/CPU:0" not in ended.stdout


def test_without_tensorflow_the_kernels_are_checked():
    ended = python("-c", WITHOUT_TENSORFLOW + FEW_AS_CODE)
    assert ended.returncode == 1
    assert "Wrong: TensorFlow cannot be used: ImportError: " in ended.stdout
    assert "native, 3 threads" in ended.stdout


@pytest.fixture(scope="module")
def here():
    return info.collect()


def changed(report, **changes):
    """Returns a copy of a report, with "tensorflow__xla" for ["tensorflow"]["xla"]."""
    report = copy.deepcopy(report)
    for path, value in changes.items():
        *folders, name = path.split("__")
        inside = report
        for folder in folders:
            inside = inside[folder]
        inside[name] = value
    return report


GPU = {"name": "GPU:0", "type": "GPU", "model": None}
T4 = {"name": "Tesla T4", "compute_capability": "7.5"}


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        (
            {"libraries__native_module__error": "ImportError: no such file"},
            ["The native module does not load: ImportError: no such file"],
        ),
        (
            {"keras__error": "ImportError: broken"},
            ["Keras cannot be used: ImportError: broken"],
        ),
        (
            {"keras__backend": "jax"},
            ["The layers need Keras's TensorFlow backend, not jax."],
        ),
        ({"tensorflow__xla": []}, ["XLA has no kernels of ours for the CPU."]),
        (
            {"cuda__version": None, "tensorflow__devices": [GPU]},
            [
                "TensorFlow has a GPU and this build has no CUDA kernels: rebuild it "
                "where nvcc is, or the norms run on the CPU."
            ],
        ),
        (
            {
                "cuda__version": "13.0",
                "tensorflow__devices": [GPU],
                "tensorflow__xla": ["CPU"],
            },
            ["XLA has no kernels of ours for the GPU."],
        ),
        (
            {"cuda__devices": [T4], "cuda__architectures": ["80", "90"]},
            [
                "This build has neither machine code nor PTX for Tesla T4 of compute "
                "capability 7.5, only for 80, 90. Rebuild it with "
                "FUSEDNORM_CUDA_ARCHITECTURES=75."
            ],
        ),
        (
            {"cuda__error": "RuntimeError: driver too old"},
            ["CUDA does not work: RuntimeError: driver too old"],
        ),
    ],
)
def test_the_installation(here, changes, problems):
    assert installation.check(changed(here, **changes)).problems == problems


def test_a_build_without_tensorflow_is_nothing_wrong(here, few, monkeypatch):
    report = changed(
        here,
        tensorflow__built_against=None,
        tensorflow__error="ImportError: needs TensorFlow",
    )
    monkeypatch.setattr(info, "collect", lambda: report)
    found = fusednorm.doctor()
    assert found["ok"]
    assert {row["place"] for row in found["checks"]["accuracy"]["rows"]} == {"native"}
    notes = found["checks"]["installation"]["notes"]
    assert notes == ["A build without TensorFlow: only its kernels are checked."]


def test_gpus_are_places_where_there_are_kernels_for_them(here):
    with_gpu = changed(here, tensorflow__devices=[GPU, GPU], cuda__version="13.0")
    assert cases.places_of(with_gpu).all == ("native", "/CPU:0", "/GPU:0", "/GPU:1")
    cpu_only = changed(with_gpu, cuda__version=None)
    assert cases.places_of(cpu_only).devices == ("/CPU:0",)
