"""The ops and layers through TensorFlow on a GPU: as on the CPU, and as Keras's.

Also a matmul and a convolution, because a wrong CUDA library shows there first.
"""

import numpy as np
import pytest

try:
    import tensorflow as tf
except ImportError as error:
    pytest.skip(f"GPU tests: no TensorFlow: {error}", allow_module_level=True)
if not tf.config.list_physical_devices("GPU"):
    pytest.skip("GPU tests: TensorFlow sees no GPU", allow_module_level=True)

import fusednorm
import keras

pytestmark = pytest.mark.gpu

# Twice the bounds of tests/support/bounds.py for these sizes: both sides err.
TOLERANCES = {"float32": 2e-5, "float64": 1e-12, "float16": 4e-3, "bfloat16": 3e-2}
GPU, CPU = "/GPU:0", "/CPU:0"


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


# name -> (function, shape, number of parameters)
OPS = {
    "group_norm": (group, (3, 17, 16, 32), 32),
    "group_norm, channels first": (group_first, (3, 12, 9, 11), 12),
    "instance_norm": (instance, (2, 19, 18, 24), 24),
    "layer_norm": (layer, (37, 200), 200),
    "layer_norm, axis 1": (columns, (5, 26, 30), 26),
    "rms_norm": (rms, (37, 768), 768),
}


@pytest.mark.parametrize("name", ["matmul", "conv2d"])
def test_tensorflow_itself_computes_the_same_as_on_the_cpu(name):
    a = tf.random.stateless_normal((256, 256), (1, 2))
    image = tf.random.stateless_normal((2, 32, 32, 8), (3, 4))
    kernel = tf.random.stateless_normal((3, 3, 8, 16), (5, 6))
    results = []
    for device in (GPU, CPU):
        with tf.device(device):
            if name == "matmul":
                results.append(tf.matmul(a, a).numpy())
            else:
                results.append(tf.nn.conv2d(image, kernel, 1, "SAME").numpy())
    # TensorFloat-32 has ten bits.
    size = np.abs(results[1]).max()
    np.testing.assert_allclose(*results, rtol=0, atol=5e-3 * size)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", OPS)
def test_ops_and_gradients_are_as_on_the_cpu(name, dtype, rng):
    function, shape, channels = OPS[name]
    wide = tf.float64 if dtype == "float64" else tf.float32
    x, residual, weights = (
        tf.cast(rng.normal(size=shape), getattr(tf, dtype)) for _ in range(3)
    )
    gamma = tf.cast(rng.uniform(0.5, 1.5, channels), wide)
    beta = tf.cast(rng.normal(size=channels), wide)

    def run(device):
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
        assert device.strip("/").split(":")[0] in outputs[0].device
        return [tf.cast(each, tf.float64).numpy() for each in outputs + gradients]

    for ours, theirs in zip(run(GPU), run(CPU), strict=True):
        bound = TOLERANCES[dtype] * max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("name", OPS)
def test_ops_give_the_same_bits_under_xla(name):
    """Three times: XLA records what it runs more than once into a CUDA graph."""
    function, shape, channels = OPS[name]
    gamma, beta = tf.ones(channels), tf.zeros(channels)
    x, dy = (tf.random.stateless_normal(shape, (1, seed)) for seed in (2, 3))

    def step():
        with tf.GradientTape() as tape:
            tape.watch([x, gamma])
            y = function(x, gamma, beta, None)
        return [y, *tape.gradient(y, [x, gamma], output_gradients=dy)]

    compiled = tf.function(step, jit_compile=True, autograph=False)
    with tf.device(GPU):
        expected = [each.numpy().tobytes() for each in step()]
        for _ in range(3):
            assert [each.numpy().tobytes() for each in compiled()] == expected


def losses_of(norms, jit_compile):
    """Returns the losses of a short training, from the same data and weights."""
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
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
    # Keras turns XLA off, with a warning, where the layers do not support it.
    assert network.jit_compile == jit_compile
    return history.history["loss"]


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_fit_has_the_losses_of_keras(jit_compile):
    wanted = losses_of(keras.layers, False)
    assert np.isfinite(wanted).all()
    np.testing.assert_allclose(losses_of(fusednorm, jit_compile), wanted, rtol=2e-2)
