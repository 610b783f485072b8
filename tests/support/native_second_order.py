"""Arguments for the CPU kernels of the second order."""

from fusednorm import _native

from support.native_norms import PATHS, affine_arrays
from support.reference import Norm


def second_order_arrays(path, affine, dtype, rng, changes=()):
    """Returns the norm, the arguments of `second_order` and the result of `forward`."""
    op, _, axes, groups = PATHS[path]
    data, option = affine_arrays(path, affine, dtype, rng)
    x, dy, gamma, beta = (data[name] for name in ("x", "dy", "gamma", "beta"))
    for name, change in dict(changes).items():
        data[name][...] = change(data[name])
    norm = Norm(op, tuple(axes), groups, **option)
    options = {"axes": axes, "groups": groups, "epsilon": norm.epsilon, **option}
    _, _, mean, rstd = _native.forward(op, x, gamma, None, **options)

    def like(array):
        if array is None:
            return None
        return rng.normal(size=array.shape).astype(array.dtype)

    # As much larger as a group has elements: the terms of drstd are then about 1.
    drstd = (x.size / rstd.size * rng.normal(size=rstd.shape)).astype(rstd.dtype)
    arguments = {
        "dy": dy,
        "x": x,
        "mean": mean,
        "rstd": rstd,
        "ddx": like(x),
        "gamma": gamma,
        "ddgamma": like(gamma),
        "ddbeta": like(beta),
        "drstd": drstd,
    }
    return norm, options, arguments


def second_order(norm, options, arguments, **how):
    return _native.second_order(norm.op, **arguments, **options, **how)
