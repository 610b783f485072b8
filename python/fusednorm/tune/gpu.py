"""Times plans on the first CUDA device, on PyTorch's tensors and in its CUDA graphs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

from fusednorm import _native
from fusednorm.bench import cuda_graphs, timing
from fusednorm.tune import table
from fusednorm.tune.run import Case, Measured, difference

Call = Callable[[int], Any]
_SEED = 17


class Gpu:
    """The first CUDA device.

    Attributes:
        device: Its properties, as its launches see them.
    """

    def __init__(self, rounds: int) -> None:
        """Checks that there is one.

        Args:
            rounds: How often each plan is timed, in turn with the others.

        Raises:
            RuntimeError: there is no device, no CUDA kernel or no PyTorch.
        """
        if not _native.cuda_devices():
            raise RuntimeError(
                "tune needs a CUDA device and a build with CUDA kernels; "
                "`fusednorm info` says what is there, and "
                "`fusednorm tune --list --device h100` what would be timed"
            )
        try:
            import torch
        except ImportError:
            torch = None
        if torch is None or not torch.cuda.is_available():
            raise RuntimeError(
                "tune needs PyTorch with CUDA, whose tensors and CUDA graphs it times "
                "kernels with; install it from https://pytorch.org"
            )
        self._rounds = rounds
        self.device = _native.cuda.first_device()
        # CUDA graphs cannot be captured on the default stream.
        torch.cuda.set_stream(torch.cuda.Stream())

    def measure(self, case: Case) -> list[Measured]:
        """Returns what was found of each plan of a case."""
        import torch

        moved = case.plans[0]["least_bytes"]
        count = timing.number_of_sets(moved, self.device["l2_bytes"])
        torch.manual_seed(_SEED)
        shared = _parameters(case)
        sets = [_Set(case, shared) for _ in range(count)]
        calls = [_with_plan(case, plan, sets) for plan in case.plans]
        errors = self._errors(case, calls, sets[0])
        times = _times(calls, count, moved, self._rounds)
        del sets, calls
        gc.collect()
        torch.cuda.empty_cache()
        return [Measured(*each) for each in zip(times, errors, strict=True)]

    @staticmethod
    def _errors(case: Case, calls: Sequence[Call], one: _Set) -> list[float]:
        """Returns by how much the outputs of each plan differ from the first's."""
        first: list[Any] | None = None
        errors = []
        for call in calls:
            # What a plan does not write must not be left from the one before.
            for output in one.outputs:
                if output is not None:
                    output.fill_(float("nan"))
            call(0)
            outputs = [None if each is None else each.double() for each in one.outputs]
            first = first or outputs
            errors.append(difference(first, outputs, case.problem.arguments["dtype"]))
        return errors


def _times(
    calls: Sequence[Call], sets: int, moved: int, rounds: int
) -> list[list[float]]:
    """Returns the seconds of each call, round by round: as `fusednorm bench` times.

    Args:
        calls: Each works on set i.
        sets: How many sets there are to go around.
        moved: Bytes that a call moves, at least.
        rounds: In each of which all calls are timed.
    """
    import torch

    estimate = 3e-6 + moved / 2e12
    tasks = [
        cuda_graphs.GraphTask(number, call, sets, estimate, moved)
        for number, call in enumerate(calls)
    ]
    times = timing.measure(
        tasks,
        rounds=rounds,
        seconds=60.0,
        call_seconds=0.02,
        synchronize=torch.cuda.synchronize,
    )
    return [times[number] for number in range(len(calls))]


def _with_plan(case: Case, plan: dict[str, Any], sets: Sequence[_Set]) -> Call:
    """Returns the call that launches a plan on set i."""
    forced = table.line(
        case.key, plan["description"], seconds=0, rule_seconds=0, measured="now"
    )
    text = f"{table.HEADER}\n{forced}\n"

    def call(i: int) -> None:
        # Launches obey the table, and there is no other way to choose a plan.
        _native.set_tuned_table("the plan that is timed", text)
        sets[i].launch()

    return call


def _type_of(name: str) -> Any:
    import torch

    return getattr(torch, name)


def _parameters(case: Case) -> tuple[Any, Any]:
    """Returns gamma and beta, None where there is none."""
    import torch

    arguments = case.problem.arguments
    shape = arguments["shape"]
    sizes = [shape[axis] for axis in sorted(a % len(shape) for a in arguments["axes"])]
    if arguments["per_position"]:
        sizes = shape
    elif arguments["per_sample"]:
        sizes = [shape[0], *sizes]
    name = arguments["param_dtype"]
    if name == "auto":
        name = "float64" if arguments["dtype"] == "float64" else "float32"
    made = torch.rand(sizes, device="cuda") + 0.5
    return tuple(
        made.to(_type_of(name)) if arguments[has] else None
        for has in ("has_gamma", "has_beta")
    )


class _Set:
    """The tensors of one call.

    Attributes:
        outputs: PyTorch's tensors of what a call writes; None where there is none.
    """

    def __init__(self, case: Case, parameters: tuple[Any, Any]) -> None:
        """Draws the inputs, and makes room for the outputs by a first call."""
        import torch

        arguments = case.problem.arguments
        shape, axes = arguments["shape"], arguments["axes"]
        names = ("axes", "groups", "activation", "zero_centered", "per_sample")
        self._options = {name: arguments[name] for name in (*names, "per_position")}
        self._options["epsilon"] = 1e-3
        self._options["stream"] = torch.cuda.current_stream().cuda_stream
        self._op = arguments["op"]

        def tensor() -> Any:
            drawn = torch.randn(shape, device="cuda")
            return _native.cuda.Tensor(drawn.to(_type_of(arguments["dtype"])))

        x = tensor()
        residual = tensor() if arguments["residual"] else None
        if arguments["has_mask"]:
            sizes = [n for i, n in enumerate(shape) if i != axes[0] % len(shape)]
            mask = torch.rand(sizes, device="cuda") < 0.8
            self._options["mask"] = _native.cuda.Tensor(mask)
        gamma, beta = (
            None if each is None else _native.cuda.Tensor(each) for each in parameters
        )
        self._call = _native.cuda.forward
        self._inputs: tuple[Any, ...] = (x, gamma, beta, residual)
        made = self._call(self._op, *self._inputs, **self._options)
        if case.direction == "backward":
            _, total, mean, rstd = made
            if residual is not None:
                self._options["dsum"] = tensor()
            self._call = _native.cuda.backward
            of_forward = (x if total is None else total, mean, rstd)
            self._inputs = (tensor(), *of_forward, gamma, beta)
            made = self._call(self._op, *self._inputs, **self._options)
        self._options["out"] = made
        self.outputs = [
            None if each is None else torch.from_dlpack(each) for each in made
        ]

    def launch(self) -> None:
        """Enqueues the pass."""
        self._call(self._op, *self._inputs, **self._options)
