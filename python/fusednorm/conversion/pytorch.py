"""Weights of PyTorch's normalization layers, in the order of ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# The classes by name: PyTorch need not be installed.
_NORMS = ("GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm")
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")
_EXPECTED = (
    "Argument `module_or_state_dict` must be a PyTorch module or its state_dict, a "
    "mapping from names to arrays"
)


def torch_weights(
    module_or_state_dict: Any,
) -> list[np.ndarray] | dict[str, list[np.ndarray]]:
    """Returns the weights of PyTorch's norms as `layer.set_weights` takes them.

    For `nn.GroupNorm`, `nn.InstanceNorm1d` to `3d`, `nn.LayerNorm` and `nn.RMSNorm`:
    `[weight, bias]`, which are our `[gamma, beta]`, as far as the norm has them. Where
    it has none, ours must have none: `center=False`, `scale=False`. Running statistics
    of an InstanceNorm follow, for a layer with `track_running_stats=True`. Epsilon is
    no weight: PyTorch's default is 1e-5, Keras's is 1e-3.

    Args:
        module_or_state_dict: A norm, a module with norms in it, or the `state_dict()`
            of either, which may also hold NumPy arrays. In the state_dict of a larger
            module, norms are recognized by their weights: a `weight` with a `bias` of
            the same shape, or one of rank 1 alone. What has running statistics may be a
            BatchNorm there or an InstanceNorm: it is left out, and a warning says so. A
            module knows its norms.

    Returns:
        The list of weights of a single norm, or of several a dict of such lists, by the
        names that PyTorch has for them ("blocks.0.norm1").

    Raises:
        TypeError: if the argument is none of these.
        ValueError: if there is no norm in it.

    Example:
    ```python
    layer.set_weights(fusednorm.torch_weights(torch_model.norm))
    for name, weights in fusednorm.torch_weights(torch_model).items():
        layers_by_name[name].set_weights(weights)
    ```
    """
    given = module_or_state_dict
    if isinstance(given, Mapping):
        _warn_of_running_statistics(given)
        norms = dict(_in_state_dict(given))
    elif hasattr(given, "named_modules") and hasattr(given, "state_dict"):
        norms = dict(_in_module(given))
    else:
        raise TypeError(f"{_EXPECTED}. Received: {type(given).__name__} {given!r}")
    if not norms:
        raise ValueError(
            "There is no GroupNorm, InstanceNorm, LayerNorm or RMSNorm with weights in "
            f"{_described(given)}"
        )
    return norms[""] if list(norms) == [""] else norms


def _in_module(module: Any) -> Iterator[tuple[str, list[np.ndarray]]]:
    for name, each in module.named_modules():
        if not _is_norm(type(each)):
            continue
        state = each.state_dict()
        yield name, [_array(state[key]) for key in _WEIGHTS if key in state]


def _is_norm(cls: type) -> bool:
    return any(
        base.__module__.startswith("torch.nn.") and base.__name__.startswith(_NORMS)
        for base in cls.__mro__
    )


def _in_state_dict(state: Mapping[str, Any]) -> Iterator[tuple[str, list[np.ndarray]]]:
    for key in state:
        prefix, dot, last = key.rpartition(".")
        if last != "weight" or f"{prefix}{dot}running_mean" in state:
            continue
        weight = _array(state[key])
        bias = state.get(f"{prefix}{dot}bias")
        if bias is None:
            if weight.ndim == 1:
                yield prefix, [weight]
        elif weight.shape == tuple(bias.shape):
            yield prefix, [weight, _array(bias)]


def _warn_of_running_statistics(state: Mapping[str, Any]) -> None:
    """Says what is left out, for it may be what was wanted."""
    names = [key.rpartition(".")[0] for key in state if key.endswith("running_mean")]
    if names:
        warnings.warn(
            "A state_dict does not tell whether running statistics are of a BatchNorm "
            f"or of an InstanceNorm, so that {names[:8]} are left out; pass the module "
            "to have the weights of its InstanceNorms.",
            stacklevel=3,
        )


def _array(tensor: Any) -> np.ndarray:
    """Returns a tensor of PyTorch as an array, where it is and whatever its dtype."""
    if not hasattr(tensor, "shape"):
        raise TypeError(f"{_EXPECTED}. Received: {tensor!r} in it")
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none.
            tensor = tensor.float()
        tensor = tensor.numpy()
    return np.asarray(tensor)


def _described(given: Any) -> str:
    if isinstance(given, Mapping):
        return f"the state_dict with the names {list(given)[:8]}"
    return f"module {type(given).__name__}"
