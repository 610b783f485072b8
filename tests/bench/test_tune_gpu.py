"""What `tune` does with a GPU, with NumPy and the CPU's kernels in its place.

So it is tested without one that every kind of norm gets tensors that fit, that each
plan is forced in its turn, and that all outputs are compared.
"""

import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from fusednorm import _native
from fusednorm.bench.data import NUMPY_TYPES
from fusednorm.tune import gpu, problems, run

DEVICE = _native.known_devices()["h200"] | {"l2_bytes": 0}
SETS = 1  # that number_of_sets gives for so little L2


class Tensor:
    """As much of PyTorch's tensor as is used."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def to(self, dtype):
        return Tensor(self.array.astype(dtype))

    def __add__(self, number):
        return Tensor(self.array + np.float32(number))

    def __lt__(self, number):
        return Tensor(self.array < number)

    def fill_(self, number):
        self.array[...] = number

    def double(self):
        return self.array.astype(np.float64)


class FakeCuda:
    """`_native.cuda` on NumPy arrays; remembers which plan each launch took."""

    Tensor = staticmethod(lambda tensor: tensor)

    def __init__(self, spoil=None, skip=None):
        self.plans = []
        self.arguments = None
        # The numbers of launches that write something else, or nothing.
        self.spoil, self.skip = spoil, skip

    @staticmethod
    def first_device():
        return DEVICE

    def _run(self, function, op, inputs, options):
        options = dict(options)
        out = options.pop("out", None)
        assert options.pop("stream") == 7
        for name in ("mask", "dsum"):
            if name in options:
                options[name] = options[name].array
        arrays = [None if each is None else each.array for each in inputs]
        made = function(op, *arrays, **options)
        if out is None:
            return tuple(None if each is None else Tensor(each) for each in made)
        plan = _native.plan(
            **self.arguments, device=DEVICE, direction=function.__name__
        )["description"]
        self.plans.append(plan)
        if self.skip == len(self.plans):
            return out
        for tensor, each in zip(out, made, strict=True):
            assert (tensor is None) == (each is None)
            if each is not None:
                tensor.array[...] = each
        if self.spoil == len(self.plans):
            out[0].array.flat[0] += 1
        return out

    def forward(self, op, *inputs, **options):
        return self._run(_native.forward, op, inputs, options)

    def backward(self, op, *inputs, **options):
        return self._run(_native.backward, op, inputs, options)


@pytest.fixture
def fake(monkeypatch):
    """Returns how to make a Gpu of nothing but NumPy."""
    rng = np.random.default_rng(3)
    stream = SimpleNamespace(cuda_stream=7)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        set_stream=lambda stream: None,
        Stream=lambda: stream,
        current_stream=lambda: stream,
        synchronize=lambda: None,
        empty_cache=lambda: None,
    )
    torch = SimpleNamespace(
        cuda=cuda,
        manual_seed=lambda seed: None,
        rand=lambda sizes, device: Tensor(rng.random(sizes, np.float32)),
        randn=lambda sizes, device: Tensor(rng.standard_normal(sizes, np.float32)),
        from_dlpack=lambda tensor: tensor,
        **{name: kind.type for name, kind in NUMPY_TYPES.items()},
    )
    assert torch.bfloat16 is ml_dtypes.bfloat16

    def times(calls, sets, moved, rounds):
        for call in calls * rounds:
            for i in range(sets):
                call(i)
        return [[1.0] * rounds for _ in calls]

    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(gpu, "_times", times)
    monkeypatch.setattr(_native, "cuda_devices", lambda: [{}])

    def make(**options):
        device = FakeCuda(**options)
        monkeypatch.setattr(_native, "cuda", device)
        return gpu.Gpu(rounds=2), device

    yield make
    _native.reload_tuned_table()


NORMS = {
    "group": {"op": "group_norm", "shape": (2, 8, 8, 64), "groups": 8},
    "channels first": {
        **{"op": "instance_norm", "shape": (2, 16, 8, 8), "axes": (1,)},
        "activation": "silu",
    },
    "mask": {"op": "group_norm", "shape": (2, 8, 8, 16), "groups": 4, "mask": True},
    "residual": {"op": "rms_norm", "shape": (6, 128), "residual": True},
    "of samples": {"op": "layer_norm", "shape": (3, 5, 64), "parameters_of": "sample"},
    "of positions": {
        **{"op": "group_norm", "shape": (2, 6, 16), "groups": 4},
        "parameters_of": "position",
    },
    "two axes": {"op": "layer_norm", "shape": (3, 4, 16), "axes": (-2, -1)},
    "no parameters": {
        **{"op": "layer_norm", "shape": (4, 64), "gamma": False, "beta": False},
    },
    "float64": {"op": "layer_norm", "shape": (4, 64), "dtype": "float64"},
    "narrow": {"op": "layer_norm", "shape": (4, 64), "param_dtype": "bfloat16"},
}


@pytest.mark.parametrize("direction", run.DIRECTIONS)
@pytest.mark.parametrize("name", NORMS)
def test_each_plan_is_forced_timed_and_compared(name, direction, fake):
    machine, device = fake()
    problem = problems.one(**NORMS[name])
    (case,) = run.cases([problem], DEVICE, [direction])
    device.arguments = problem.arguments
    found = machine.measure(case)
    plans = [plan["description"] for plan in case.plans]
    assert [(each.seconds, each.error) for each in found] == [([1.0, 1.0], 0.0)] * len(
        plans
    )
    # Compared, then timed in two rounds.
    assert device.plans == plans * 3 * SETS


@pytest.mark.parametrize("fault", ["spoil", "skip"])
def test_a_plan_that_computes_something_else_is_found(fault, fake):
    machine, device = fake(**{fault: 2})
    problem = problems.one(**NORMS["group"])
    (case,) = run.cases([problem], DEVICE, ["forward"])
    device.arguments = problem.arguments
    found = machine.measure(case)
    assert [each.is_right for each in found] == [i != 1 for i in range(len(found))]


def test_without_pytorch_it_says_so(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeError, match="tune needs PyTorch with CUDA"):
        fake()
