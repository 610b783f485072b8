"""fusednorm through TensorFlow on a GPU: right, and beside Keras's layers.

    python benchmarks/gpu_tensorflow.py [--ops-library PATH] [--json PATH] [--seconds N]

Compares every op and its gradients on the GPU with the CPU, runs the layers and `fit()`
of a small model, compares the same under XLA, and measures step time and peak memory of
each layer beside Keras's. benchmarks/gpu_tensorflow.sh prepares a host for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gpu_environment
import gpu_report

# Twice the bounds of tests/bounds.py for these sizes: both sides err.
TOLERANCES = {"float32": 2e-5, "float64": 1e-12, "float16": 4e-3, "bfloat16": 3e-2}
GPU, CPU = "/GPU:0", "/CPU:0"
LAYER_SHAPES = {
    "sd15-unet-64": ((2, 64, 64, 320), "GroupNormalization", {"groups": 32}),
    "rn50-gn-28": ((32, 28, 28, 512), "GroupNormalization", {"groups": 32}),
    "cyclegan-256": ((1, 256, 256, 64), "GroupNormalization", {"groups": -1}),
    "bert-base": ((32, 512, 768), "LayerNormalization", {}),
    "llama-7b": ((4, 2048, 4096), "RMSNormalization", {}),
}


class Checks:
    """Runs named checks; one that fails does not keep the next ones from running."""

    def __init__(self, seconds: float):
        self.results: list[dict[str, Any]] = []
        self._end = time.monotonic() + seconds

    def run(self, name: str, check: Callable[[], Any]) -> None:
        """Runs a check; it returns what to report, and fails by an exception."""
        entry: dict[str, Any] = {"name": name}
        if time.monotonic() > self._end:
            entry |= {"status": "not run", "why": "no time"}
        else:
            try:
                entry |= {"status": "passed", "found": check()}
            except Exception as error:
                traceback.print_exc()
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                entry |= {"status": "failed", "why": why}
        self.results.append(entry)
        print(f"{entry['status']:8} {name} {entry.get('why', '')}", flush=True)

    @property
    def failed(self) -> bool:
        """Whether any check failed or was not run."""
        return any(each["status"] != "passed" for each in self.results)


def load(ops_library: Path | None) -> None:
    """Imports fusednorm, with the op library from elsewhere if one is given."""
    import fusednorm
    from fusednorm import _library

    if ops_library is not None:
        _library.library_path = lambda: ops_library
    fusednorm.load_op_library()


def op_calls() -> dict[str, tuple[Callable[..., Any], tuple[int, ...], int]]:
    """Returns name -> (function of x, gamma, beta, residual; shape; parameters)."""
    import fusednorm

    def group(x, gamma, beta, residual):
        return fusednorm.group_norm(x, gamma, beta, groups=8, activation="silu")

    def group_first(x, gamma, beta, residual):
        return fusednorm.group_norm(x, gamma, beta, groups=4, axis=1)

    def instance(x, gamma, beta, residual):
        return fusednorm.instance_norm(x, gamma, beta, activation="leaky_relu")

    def layer(x, gamma, beta, residual):
        return fusednorm.layer_norm(x, gamma, beta, residual=residual)

    def columns(x, gamma, beta, residual):
        return fusednorm.layer_norm(x, gamma, beta, axis=1)

    def rms(x, gamma, beta, residual):
        return fusednorm.rms_norm(x, gamma, residual=residual)

    return {
        "group_norm": (group, (3, 17, 16, 32), 32),
        "group_norm, channels first": (group_first, (3, 12, 9, 11), 12),
        "instance_norm": (instance, (2, 19, 18, 24), 24),
        "layer_norm": (layer, (37, 200), 200),
        "layer_norm, axis 1": (columns, (5, 26, 30), 26),
        "rms_norm": (rms, (37, 768), 768),
    }


def compare_op(name: str, dtype: str) -> dict[str, float]:
    """Returns the largest differences between GPU and CPU, relative to the size.

    Raises:
        AssertionError: one is too large, or the op did not run on the GPU.
    """
    import numpy as np
    import tensorflow as tf

    function, shape, channels = op_calls()[name]
    rng = np.random.default_rng(5)
    wide = tf.float64 if dtype == "float64" else tf.float32
    x, residual, weights = (
        tf.cast(rng.normal(size=shape), getattr(tf, dtype)) for _ in range(3)
    )
    gamma = tf.cast(rng.uniform(0.5, 1.5, channels), wide)
    beta = tf.cast(rng.normal(size=channels), wide)

    def run(device: str) -> list[Any]:
        with tf.device(device):
            inputs = [tf.identity(each) for each in (x, gamma, beta, residual)]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                result = function(*inputs)
                outputs = list(result) if isinstance(result, tuple) else [result]
                loss = sum(
                    tf.reduce_sum(tf.cast(each * weights, wide)) for each in outputs
                )
            gradients = [
                each for each in tape.gradient(loss, inputs) if each is not None
            ]
        where = outputs[0].device
        assert device.strip("/").split(":")[0] in where, f"ran on {where}"
        return [tf.cast(each, tf.float64).numpy() for each in outputs + gradients]

    found = {}
    for i, (ours, theirs) in enumerate(zip(run(GPU), run(CPU), strict=True)):
        size = max(1.0, float(np.abs(theirs).max()))
        difference = float(np.abs(ours - theirs).max()) / size
        found[f"output {i}"] = difference
        assert difference <= TOLERANCES[dtype], (
            f"output {i} differs by {difference:.2e} of its size"
        )
    return found


def model(ours: bool) -> Any:
    """Returns a small convolutional model with one norm of each kind."""
    import fusednorm
    import keras

    norms = fusednorm if ours else keras.layers
    return keras.Sequential(
        [
            keras.Input((26, 26, 8)),
            keras.layers.Conv2D(32, 3, padding="same"),
            norms.GroupNormalization(groups=8),
            keras.layers.Activation("relu"),
            keras.layers.Conv2D(32, 3, strides=2),
            norms.GroupNormalization(groups=-1),
            keras.layers.Activation("relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64),
            norms.LayerNormalization(),
            norms.RMSNormalization(),
            keras.layers.Dense(10),
        ]
    )


def fit(ours: bool, jit_compile: bool) -> dict[str, Any]:
    """Returns the losses of a short training, the same data and weights for both."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(3)
    network = model(ours)
    rng = np.random.default_rng(3)
    for variable in network.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(rng.normal(0, 0.05, variable.shape))
    network.compile(
        optimizer=keras.optimizers.SGD(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    x = rng.normal(size=(512, 26, 26, 8)).astype("float32")
    y = rng.integers(0, 10, 512)
    history = network.fit(x, y, batch_size=64, epochs=3, shuffle=False, verbose=0)
    losses = [float(each) for each in history.history["loss"]]
    if not np.isfinite(losses).all():
        raise AssertionError(f"losses {losses}")
    # Keras turns XLA off, with a warning, where the layers do not support it.
    return {"losses": losses, "jit_compile": bool(network.jit_compile)}


def fit_like_keras() -> dict[str, Any]:
    """Trains with our layers and with Keras's: the losses must agree.

    Raises:
        AssertionError: they do not.
    """
    import numpy as np

    ours, theirs = (fit(which, False)["losses"] for which in (True, False))
    if not np.allclose(ours, theirs, rtol=2e-2):
        raise AssertionError(f"losses {ours}, with Keras's layers {theirs}")
    return {"fusednorm": ours, "keras": theirs}


def fit_with_xla() -> dict[str, Any]:
    """Trains with and without XLA: the losses must agree.

    Raises:
        AssertionError: they do not, or XLA was not used.
    """
    import numpy as np

    compiled, plain = (fit(True, jit_compile) for jit_compile in (True, False))
    if not compiled["jit_compile"]:
        raise AssertionError("Keras turned XLA off; see `fusednorm info`, XLA kernels")
    if not np.allclose(compiled["losses"], plain["losses"], rtol=2e-2):
        raise AssertionError(f"losses {compiled}, without XLA {plain}")
    return {"xla": compiled["losses"], "plain": plain["losses"]}


def op_with_xla(name: str) -> dict[str, Any]:
    """Runs an op and its gradients with and without XLA: not a bit may differ.

    Three runs of each: XLA records what it runs more than once into a CUDA graph.

    Raises:
        AssertionError: a bit differs.
    """
    import tensorflow as tf

    function, shape, channels = op_calls()[name]
    gamma, beta = tf.ones(channels), tf.zeros(channels)
    x, dy = (tf.random.stateless_normal(shape, (1, seed)) for seed in (2, 3))

    def step() -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch([x, gamma])
            y = function(x, gamma, beta, None)
        return [y, *tape.gradient(y, [x, gamma], output_gradients=dy)]

    compiled = tf.function(step, jit_compile=True, autograph=False)
    with tf.device(GPU):
        expected = [each.numpy().tobytes() for each in step()]
        for _ in range(3):
            if [each.numpy().tobytes() for each in compiled()] != expected:
                raise AssertionError(f"{name}: other bits under XLA")
    return {"xla": "the same bits"}


def time_layer(layer: Any, x: Any, steps: int = 30) -> dict[str, float]:
    """Returns the time and the peak memory of a step, forward and backward."""
    import tensorflow as tf

    @tf.function(jit_compile=False)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        # y stands for dy: a gradient that costs nothing to make.
        return tape.gradient(y, [x, *layer.trainable_variables], output_gradients=y)

    for _ in range(3):
        results = step(x)
    results[0].numpy()
    del results
    tf.config.experimental.reset_memory_stats("GPU:0")
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(steps):
            results = step(x)
        # Copies one number to the host: the end of all that was enqueued.
        tf.reshape(results[0], [-1])[0].numpy()
        times.append((time.perf_counter() - begin) / steps)
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return {
        "step_us": statistics.median(times) * 1e6,
        "peak_bytes": peak - before,
        "tensor_bytes": int(tf.size(x)) * x.dtype.size,
    }


def compare_layer(name: str, dtype: str) -> dict[str, Any]:
    """Returns step time and peak memory of our layer and of Keras's."""
    import fusednorm
    import keras
    import tensorflow as tf

    shape, kind, options = LAYER_SHAPES[name]
    x = tf.cast(tf.random.stateless_normal(shape, (1, 2)), getattr(tf, dtype))
    policy = {"float32": "float32"}.get(dtype, f"mixed_{dtype}")
    found: dict[str, Any] = {"shape": name, "dtype": dtype}
    for label, module in (("fusednorm", fusednorm), ("keras", keras.layers)):
        layer = getattr(module, kind)(dtype=policy, **options)
        layer.build(shape)
        found[label] = time_layer(layer, x)
    return found


def table(report: dict[str, Any]) -> str:
    """Returns the checks, and step times and peak memory side by side."""
    rows = [["layer", "dtype", "us", "Keras us", "faster x", "peak MB", "Keras MB"]]
    for check in report["checks"]:
        found = check.get("found")
        if not isinstance(found, dict) or "keras" not in found or "shape" not in found:
            continue
        ours, theirs = found["fusednorm"], found["keras"]
        rows.append(
            [
                found["shape"],
                found["dtype"],
                f"{ours['step_us']:.0f}",
                f"{theirs['step_us']:.0f}",
                f"{theirs['step_us'] / ours['step_us']:.2f}",
                f"{ours['peak_bytes'] / 1e6:.0f}",
                f"{theirs['peak_bytes'] / 1e6:.0f}",
            ]
        )
    lines = [
        f"{check['status']:8} {check['name']} {check.get('why', '')}".rstrip()
        for check in report["checks"]
    ]
    return "\n".join([*lines, "", gpu_report.aligned(rows, left=range(2))])


def environment(commit: str | None) -> dict[str, Any]:
    """Returns what the results are of."""
    import keras
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(devices[0]) if devices else {}
    return {
        "date": gpu_environment.now(),
        **gpu_environment.commit(commit),
        "device": details.get("device_name"),
        "compute_capability": list(details.get("compute_capability", ())),
        "nvidia_smi": gpu_environment.query_gpu(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": sys.version.split()[0],
    }


def device_works() -> dict[str, float]:
    """Compares a matmul and a conv2d with the CPU: the libraries under TensorFlow.

    Raises:
        AssertionError: they differ.
    """
    import numpy as np
    import tensorflow as tf

    a = tf.random.stateless_normal((256, 256), (1, 2))
    image = tf.random.stateless_normal((2, 32, 32, 8), (3, 4))
    kernel = tf.random.stateless_normal((3, 3, 8, 16), (5, 6))
    found = {}
    for name, function in (
        ("matmul", lambda: tf.matmul(a, a)),
        ("conv2d", lambda: tf.nn.conv2d(image, kernel, 1, "SAME")),
    ):
        results = []
        for device in (GPU, CPU):
            with tf.device(device):
                results.append(function().numpy())
        size = float(np.abs(results[1]).max())
        # TensorFloat-32 has ten bits.
        found[name] = float(np.abs(results[0] - results[1]).max()) / size
        assert found[name] < 5e-3, f"{name} differs by {found[name]:.1e}"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops-library", type=Path, help="libfusednorm_ops.so to load")
    parser.add_argument("--json", type=Path, default=Path("build/gpu/tensorflow.json"))
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--commit", help="where the tree is a copy without git")
    options = parser.parse_args(arguments)
    if options.ops_library and not options.ops_library.is_file():
        parser.error(f"--ops-library must be a file, got {options.ops_library}")
    try:
        import tensorflow as tf
    except ImportError as error:
        print(f"no TensorFlow: {error}", file=sys.stderr)
        return 2
    if not tf.config.list_physical_devices("GPU"):
        print("TensorFlow sees no GPU", file=sys.stderr)
        return 2

    checks = Checks(options.seconds)
    report: dict[str, Any] = {"schema": gpu_report.SCHEMA, "kind": "tensorflow"}
    report |= {"environment": environment(options.commit), "checks": checks.results}
    code = 0
    try:
        checks.run("matmul and conv2d as on the CPU", device_works)
        library = options.ops_library and options.ops_library.resolve()
        checks.run("the op library loads", lambda: load(library))
        for name in op_calls() if not checks.failed else ():
            for dtype in TOLERANCES:
                checks.run(
                    f"{name}, {dtype}, as on the CPU",
                    lambda name=name, dtype=dtype: compare_op(name, dtype),
                )
        checks.run("fit() as with Keras's layers", fit_like_keras)
        checks.run("fit() with jit_compile=True", fit_with_xla)
        for name in op_calls() if not checks.failed else ():
            checks.run(
                f"{name} with jit_compile=True", lambda name=name: op_with_xla(name)
            )
        for name in LAYER_SHAPES:
            for dtype in ("bfloat16", "float32"):
                checks.run(
                    f"step of {name}, {dtype}",
                    lambda name=name, dtype=dtype: compare_layer(name, dtype),
                )
    except KeyboardInterrupt:
        print("interrupted: keeping what was done", file=sys.stderr)
        code = 130
    gpu_report.write(options.json, report)
    print(table(report))
    for check in checks.results:
        if "jit_compile" in check["name"]:
            print(check["name"], json.dumps(check.get("found")))
    print(f"written to {options.json}")
    return code or int(checks.failed)


if __name__ == "__main__":
    sys.exit(main())
