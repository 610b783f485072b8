"""The boundary of the CUDA kernels, as far as it shows without a device.

What the kernels compute there is checked in tests/gpu/.
"""

import re
from types import SimpleNamespace

import fusednorm
import numpy as np
import pytest
from fusednorm import _build_info, _native
from tensorflow.python.framework import kernels

WITH_CUDA = _build_info.CUDA_VERSION is not None
OPTIONS = {"axes": [-1], "epsilon": 1e-3}
DEVICE_FIELDS = {
    "name",
    "major",
    "minor",
    "multiprocessors",
    "max_threads_per_multiprocessor",
    "registers_per_multiprocessor",
    "shared_bytes_per_multiprocessor",
    "shared_bytes_per_block",
    "l2_bytes",
    "memory_bytes",
    "bandwidth",
    "max_cluster",
}
TENSOR_FIELDS = {
    "data",
    "inputs",
    "outputs",
    "mask",
    "statistics_read",
    "statistics_written",
    "params_read",
    "param_uses",
    "params_written",
}
LAUNCH_FIELDS = {
    "kernel",
    "blocks",
    "threads",
    "cluster",
    "shared_bytes",
    "bytes_in_flight",
    "threads_resident",
}


class Claims:
    """Claims by DLPack to be on a device, and fails the test when asked for more."""

    def __init__(self, device_type, device=0):
        self._device = (device_type, device)

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, **kwargs):
        pytest.fail("asked for its memory")


X = np.zeros((3, 8), np.float32)


@pytest.mark.parametrize("suffix", ["", "Grad", "GradGrad"])
@pytest.mark.parametrize("op", ["GroupNorm", "LayerNorm", "RMSNorm"])
def test_ops_have_kernels_for_every_device(op, suffix):
    fusednorm.load_op_library()
    registered = kernels.get_registered_kernels_for_op(f"Fusednorm>{op}{suffix}").kernel
    devices = ["CPU", "GPU"] if WITH_CUDA else ["CPU"]
    assert sorted(kernel.device_type for kernel in registered) == sorted(
        [*devices, *(f"XLA_{device}_JIT" for device in devices)]
    )
    # For all types that the op has.
    assert not any(kernel.constraint for kernel in registered)


@pytest.mark.parametrize("name", ["x", "gamma", "beta", "residual", "mask"])
@pytest.mark.parametrize(
    ("given", "error", "came"),
    [
        (X, ValueError, "must be on a CUDA device, got a tensor on the CPU"),
        (
            Claims(3),
            ValueError,
            "must be on a CUDA device, got a tensor on pinned CPU memory",
        ),
        (
            Claims(10),
            ValueError,
            "must be on a CUDA device, got a tensor on a ROCm device",
        ),
        (
            Claims(99),
            ValueError,
            "must be on a CUDA device, got a tensor on DLPack device type 99",
        ),
        (
            [1.0],
            TypeError,
            "must be a tensor on a CUDA device with DLPack's methods, got list",
        ),
    ],
    ids=["CPU", "pinned", "ROCm", "unknown", "list"],
)
def test_forward_takes_nothing_that_is_not_on_a_device(name, given, error, came):
    arguments = {"x": Claims(2)} | {name: given}
    with pytest.raises(error, match=f"^{name} {re.escape(came)}$"):
        _native.cuda.forward("layer_norm", **arguments, **OPTIONS)


@pytest.mark.parametrize(
    "name",
    ["dy", "x", "mean", "rstd", "gamma", "beta", "dsum", "dmean", "drstd", "mask"],
)
def test_backward_takes_nothing_that_is_not_on_a_device(name):
    arguments = dict.fromkeys(["dy", "x", "mean", "rstd"], Claims(2)) | {name: X}
    with pytest.raises(ValueError, match=f"^{name} must be on a CUDA device"):
        _native.cuda.backward("layer_norm", **arguments, **OPTIONS)


@pytest.mark.parametrize(
    "name",
    ["dy", "x", "mean", "rstd", "ddx", "gamma", "ddgamma", "ddbeta", "drstd"],
)
def test_second_order_takes_nothing_that_is_not_on_a_device(name):
    names = ["dy", "x", "mean", "rstd", "ddx", "gamma"]
    arguments = dict.fromkeys(names, Claims(2)) | {name: X}
    with pytest.raises(ValueError, match=f"^{name} must be on a CUDA device"):
        _native.cuda.second_order("layer_norm", **arguments, **OPTIONS)


def test_nothing_is_optional_that_a_kernel_needs():
    with pytest.raises(TypeError, match=r"^x must be a tensor .* got NoneType$"):
        _native.cuda.forward("layer_norm", None, **OPTIONS)
    for name in ["dy", "x", "rstd"]:
        arguments = dict.fromkeys(["dy", "x", "mean", "rstd"], Claims(2)) | {name: None}
        with pytest.raises(TypeError, match=rf"^{name} must be a tensor .* NoneType$"):
            _native.cuda.backward("layer_norm", **arguments, **OPTIONS)


def test_all_tensors_are_on_one_device():
    message = r"^residual must be on the CUDA device of x, 1, got 0$"
    with pytest.raises(ValueError, match=message):
        _native.cuda.forward("layer_norm", Claims(2, 1), residual=Claims(2), **OPTIONS)
    message = r"^out\[0\] \(y\) must be on the CUDA device of x, 0, got 1$"
    with pytest.raises(ValueError, match=message):
        _native.cuda.forward(
            "layer_norm", Claims(2), out=(Claims(2, 1), None, None, None), **OPTIONS
        )


def test_out_is_one_value_for_every_output():
    with pytest.raises(
        ValueError, match=r"^out must be \(y, sum, mean, rstd\), got 1 values$"
    ):
        _native.cuda.forward("layer_norm", Claims(2), out=(None,), **OPTIONS)
    with pytest.raises(
        ValueError, match=r"^out must be \(dx, dgamma, dbeta\), got 4 values$"
    ):
        _native.cuda.backward(
            "rms_norm", Claims(2), Claims(2), None, Claims(2), out=[None] * 4, **OPTIONS
        )
    names = r"\(d_dy, d_x, d_gamma, d_dmean, d_drstd\)"
    with pytest.raises(ValueError, match=f"^out must be {names}, got 3 values$"):
        _native.cuda.second_order(
            "rms_norm", *[Claims(2)] * 5, out=[None] * 3, **OPTIONS
        )


@pytest.mark.parametrize("stream", [-1, "default"])
def test_a_stream_is_an_address(stream):
    with pytest.raises(TypeError, match="stream"):
        _native.cuda.forward("layer_norm", Claims(2), stream=stream, **OPTIONS)


@pytest.mark.skipif(bool(_native.cuda_devices()), reason="there is a device")
def test_without_a_device_the_error_says_what_is_missing():
    missing = (
        "^(cuda[A-Z].*|finding the current CUDA device): "
        if WITH_CUDA
        else "^this build has no CUDA kernels: "
    )
    with pytest.raises(RuntimeError, match=missing):
        _native.cuda.forward("layer_norm", Claims(2), **OPTIONS)
    with pytest.raises(RuntimeError, match=missing):
        _native.cuda.backward(
            "layer_norm", Claims(2), Claims(2), Claims(2), Claims(2), **OPTIONS
        )
    with pytest.raises(RuntimeError, match=missing):
        _native.cuda.Tensor(Claims(2))
    assert _native.cuda.devices() == []


def test_known_devices_have_all_fields():
    devices = _native.known_devices()
    assert {"h100", "a100", "l4", "rtx4090", "t4"} <= set(devices)
    for device in devices.values():
        assert set(device) == DEVICE_FIELDS


def plan(**changes):
    arguments = {
        "op": "group_norm",
        "shape": (2, 16, 16, 64),
        "dtype": "bfloat16",
        "axes": [-1],
        "groups": 32,
        "device": "h100",
    }
    return _native.plan(**(arguments | changes))


@pytest.mark.parametrize("direction", ["forward", "backward", "second_order"])
def test_a_plan_is_a_dict(direction):
    result = SimpleNamespace(**plan(direction=direction, has_gamma=True, has_beta=True))
    assert isinstance(result.scheme, str)
    assert all(isinstance(number, int) for number in result.geometry.values())
    assert result.launches
    for launch in result.launches:
        assert set(launch) == LAUNCH_FIELDS
    assert set(result.tensors) == TENSOR_FIELDS
    assert result.least_bytes > result.tensors["data"] > 0


def test_candidates_are_plans_best_first():
    arguments = {
        "shape": (300, 768),
        "dtype": "float32",
        "axes": [-1],
        "has_gamma": True,
        "device": "t4",
    }
    found = _native.candidates("layer_norm", **arguments)
    assert len(found) > 1
    assert found[0] == _native.plan("layer_norm", **arguments)
    assert all(each.keys() == found[0].keys() for each in found)


def test_a_device_is_a_name_or_its_fields():
    fields = _native.known_devices()["t4"]
    assert plan(device=fields) == plan(device="t4")
    fields["multiprocessors"] *= 2
    plan(device=fields)


def test_an_array_need_not_be_a_tuple():
    assert plan(shape=[2, 16, 16, 64], axes=(3,)) == plan()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"op": "batch_norm"},
            ValueError,
            "op must be group_norm, layer_norm or rms_norm, got batch_norm",
        ),
        (
            {"dtype": "int8"},
            ValueError,
            "x must have dtype float16, bfloat16, float32 or float64, got int8",
        ),
        (
            {"param_dtype": "int8", "has_gamma": True},
            ValueError,
            "param_dtype must have dtype",
        ),
        ({"param_dtype": "float16", "has_gamma": True}, ValueError, "gamma"),
        (
            {"direction": "sideways"},
            ValueError,
            "direction must be forward, backward or second_order, got sideways",
        ),
        (
            {"direction": "second_order", "activation": "silu"},
            ValueError,
            "activation must be none for the second order, got silu",
        ),
        (
            {"direction": "second_order", "has_mask": True},
            ValueError,
            "per_position and mask must be absent for the second order",
        ),
        (
            {"op": "layer_norm", "has_mask": True},
            ValueError,
            "mask must be absent: only group_norm has statistics of several positions",
        ),
        (
            {"per_sample": True, "per_position": True},
            ValueError,
            "per_sample and per_position must not both be true",
        ),
        ({"groups": 5}, ValueError, "groups"),
        (
            {"axes": [1, 2]},
            ValueError,
            "axes must be the one channel axis for group_norm, got 2 axes",
        ),
        (
            {"op": "rms_norm", "has_beta": True},
            ValueError,
            "beta must be None for rms_norm",
        ),
        ({"activation": "swoosh"}, ValueError, "activation must be one of"),
        ({"device": "voodoo2"}, ValueError, "voodoo2"),
        ({"device": 3}, TypeError, "device"),
        ({"device": {"name": "mine"}}, ValueError, "device must have the field major"),
    ],
)
def test_errors_of_plan(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        plan(**changes)


def test_a_device_has_its_fields_and_no_others():
    fields = _native.known_devices()["t4"]
    with pytest.raises(ValueError, match=r"^device has no field 'colour'$"):
        plan(device=fields | {"colour": "black"})
    with pytest.raises(
        TypeError, match=r'^device\["minor"\] has the wrong type, got \'five\'$'
    ):
        plan(device=fields | {"minor": "five"})
