"""The second order through emulated kernels, held to the reference and bounds."""

import dataclasses

import numpy as np

from support import bounds, reference
from support.emulation import emulated_norms
from support.emulation.emulated_norms import (
    SMALL,
    Options,
    call,
    forward,
    nan,
    request,
    wide,
)


def draw(norm, shape, dtype, options, rng, **data):
    """Returns random inputs, but for mean and rstd."""
    data = emulated_norms.draw(norm, shape, dtype, options, rng, **data)
    del data["residual"], data["dsum"], data["dmean"], data["mask"]
    data["ddbeta"] = data.pop("beta")  # gamma and beta say which parameters there are
    data["ddx"] = rng.normal(size=shape).astype(dtype)
    data["ddgamma"] = None
    if options.gamma:
        gamma = data["gamma"]
        data["ddgamma"] = rng.normal(size=gamma.shape).astype(gamma.dtype)
    return data


def saved(emulated, norm, data, device, options):
    """Returns what forward leaves for the other passes."""
    given = {**data, "beta": None, "residual": None, "mask": None}
    options = dataclasses.replace(options, beta=False, residual=False)
    return forward(emulated, norm, given, device, options)[1]


def second_order(emulated, norm, data, outputs, device, options, places=None):
    """Runs the second order on forward's outputs. Returns the plan and its outputs."""
    x, gamma = data["x"], data["gamma"]
    rstd = outputs["rstd"]
    names = ("gamma", "drstd", "ddx", "ddgamma", "ddbeta")
    return call(
        emulated,
        request(norm, x.shape, x.dtype, device, options, "second_order"),
        {
            "dy": data["dy"],
            "x": x,
            "mean": outputs["mean"],
            "rstd": rstd,
            **{name: data[name] for name in names},
        },
        {
            "d_dy": nan(x.shape, x.dtype),
            "d_x": nan(x.shape, x.dtype),
            "d_gamma": None if gamma is None else nan(gamma.shape, gamma.dtype),
            "d_dmean": nan(rstd.shape, rstd.dtype, norm.centred),
            "d_drstd": nan(rstd.shape, rstd.dtype),
        },
        places or {},
    )


def check(emulated, norm, shape, dtype, rng, device=SMALL, options=None, **data):
    """Runs the second order on random data and holds it to the bounds.

    Returns the plan and the outputs.
    """
    options = options or Options()
    dtype = np.dtype(dtype)
    data = draw(norm, shape, dtype, options, rng, **data)
    outputs = saved(emulated, norm, data, device, options)
    made, got = second_order(emulated, norm, data, outputs, device, options)
    of = reference.forward(norm, data["x"], data["gamma"])
    upstream = [data[name] for name in ("dy", "ddx", "ddgamma", "ddbeta", "drstd")]
    exact = reference.second_order(norm, of, *upstream)
    param_dtype = dtype if options.narrow else wide(dtype)
    limits = bounds.second_order(norm, of, exact, *upstream, dtype, param_dtype)
    ratios = {
        name: bounds.relative_to(
            getattr(limits, name),
            value.reshape(getattr(exact, name).shape),
            getattr(exact, name),
        )
        for name, value in got.items()
        if value is not None
    }
    # Written so that NaN fails.
    wrong = {name: ratio for name, ratio in ratios.items() if not ratio <= 1}
    assert not wrong, f"{wrong} of the bounds; {made}"
    return made, got
