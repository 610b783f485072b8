"""The CPU kernels where positions differ: masks, and gamma and beta of each element.

Values and gradients within the bounds of every other norm; and what a mask hides
reaches no statistic, whatever it is.
"""

# Messages stay on one line, so that they can be searched for.
# ruff: noqa: E501

import re

import ml_dtypes
import numpy as np
import pytest
from fusednorm import _native
from support import bounds, reference
from support.reference import Norm

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]

# Every path of a mask through the partition: (op, shape, axes, groups).
MASKED = {
    "lanes": ("group_norm", (3, 37, 10), [-1], 5),
    "several blocks of lanes": ("group_norm", (2, 9, 2100), [-1], 70),
    "lanes of images": ("group_norm", (2, 5, 7, 19), [-1], -1),
    "chunks": ("group_norm", (2, 9, 1100), [-1], 2),
    "channels first": ("group_norm", (2, 8, 77), [1], 2),
    "channels first, instances": ("group_norm", (2, 3, 5, 9), [1], -1),
    "channels first, short": ("group_norm", (3, 6, 5), [1], 3),
    "inner positions": ("group_norm", (2, 7, 6, 5), [2], 3),
    "long inner positions": ("group_norm", (2, 3, 4, 300), [2], 2),
    "samples": ("group_norm", (5, 12), [-1], 3),
    "one element": ("group_norm", (2, 1, 1), [-1], 1),
    "no positions": ("group_norm", (2, 0, 4), [-1], 2),
    "no samples": ("group_norm", (0, 3, 4), [-1], 2),
}
SLICED = {
    "sliced lanes": ("group_norm", (1, 400, 350), [-1], 70),
    "sliced chunks": ("group_norm", (1, 220, 1200), [-1], 2),
    "sliced channels first": ("group_norm", (1, 2, 70_001), [1], 1),
}
# And those of parameters of each element.
UNMASKED = {
    "rows": ("layer_norm", (70, 40), [-1], 0),
    "short rows": ("layer_norm", (70, 7), [-1], 0),
    "rows of several parts": ("layer_norm", (2, 1300), [-1], 0),
    "rms rows": ("rms_norm", (20, 40), [-1], 0),
    "columns": ("layer_norm", (3, 30, 50), [1], 0),
    "many columns": ("layer_norm", (2, 9, 2100), [1], 0),
    "rms columns": ("rms_norm", (3, 30, 50), [1], 0),
    "no rows": ("layer_norm", (0, 4), [-1], 0),
}
SLICED_UNMASKED = {
    "sliced rows": ("layer_norm", (1, 140_001), [-1], 0),
    "sliced columns": ("layer_norm", (1, 300, 900), [1], 0),
}
PATHS = MASKED | SLICED | UNMASKED | SLICED_UNMASKED


def random_mask(rng, shape):
    return rng.random(shape) < 0.6


def padded(shape, lengths):
    """Returns a mask that hides what follows the first so many positions."""
    positions = np.arange(np.prod(shape[1:], dtype=int)).reshape(1, *shape[1:])
    return positions < lengths.reshape(-1, *[1] * (len(shape) - 1))


def right_padding(rng, shape):
    most = np.prod(shape[1:], dtype=int)
    return padded(shape, rng.integers(0, most, shape[0], endpoint=True))


def left_padding(rng, shape):
    return ~right_padding(rng, shape)


def all_but_a_sample(rng, shape):
    mask = random_mask(rng, shape)
    mask[-1:] = False
    return mask


def one_position(rng, shape):
    mask = np.zeros(shape, bool)
    if mask.size > 0:
        mask.flat[rng.integers(mask.size)] = True
    return mask


MASKS = {
    "random": random_mask,
    "right padding": right_padding,
    "left padding": left_padding,
    "all": lambda rng, shape: np.ones(shape, bool),
    "all but a sample": all_but_a_sample,
    "one position": one_position,
}


def options_of(path, activation="silu", **options):
    """Returns the norm, and its options as the kernels know them."""
    op, _, axes, groups = PATHS[path]
    norm = Norm(op, tuple(axes), groups, activation=activation, **options)
    return norm, {
        "axes": axes,
        "groups": groups,
        "epsilon": norm.epsilon,
        "activation": activation,
        **options,
    }


def arrays(path, dtype, rng, kind=None, narrow=False, **options):
    """Returns the inputs of the forward pass, the mask of a kind, and dy."""
    op, shape, axes, _ = PATHS[path]
    norm, _ = options_of(path, **options)
    wide = np.float64 if dtype == np.float64 else np.float32
    parameters = reference.parameter_shape(norm, shape)
    param = dtype if narrow else wide
    data = {
        "x": rng.normal(size=shape) + 0.5,
        "gamma": rng.uniform(0.5, 2, parameters).astype(param),
        "beta": rng.normal(size=parameters).astype(param),
        "residual": rng.normal(size=shape).astype(dtype),
        "mask": None,
    }
    if op == "rms_norm":
        data["beta"] = None
    if kind is not None:
        data["mask"] = MASKS[kind](rng, np.delete(shape, axes[0]))
        hidden = np.expand_dims(~data["mask"], axes[0])
        data["x"] += np.where(hidden, 3, 0)  # would show in the mean
    data["x"] = data["x"].astype(dtype)
    return data, rng.normal(size=shape).astype(dtype)


def run(path, data, dy, activation="silu", num_threads=1, isa="auto", **options):
    """Returns all outputs of forward and backward, with gradients of all of them."""
    op = PATHS[path][0]
    how = options_of(path, activation, **options)[1]
    how |= {"mask": data["mask"], "num_threads": num_threads, "isa": isa}
    gamma, beta = data["gamma"], data["beta"]
    y, total, mean, rstd = _native.forward(
        op, data["x"], gamma, beta, data["residual"], **how
    )
    # As much larger as a group has elements: each changes dx by about 1.
    size = max(1, y.size) / max(1, rstd.size)
    drstd = (size * np.sin(np.arange(rstd.size))).astype(rstd.dtype).reshape(rstd.shape)
    dmean = None if mean is None else np.cos(drstd) * rstd.dtype.type(size)
    into = {"dsum": dy, "dmean": dmean, "drstd": drstd}
    gradients = _native.backward(op, dy, total, mean, rstd, gamma, beta, **into, **how)
    names = ("y", "sum", "mean", "rstd", "dx", "dgamma", "dbeta")
    got = dict(zip(names, (y, total, mean, rstd, *gradients), strict=True))
    return got, into


def check(path, data, dy, activation="silu", **options):
    """Holds every output to its bound."""
    got, into = run(path, data, dy, activation, **options)
    norm = options_of(path, activation, **options)[0]
    of = reference.forward(norm, **data)
    exact = reference.backward(norm, of, dy, **into)
    dtype = data["x"].dtype
    params = {"gamma": data["gamma"], "beta": data["beta"]}
    param_dtype = next((p.dtype for p in params.values() if p is not None), dtype)
    unit = bounds.PRECISIONS[dtype].compute
    dx, dgamma, dbeta = bounds.backward(
        norm, of, exact, dy, dtype, param_dtype, into["dmean"], into["drstd"]
    )
    limits = {
        "y": (bounds.forward(norm, of, dtype), of.y),
        "rstd": (bounds.of_rstd(norm, of, unit), of.rstd),
        "dx": (dx, exact.dx),
    }
    if norm.centred:
        limits["mean"] = (bounds.of_mean(of, unit), of.mean)
    if params["gamma"] is not None:
        limits["dgamma"] = (dgamma, exact.dgamma)
    if params["beta"] is not None:
        limits["dbeta"] = (dbeta, exact.dbeta)
    assert set(limits) == {name for name, value in got.items() if value is not None} - {
        "sum"
    }
    if data["x"].size == 0:  # statistics of no elements are not numbers
        del limits["mean"], limits["rstd"]
    ratios = {}
    for name, (limit, wanted) in limits.items():
        value = got[name].reshape(wanted.shape)
        ratios[name] = bounds.relative_to(limit, value, wanted)
    print("error / bound:", ratios)
    assert max(ratios.values()) <= 1


def with_types(paths):
    """Returns each path in float32 and, in turn, in another type."""
    return [
        (path, dtype)
        for i, path in enumerate(paths)
        for dtype in (DTYPES[0], DTYPES[1 + i % 3])
    ]


@pytest.mark.parametrize(("path", "dtype"), with_types(MASKED | SLICED))
def test_masks(path, dtype, rng):
    check(path, *arrays(path, dtype, rng, "random"))


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("path", MASKED)
def test_kinds_of_masks(path, kind, rng):
    check(path, *arrays(path, np.float32, rng, kind))


@pytest.mark.parametrize(("path", "dtype"), with_types(PATHS))
def test_parameters_of_each_element(path, dtype, rng):
    data, dy = arrays(path, dtype, rng, per_position=True)
    check(path, data, dy, per_position=True)


@pytest.mark.parametrize(
    ("path", "option", "dtype"),
    # The types in turn, over the paths and the options.
    [
        (path, option, (np.float32, np.float16)[(i + j) % 2])
        for i, path in enumerate(MASKED | SLICED)
        for j, option in enumerate(("per_position", "per_sample"))
    ],
)
def test_masks_with_parameters(path, dtype, option, rng):
    data, dy = arrays(path, dtype, rng, "random", **{option: True})
    check(path, data, dy, **{option: True})


ONE_OF_EACH = ["lanes", "chunks", "inner positions"]


@pytest.mark.parametrize(
    "absent", [[], ["gamma"], ["beta"], ["gamma", "beta"], ["residual"]]
)
@pytest.mark.parametrize(
    ("zero_centered", "dtype"), [(False, np.float32), (True, ml_dtypes.bfloat16)]
)
@pytest.mark.parametrize("path", [*ONE_OF_EACH, "columns"])
def test_parameters_in_the_type_of_x(path, dtype, zero_centered, absent, rng):
    options = {"per_position": True, "zero_centered": zero_centered}
    kind = "right padding" if path in MASKED else None
    data, dy = arrays(path, dtype, rng, kind, narrow=True, **options)
    if "residual" in absent:
        # `run` needs a sum: of zeros, it is x.
        data["residual"] = np.zeros_like(data["residual"])
    else:
        data |= dict.fromkeys(absent)
    check(path, data, dy, **options)


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize(
    ("path", "dtype"),
    [("lanes", np.float32), ("chunks", np.float16), ("inner positions", np.float64)],
)
def test_activations(path, dtype, activation, rng):
    data, dy = arrays(path, dtype, rng, "random", per_position=True)
    check(path, data, dy, activation, per_position=True)


@pytest.mark.parametrize(
    ("path", "kind", "value"),
    # Each path with each kind, and both with each value.
    [
        (path, kind, (np.nan, np.inf, 1e30)[(i + j) % 3])
        for i, path in enumerate(MASKED | SLICED)
        for j, kind in enumerate(MASKS)
    ],
)
def test_what_is_hidden_reaches_nothing_else(path, kind, value, rng):
    """Not a bit of the statistics, nor of y elsewhere."""
    op, _, axes, _ = PATHS[path]
    how = options_of(path)[1]
    x, gamma, beta, _, mask = arrays(path, np.float32, rng, kind)[0].values()
    counted = np.broadcast_to(np.expand_dims(mask, axes[0]), x.shape)
    expected = _native.forward(op, x, gamma, beta, mask=mask, **how)
    changed = np.where(counted, x, np.float32(value))
    got = _native.forward(op, changed, gamma, beta, mask=mask, **how)
    for before, after in zip(expected[2:], got[2:], strict=True):
        assert before.tobytes() == after.tobytes()
    assert expected[0][counted].tobytes() == got[0][counted].tobytes()


def test_without_positions_mean_and_variance_are_zero(rng):
    x = rng.normal(size=(2, 5, 4)).astype(np.float32) * 1e30
    mask = np.zeros((2, 5), bool)
    how = options_of("lanes", "none")[1] | {"groups": 2, "mask": mask}
    y, _, mean, rstd = _native.forward("group_norm", x, **how)
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_array_equal(rstd, np.float32(1e-3**-0.5))
    np.testing.assert_array_equal(y, x * rstd[0, 0])
    dx, _, _ = _native.backward("group_norm", x, x, mean, rstd, **how)
    np.testing.assert_array_equal(dx, x * rstd[0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("path", SLICED | SLICED_UNMASKED)
def test_neither_threads_nor_instruction_sets_change_a_bit(path, dtype, rng):
    kind = "random" if path in SLICED else None
    data, dy = arrays(path, dtype, rng, kind, per_position=True)
    hows = [{"num_threads": 3}, *({"isa": isa} for isa in _native.isas())]
    expected, _ = run(path, data, dy, isa="baseline", per_position=True)
    for how in hows:
        got, _ = run(path, data, dy, per_position=True, **how)
        for name, value in expected.items():
            if value is not None:
                assert got[name].tobytes() == value.tobytes(), (name, how)


@pytest.mark.parametrize("byte", [1, 2, 255])
def test_any_dense_or_strided_bytes_make_a_mask(byte, rng):
    data, dy = arrays("channels first", np.float32, rng, "random")
    expected, _ = run("channels first", data, dy)
    bytes_ = np.repeat(data["mask"].astype(np.uint8) * byte, 2, axis=-1)
    data["mask"] = bytes_.view(bool)[..., ::2]
    got, _ = run("channels first", data, dy)
    for name, value in expected.items():
        assert got[name].tobytes() == value.tobytes(), name


X = np.ones((4, 5, 6), np.float32)
MASK = np.ones((4, 5), bool)


@pytest.mark.parametrize(
    ("op", "options", "message"),
    [
        ("group_norm", {"mask": MASK[:2]}, "mask must have shape (4, 5), got (2, 5)"),
        (
            "group_norm",
            {"mask": MASK.astype(np.float32)},
            "mask must have dtype bool, got float32",
        ),
        (
            "layer_norm",
            {"mask": MASK},
            "mask must be None for layer_norm",
        ),
        (
            "group_norm",
            {"gamma": X[0, 0], "per_position": True},
            "gamma must have shape (4, 5, 6), got (6,)",
        ),
        (
            "layer_norm",
            {"beta": X, "per_position": True, "per_sample": True},
            "per_sample and per_position must not both be true: gamma and beta either differ from sample to sample or from position to position",
        ),
    ],
)
def test_bad_input(op, options, message):
    options = {"axes": [-1], "groups": 2, "epsilon": 1e-3, **options}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _native.forward(op, X, **options)
    mean = np.zeros((4, 2) if op == "group_norm" else (4, 5), np.float32)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _native.backward(op, X, X, mean, mean, **options)
