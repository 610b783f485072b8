"""Norms on NumPy arrays through emulated kernels, held to the reference and bounds."""

import math
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
from fusednorm import _native

from support import bounds, reference

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]  # as in data_type.h
PASSES = ["forward", "backward", "second_order"]  # as in emulate.cc
ACTIVATIONS = list(reference.ACTIVATIONS)  # as in activation.h


# Values of `candidate`: the plan that launches take, and the one that they take where
# there is no more workspace than the best plan needs.
LAUNCHED, CRAMPED = -1, -2


@dataclass(frozen=True)
class Device:
    """A GPU so small that small tensors take all ways through its kernels."""

    multiprocessors: int = 2
    max_cluster: int = 1
    max_threads_per_multiprocessor: int = 2048
    shared_bytes_per_multiprocessor: int = 32 << 10
    shared_bytes_per_block: int = 16 << 10
    l2_bytes: int = 1 << 20


SMALL = Device()
CLUSTERS = Device(max_cluster=4)
ROOMY = Device(
    shared_bytes_per_multiprocessor=100 << 10, shared_bytes_per_block=99 << 10
)
LONELY = Device(multiprocessors=1, max_cluster=8)
# As large as real ones.
T4 = Device(
    multiprocessors=40,
    max_threads_per_multiprocessor=1024,
    shared_bytes_per_multiprocessor=64 << 10,
    shared_bytes_per_block=64 << 10,
    l2_bytes=4 << 20,
)
H200 = Device(
    multiprocessors=132,
    max_cluster=16,
    shared_bytes_per_multiprocessor=228 << 10,
    shared_bytes_per_block=227 << 10,
    l2_bytes=50 << 20,
)


@dataclass(frozen=True)
class Options:
    """What a call has besides the norm and the data."""

    residual: bool = False
    gamma: bool = True
    beta: bool = True
    narrow: bool = False  # parameters of the data's type
    mask: bool = False  # statistics are of some positions only
    statistics: bool = False  # gradients reach mean and rstd
    params: bool = True  # dgamma and dbeta are wanted,
    alone: str = ""  # or the gradient of this one only
    offset: int = 0  # elements from the next multiple of 16 bytes
    order: int = 0  # of threads
    resident: int = 4  # blocks at a time, of those that wait for others
    # Which of the plans, the best first; the last, if fewer; or LAUNCHED, or CRAMPED.
    candidate: int = 0


def wide(dtype):
    """Returns the type that computes."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def view(norm, shape):
    """Returns [N, P, G, K, Q] as NormProblem has them."""
    axes = sorted(axis % len(shape) for axis in norm.axes)
    first, end = axes[0], axes[-1] + 1
    after = math.prod(shape[end:])
    if norm.op == "group_norm":
        channels = shape[first]
        groups = channels if norm.groups == -1 else norm.groups
        dims = (shape[0], math.prod(shape[1:first]), groups, channels // groups, after)
        return dict(zip("npgkq", dims, strict=True)), True
    dims = (math.prod(shape[:first]), 1, 1, math.prod(shape[first:end]), after)
    return dict(zip("npgkq", dims, strict=True)), after == 1


def request(norm, shape, dtype, device, options, which):
    """Returns the fields of the worker's request."""
    dims, reduces_q = view(norm, shape)
    data = DTYPES.index(dtype)
    param = data if options.narrow else DTYPES.index(wide(dtype))
    return {
        **dims,
        **vars(device),
        "epsilon": norm.epsilon,
        "reduces_q": reduces_q,
        "centred": norm.centred,
        "data": data,
        "param": param,
        "activation": ACTIVATIONS.index(norm.activation),
        "has_gamma": options.gamma,
        "has_beta": options.beta and norm.centred,
        "has_residual": options.residual,
        "zero_centered": norm.zero_centered,
        "per_position": norm.per_position,
        "has_mask": options.mask,
        "param_sets": shape[0] if norm.per_sample else 1,
        "mask_n": dims["n"] if options.mask else 1,
        "mask_q": dims["q"] if options.mask else 1,
        "pass": PASSES.index(which),
        "order": options.order,
        "resident": options.resident,
        "candidate": options.candidate,
        "offset": options.offset,
    }


def plan(emulated, norm, shape, dtype, device=SMALL, options=None, which="forward"):
    """Returns the plan of a pass alone."""
    fields = request(norm, shape, dtype, device, options or Options(), which)
    answer, _ = emulated.ask("emulate", fields, [])
    assert answer["error"] == ""
    return answer


def all_plans(
    emulated, norm, shape, dtype, device=SMALL, options=None, which="forward"
):
    """Returns the candidates, the best first."""
    options = options or Options()
    made = plan(emulated, norm, shape, dtype, device, options, which)
    return [made] + [
        plan(
            emulated,
            norm,
            shape,
            dtype,
            device,
            replace(options, candidate=candidate),
            which,
        )
        for candidate in range(1, made["candidates"])
    ]


def candidate_of(emulated, norm, shape, dtype, device, options, which, wanted):
    """Returns options with the candidate that `wanted` says yes to, or None."""
    plans = all_plans(emulated, norm, shape, dtype, device, options, which)
    for candidate, made in enumerate(plans):
        if wanted(made):
            return replace(options, candidate=candidate)
    return None


def call(emulated, fields, inputs, outputs, places):
    """Runs one pass; outputs are NaN before. Returns the plan and the outputs.

    `inputs` and `outputs` are by name; what is absent is `None`, or left out. `places`
    names the inputs whose buffers outputs take.
    """
    signature = _native.signatures()[PASSES[fields["pass"]]]
    operands = [*signature["inputs"], *signature["outputs"]]
    names = [operand["name"] for operand in operands]
    given = {**inputs, **outputs}
    assert given.keys() <= set(names)
    arrays = {name: given.get(name) for name in names}
    sent = [
        None
        if a is None
        else (
            a.tobytes(),
            # The request's offset is that of data.
            a.itemsize if operand["part"] == "data" else 0,
            names.index(places[name]) if name in places else -1,
        )
        for operand, (name, a) in zip(operands, arrays.items(), strict=True)
    ]
    answer, received = emulated.ask("emulate", fields, sent)
    assert answer["error"] == ""
    for (name, array), before, after in zip(
        arrays.items(), sent, received, strict=True
    ):
        if name in inputs and array is not None and name not in places.values():
            assert after == before[0], f"{name}, an input, was written to"
    got = dict(zip(arrays, received, strict=True))
    return answer, {
        name: None if a is None else np.frombuffer(got[name], a.dtype).reshape(a.shape)
        for name, a in outputs.items()
    }


def nan(shape, dtype, wanted=True):
    """Returns an output that nothing has been written to."""
    return np.full(shape, np.nan, dtype) if wanted else None


def draw_mask(norm, shape, rng):
    """Returns which positions the statistics are of: some; of the last sample, none.

    The first half of each sample's is hidden, as padding is: whole slices.
    """
    channel = reference.sorted_axes(norm, len(shape))[0]
    mask = rng.random(shape[:channel] + shape[channel + 1 :]) < 0.6
    hidden = mask.reshape(shape[0], -1)
    hidden[:, : hidden.shape[1] // 2] = False
    hidden[-1] = False
    return mask


def draw(norm, shape, dtype, options, rng, scale=1.0, shift=0.5, outlier=None):
    """Returns random inputs of forward and backward.

    The element of x at `outlier`, as if x were flat, is 1e4 standard deviations off.
    """
    parameter_shape = reference.parameter_shape(norm, shape)
    param_dtype = dtype if options.narrow else wide(dtype)
    dims, reduces_q = view(norm, shape)
    groups = dims["n"] * dims["g"] * (1 if reduces_q else dims["q"])

    def normal(size, kind, wanted=True):
        return rng.normal(size=size).astype(kind) if wanted else None

    x = rng.normal(size=shape) * scale + shift
    if outlier is not None:
        x.flat[outlier] = 1e4 * scale
    with_beta = options.beta and norm.centred
    low, high = (-0.5, 1) if norm.zero_centered else (0.5, 2)
    return {
        "x": x.astype(dtype),
        "residual": normal(shape, dtype, options.residual),
        "gamma": rng.uniform(low, high, parameter_shape).astype(param_dtype)
        if options.gamma
        else None,
        "beta": normal(parameter_shape, param_dtype, with_beta),
        "mask": draw_mask(norm, shape, rng) if options.mask else None,
        "dy": normal(shape, dtype),
        "dsum": normal(shape, dtype, options.residual),
        "dmean": normal(groups, wide(dtype), options.statistics and norm.centred),
        "drstd": normal(groups, wide(dtype), options.statistics),
    }


def forward(emulated, norm, data, device, options, places=None):
    """Runs forward. Returns the plan and y, sum, mean, rstd."""
    x = data["x"]
    dims, reduces_q = view(norm, x.shape)
    groups = dims["n"] * dims["g"] * (1 if reduces_q else dims["q"])
    return call(
        emulated,
        request(norm, x.shape, x.dtype, device, options, "forward"),
        {name: data[name] for name in ("x", "residual", "gamma", "beta", "mask")},
        {
            "y": nan(x.shape, x.dtype),
            "sum": nan(x.shape, x.dtype, options.residual),
            "mean": nan(groups, wide(x.dtype), norm.centred),
            "rstd": nan(groups, wide(x.dtype)),
        },
        places or {},
    )


def backward(emulated, norm, data, outputs, device, options, places=None):
    """Runs backward on forward's outputs. Returns the plan and dx, dgamma, dbeta."""
    x = outputs["sum"] if options.residual else data["x"]
    gamma, beta = (
        data[name] if options.params and options.alone in ("", name) else None
        for name in ("gamma", "beta")
    )
    return call(
        emulated,
        request(norm, x.shape, x.dtype, device, options, "backward"),
        {
            "dy": data["dy"],
            "x": x,
            "mean": outputs["mean"],
            "rstd": outputs["rstd"],
            **{name: data[name] for name in ("gamma", "beta", "dsum")},
            **{name: data[name] for name in ("dmean", "drstd", "mask")},
        },
        {
            "dx": nan(x.shape, x.dtype),
            "dgamma": None if gamma is None else nan(gamma.shape, gamma.dtype),
            "dbeta": None if beta is None else nan(beta.shape, beta.dtype),
        },
        places or {},
    )


def check(
    emulated,
    norm,
    shape,
    dtype,
    rng,
    device=SMALL,
    options=None,
    **data,
):
    """Runs both passes on random data and holds them to the bounds.

    Returns the plans and all outputs.
    """
    options = options or Options()
    drawn = draw(norm, shape, np.dtype(dtype), options, rng, **data)
    return hold(emulated, norm, drawn, device, options, options)


def hold(emulated, norm, data, device, options, of_backward, most=1.0):
    """Runs both passes on given data, each with its options, as `check` does.

    `most`: how many times the bounds results may be off.
    """
    dtype = data["x"].dtype
    first, outputs = forward(emulated, norm, data, device, options)
    second, gradients = backward(emulated, norm, data, outputs, device, of_backward)

    of = reference.forward(
        norm,
        *(data[name] for name in ("x", "gamma", "beta", "residual", "mask")),
    )
    dsum = 0.0 if data["dsum"] is None else data["dsum"]
    unit = bounds.PRECISIONS[dtype].compute
    of_statistics = (data["dmean"], data["drstd"])
    exact = reference.backward(norm, of, data["dy"], dsum, *of_statistics)
    param_dtype = dtype if options.narrow else wide(dtype)
    dx, dgamma, dbeta = bounds.backward(
        norm, of, exact, data["dy"], dtype, param_dtype, *of_statistics
    )
    held = {
        "y": (bounds.forward(norm, of, dtype), outputs["y"], of.y),
        "rstd": (bounds.of_rstd(norm, of, unit), outputs["rstd"], of.rstd),
        "dx": (dx, gradients["dx"], exact.dx),
    }
    if norm.centred:
        held["mean"] = (bounds.of_mean(of, unit), outputs["mean"], of.mean)
    if gradients["dgamma"] is not None:
        held["dgamma"] = (dgamma, gradients["dgamma"], exact.dgamma)
    if gradients["dbeta"] is not None:
        held["dbeta"] = (dbeta, gradients["dbeta"], exact.dbeta)
    ratios = {
        name: bounds.relative_to(bound, got.reshape(want.shape), want)
        for name, (bound, got, want) in held.items()
    }
    # Written so that NaN fails.
    wrong = {name: ratio for name, ratio in ratios.items() if not ratio <= most}
    assert not wrong, f"{wrong} of the bounds; {first}; {second}"
    if options.residual:
        assert outputs["sum"].tobytes() == of.sum.tobytes()
    return (first, second), {**outputs, **gradients}
