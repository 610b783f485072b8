"""Launches obey a table of tuned plans, and the results are right whatever it says."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from fusednorm import _native
from fusednorm.tune import run, table
from support.emulation import compiling, emulator
from support.emulation.emulated_norms import (
    CLUSTERS,
    CRAMPED,
    LAUNCHED,
    SMALL,
    T4,
    Options,
    backward,
    check,
    draw,
    forward,
    request,
)
from support.reference import Norm

CASES = {
    "group_norm": (Norm("group_norm", (-1,), 4, activation="silu"), (2, 50, 40)),
    "layer_norm": (Norm("layer_norm", (-1,)), (6, 96)),
    "columns": (Norm("layer_norm", (1,)), (2, 12, 40)),
}


def native_device(device):
    """Returns a device of the emulation as `_native.plan` takes it."""
    return {
        **_native.known_devices()["t4"],
        **asdict(device),
        "name": "emulated",
        "major": 9 if device.max_cluster > 1 else 8,
    }


def arguments(norm, shape, device, direction):
    """Returns the arguments of `_native.plan` for float32 data."""
    return {
        "op": norm.op,
        "shape": list(shape),
        "dtype": "float32",
        "axes": list(norm.axes),
        "groups": norm.groups if norm.op == "group_norm" else 0,
        "activation": norm.activation,
        "has_gamma": True,
        "has_beta": True,
        "device": native_device(device),
        "direction": direction,
    }


def lines(norm, shape, device, number):
    """Returns a table that names the plans of a number, or the last ones."""
    made = [table.HEADER]
    for direction in ("forward", "backward"):
        of = arguments(norm, shape, device, direction)
        plans = _native.candidates(**of)
        made.append(
            table.line(
                _native.tuned_key(**of),
                plans[min(number, len(plans) - 1)]["description"],
                seconds=1e-6,
                rule_seconds=2e-6,
                measured="a test",
            )
        )
    return "\n".join(made) + "\n"


@pytest.fixture
def tuned(tmp_path, monkeypatch, emulated):
    """Returns how to start the emulator in a process that reads a table."""
    started = []

    def start(text):
        path = tmp_path / "tuned.tsv"
        path.write_text(text)
        monkeypatch.setenv("FUSEDNORM_TUNED", str(path))
        started.append(emulator.Emulator(compiling.library(compiling.KERNELS)))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize("device", [SMALL, CLUSTERS], ids=["small", "clusters"])
@pytest.mark.parametrize("name", CASES)
def test_launches_take_the_plan_that_the_table_names(
    name, device, emulated, tuned, rng
):
    norm, shape = CASES[name]
    launched = Options(candidate=LAUNCHED)
    by_rule, _ = check(emulated, norm, shape, np.float32, rng, device, launched)
    others = tuned(lines(norm, shape, device, 99))
    plans, _ = check(others, norm, shape, np.float32, rng, device, launched)
    for plan, rule, direction in zip(
        plans, by_rule, ("forward", "backward"), strict=True
    ):
        candidates = _native.candidates(**arguments(norm, shape, device, direction))
        assert rule["geometry"] == candidates[0]["geometry"]
        assert plan["scheme"] == candidates[-1]["scheme"]
        assert plan["geometry"] == candidates[-1]["geometry"]
        assert len(candidates) > 1
        assert plan != rule


def test_a_broken_table_changes_nothing(emulated, tuned, rng):
    norm, shape = CASES["group_norm"]
    launched = Options(candidate=LAUNCHED)
    broken = tuned(lines(norm, shape, SMALL, 99) + "rubbish\n")
    by_rule, _ = check(emulated, norm, shape, np.float32, rng, SMALL, launched)
    plans, _ = check(broken, norm, shape, np.float32, rng, SMALL, launched)
    assert plans == by_rule


@pytest.mark.parametrize(
    ("shape", "device", "direction", "number", "tuned_needs_more"),
    [
        ((6, 96), SMALL, "forward", 99, True),
        ((8192, 768), T4, "backward", 3, False),
    ],
)
def test_workspace_is_enough_with_the_table_and_without(
    shape, device, direction, number, tuned_needs_more, emulated, tuned
):
    """A program that XLA compiled with a table may run where there is none."""
    norm = Norm("layer_norm", (-1,))
    fields = request(norm, shape, np.dtype(np.float32), device, Options(), direction)
    plans = _native.candidates(**arguments(norm, shape, device, direction))
    best, named = (
        plans[i]["workspace_bytes"] for i in (0, min(number, len(plans) - 1))
    )
    assert (named > best) == tuned_needs_more
    assert emulated.ask("most_workspace", fields) == best
    others = tuned(lines(norm, shape, device, number))
    assert others.ask("most_workspace", fields) == max(best, named)


def test_without_room_for_the_tuned_plan_the_first_one_runs(emulated, tuned, rng):
    """A program that XLA compiled without a table may run with one."""
    norm, shape = CASES["layer_norm"]
    best, _ = check(emulated, norm, shape, np.float32, rng)
    others = tuned(lines(norm, shape, SMALL, 99))
    for candidate, runs_best in ((LAUNCHED, False), (CRAMPED, True)):
        options = Options(candidate=candidate)
        plans, _ = check(others, norm, shape, np.float32, rng, SMALL, options)
        assert (plans[0] == best[0]) == runs_best


@pytest.mark.parametrize("name", CASES)
def test_plans_are_alike_as_tune_compares_them(name, emulated, rng):
    """All candidates differ by less than `run.difference` allows, and noise by more."""
    norm, shape = CASES[name]
    options = Options()
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    first = None
    for number in range(8):
        of = replace(options, candidate=number)
        _, outputs = forward(emulated, norm, data, CLUSTERS, of)
        _, gradients = backward(emulated, norm, data, outputs, CLUSTERS, of)
        found = [
            None if each is None else each.astype(np.float64)
            for each in (*outputs.values(), *gradients.values())
        ]
        first = first or found
        assert run.difference(first, found, "float32") < 0.1
    found[0] = found[0] + 0.1
    assert run.difference(first, found, "float32") > 1
