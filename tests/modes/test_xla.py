"""The ops inside functions that XLA compiles: the same bits as outside of them."""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import fusednorm
import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fusednorm.bench import hlo
from support import forks, reference

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
NORMS = {
    "group": functools.partial(fusednorm.group_norm, groups=2),
    "instance": fusednorm.instance_norm,
    "layer": fusednorm.layer_norm,
    "rms": fusednorm.rms_norm,
}
every_norm = pytest.mark.parametrize("norm", NORMS)


def data(rng, *shape, dtype=np.float32):
    return tf.constant(rng.normal(size=shape).astype(dtype))


def compiled(function, **options):
    return tf.function(function, jit_compile=True, autograph=False, **options)


def with_gradients(call, inputs, numbers):
    """Returns all outputs of a call, and the gradients of all its inputs.

    The gradients of the outputs are the first of `numbers`, or the next after those.
    """
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = tf.nest.flatten(call(**inputs))
    seeds = [
        tf.cast(tf.reshape(numbers[i : i + size_of(y)], y.shape), y.dtype)
        for i, y in enumerate(outputs)
    ]
    return outputs, tape.gradient(outputs, inputs, seeds)


def size_of(tensor):
    return int(np.prod(tensor.shape))


def assert_same_bits(got, expected, case=""):
    got, expected = tf.nest.flatten(got), tf.nest.flatten(expected)
    assert len(got) == len(expected)
    for index, (one, other) in enumerate(zip(got, expected, strict=True)):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.numpy().tobytes() == other.numpy().tobytes(), (case, index)


def check(call, inputs, rng):
    """Compares a call with and without XLA, the gradients in it and outside of it."""
    numbers = data(rng, max(map(size_of, inputs.values())) + 20)
    expected = with_gradients(call, inputs, numbers)
    whole = compiled(functools.partial(with_gradients, call))
    assert_same_bits(whole(inputs, numbers), expected)
    assert_same_bits(with_gradients(compiled(call), inputs, numbers), expected)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", ["group", "layer", "rms"])
def test_every_option(norm, dtype, rng):
    """Each case of options in one type, all types together have all of them."""
    affine = [(), ("gamma",), ("beta",), ("gamma", "beta")]
    if norm == "rms":
        affine = affine[:2]
    residuals = [False, True]
    cases = [
        *itertools.product(affine, reference.ACTIVATIONS, residuals, [True]),
        *itertools.product(affine, ["none"], residuals, [False]),
    ]
    # One of each four cases, not always the same one.
    turn = DTYPES.index(dtype)
    cases = [case for i, case in enumerate(cases) if (i + i // 4) % 4 == turn]
    parameters = np.float64 if dtype is np.float64 else np.float32
    x, residual = data(rng, 3, 5, 8, dtype=dtype), data(rng, 3, 5, 8, dtype=dtype)
    values = {name: data(rng, 8, dtype=parameters) for name in ("gamma", "beta")}
    numbers = data(rng, 3 * 5 * 8 + 9)

    def all_cases(x, residual, values, numbers):
        results = []
        for names, activation, with_residual, return_stats in cases:
            inputs = {"x": x, **{name: values[name] for name in names}}
            if with_residual:
                inputs["residual"] = residual
            call = functools.partial(
                NORMS[norm], activation=activation, return_stats=return_stats
            )
            results.append(with_gradients(call, inputs, numbers))
        return results

    arguments = x, residual, values, numbers
    expected = tf.function(all_cases, autograph=False)(*arguments)
    got = compiled(all_cases)(*arguments)
    for case, one, other in zip(cases, got, expected, strict=True):
        assert_same_bits(one, other, case)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@every_norm
def test_parameters_of_the_dtype_of_x(norm, dtype, rng):
    inputs = {name: data(rng, 8, dtype=dtype) for name in ("gamma", "beta")}
    if norm == "rms":
        del inputs["beta"]
    check(NORMS[norm], {"x": data(rng, 4, 8, dtype=dtype), **inputs}, rng)


# Every view, and every way of walking memory; the large ones take several threads.
VIEWS = {
    "channels last": (NORMS["group"], (3, 5, 4, 8)),
    "channels first": (functools.partial(NORMS["group"], axis=1), (3, 8, 5, 4)),
    "channels between": (functools.partial(NORMS["group"], axis=2), (3, 5, 8, 4)),
    "instances": (NORMS["instance"], (2, 70, 3)),
    "several axes": (functools.partial(NORMS["layer"], axis=[1, 2]), (4, 3, 5)),
    "all axes": (functools.partial(NORMS["rms"], axis=[0, 1]), (4, 3)),
    "columns": (functools.partial(NORMS["layer"], axis=1), (3, 30, 5)),
    "axes apart": (functools.partial(NORMS["layer"], axis=[0, 2]), (4, 3, 5)),
    "zero_centered": (functools.partial(NORMS["rms"], zero_centered=True), (4, 9)),
    "no epsilon": (functools.partial(NORMS["layer"], epsilon=0.0), (4, 9)),
    "many rows": (NORMS["layer"], (3000, 70)),
    "long rows": (NORMS["rms"], (2, 150_001)),
    "many groups": (NORMS["group"], (40, 90, 60)),
    "long columns": (functools.partial(NORMS["layer"], axis=1), (1, 3000, 60)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_every_view(view, rng):
    call, shape = VIEWS[view]
    options = call.keywords if isinstance(call, functools.partial) else {}
    axes = np.atleast_1d(options.get("axis", -1))
    gamma = data(rng, *[shape[axis] for axis in sorted(axes % len(shape))])
    check(call, {"x": data(rng, *shape), "gamma": gamma}, rng)


@pytest.mark.parametrize("shape", [(0, 4, 6), (3, 0, 6), (3, 4, 0), (1, 1, 1), (1, 1)])
@every_norm
def test_empty_and_tiny(norm, shape, rng):
    groups = {"groups": 1} if norm == "group" else {}
    call = functools.partial(NORMS[norm], return_stats=True, **groups)
    check(call, {"x": data(rng, *shape), "gamma": data(rng, shape[-1])}, rng)


@every_norm
def test_unknown_batch_compiles_again(norm, rng):
    signature = [tf.TensorSpec((None, None, 8), tf.float32)]
    function = compiled(NORMS[norm], input_signature=signature)
    for shape in ((1, 5, 8), (6, 5, 8), (2, 1, 8), (6, 5, 8), (0, 5, 8)):
        x = data(rng, *shape)
        assert_same_bits(function(x), NORMS[norm](x))


def test_a_residual_that_is_x_and_inputs_that_live_on(rng):
    def call(x):
        z = x * 2
        y, total = fusednorm.layer_norm(z, residual=z)
        return y, total, y * z

    x = data(rng, 300, 70)
    assert_same_bits(compiled(call)(x), call(x))


def second_order(call, inputs, numbers):
    """Returns the gradients of the squares of the first gradients."""
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        _, gradients = with_gradients(call, inputs, numbers)
        squares = [
            tf.reduce_sum(tf.cast(each, tf.float64) ** 2)
            for each in tf.nest.flatten(gradients)
        ]
    # Nothing depends on beta: what is linear in it is gone.
    sources = {name: value for name, value in inputs.items() if name != "beta"}
    return outer.gradient(squares, sources)


@pytest.mark.parametrize(
    ("norm", "affine", "dtype"),
    # Each norm and each affine in two types, which together are all.
    [
        (norm, affine, DTYPES[(i + j + k) % 4])
        for i, norm in enumerate(NORMS)
        for j, affine in enumerate([(), ("gamma",), ("gamma", "beta")])
        for k in (0, 2)
    ],
    ids=str,
)
def test_second_order(norm, affine, dtype, rng):
    parameters = np.float64 if dtype is np.float64 else np.float32
    inputs = {"x": data(rng, 4, 5, 8, dtype=dtype)}
    for name in affine[: 1 if norm == "rms" else 2]:
        inputs[name] = data(rng, 8, dtype=parameters)
    numbers = data(rng, 4 * 5 * 8 + 20)
    call = functools.partial(NORMS[norm], return_stats=True)
    function = functools.partial(second_order, call)
    expected = tf.function(function, autograph=False)(inputs, numbers)
    assert_same_bits(compiled(function)(inputs, numbers), expected)
    hlo = compiled(function).experimental_get_compiler_ir(inputs, numbers)
    assert "fusednorm_second_order" in hlo(stage="hlo")


def second_order_of_y(call, inputs, numbers):
    """Returns the gradients of the squares of the gradients of y alone."""
    return second_order(lambda **inputs: call(**inputs)[0], inputs, numbers)


# ---------------------------------------------------------------- what is zero


@pytest.mark.parametrize(
    "reached", ["y", "sum", "rstd", "y sum", "y rstd", "y sum rstd"]
)
@every_norm
def test_gradients_that_are_zero_are_no_operands(norm, reached, rng):
    inputs = {"x": data(rng, 3, 5, 8), "gamma": data(rng, 8)}
    inputs["residual"] = data(rng, 3, 5, 8)
    call = functools.partial(NORMS[norm], return_stats=True)
    names = ["y", "sum", "rstd"] if norm == "rms" else ["y", "sum", "mean", "rstd"]

    def gradients(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = dict(zip(names, call(**inputs), strict=True))
            squares = [outputs[name] ** 2 for name in reached.split()]
        return tape.gradient(squares, inputs)

    function = compiled(gradients)
    expected = tf.function(gradients, autograph=False)(inputs)
    assert_same_bits(function(inputs), expected)
    calls = hlo.read(function, inputs, optimized=False).custom_calls()
    [backward] = [c for c in calls if c.custom_call_target == "fusednorm_backward"]
    always = ["dy", "x", "rstd", "gamma"] + ["mean"] * (norm != "rms")
    of_statistics = ["drstd"] + ["dmean"] * (norm != "rms")
    assert len(backward.operand_ids) == (
        len(always) + ("sum" in reached) + len(of_statistics) * ("rstd" in reached)
    )


@every_norm
def test_second_order_without_gradients_of_statistics(norm, rng):
    inputs = {"x": data(rng, 4, 5, 8), "gamma": data(rng, 8)}
    numbers = data(rng, 4 * 5 * 8 + 20)
    call = functools.partial(NORMS[norm], return_stats=True)
    function = functools.partial(second_order_of_y, call)
    expected = tf.function(function, autograph=False)(inputs, numbers)
    assert_same_bits(compiled(function)(inputs, numbers), expected)


def test_a_gradient_that_is_zero_can_be_differentiated(rng):
    x = data(rng, 4, 8)

    def forward_mode(x):
        # The gradient is linear in what it is given: its derivative by that is known.
        with tf.GradientTape() as outer:
            zero = tf.zeros_like(x)
            outer.watch(zero)
            with tf.GradientTape() as inner:
                inner.watch(x)
                _, total = fusednorm.layer_norm(x, residual=tf.ones_like(x))
            dx = inner.gradient(total, x, output_gradients=zero)
        return outer.gradient(dx, zero, output_gradients=x)

    assert_same_bits(compiled(forward_mode)(x), x)


# ---------------------------------------------------------------- graphs


def test_the_norm_is_one_custom_call(rng):
    def step(x, gamma, beta):
        call = functools.partial(NORMS["group"], activation="silu", epsilon=0.1)
        return with_gradients(call, {"x": x, "gamma": gamma, "beta": beta}, x[0])

    x = data(rng, 1, 8)
    arguments = x, data(rng, 8), data(rng, 8)
    hlo = compiled(step).experimental_get_compiler_ir(*arguments)(stage="optimized_hlo")
    for target in ("fusednorm_forward", "fusednorm_backward"):
        [call] = [line for line in hlo.splitlines() if f'"{target}"' in line]
        assert "API_VERSION_TYPED_FFI" in call
        for attribute in ("g = 2 : i64", 'activation = "silu"', "has_beta = true"):
            assert attribute in call


@every_norm
def test_control_flow(norm, rng):
    def step(x, positive):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.while_loop(
                lambda i, _: i < 3,
                lambda i, y: (
                    i + 1,
                    tf.cond(positive, lambda: NORMS[norm](y), lambda: -NORMS[norm](y)),
                ),
                (0, x),
                maximum_iterations=3,
            )[1]
        return y, tape.gradient(y, x, output_gradients=x)

    x = data(rng, 3, 5, 8)
    for positive in (tf.constant(True), tf.constant(False)):
        assert_same_bits(compiled(step)(x, positive), step(x, positive))


def test_many_threads_with_many_norms_each(rng):
    # More calls at once than XLA has threads, each with norms that wait for threads.
    def call(*inputs):
        return [fusednorm.layer_norm(x, activation="gelu") for x in inputs]

    function = compiled(call)
    inputs = [data(rng, 400, 257) for _ in range(6)]
    expected = call(*inputs)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: function(*inputs), range(40)):
            assert_same_bits(got, expected)


def test_runs_do_not_change_a_bit(rng):
    inputs = {"x": data(rng, 600, 130), "gamma": data(rng, 130)}
    numbers = data(rng, 600 * 130)
    function = compiled(functools.partial(with_gradients, NORMS["layer"]))
    first = function(inputs, numbers)
    for _ in range(20):
        assert_same_bits(function(inputs, numbers), first)


AUTO_CLUSTERING = """
import numpy as np, tensorflow as tf, fusednorm
x = tf.constant(np.random.default_rng(1).normal(size=(6, 8)).astype("float32"))

@tf.function
def clustered(x):
    return fusednorm.layer_norm(x * 2, activation="silu") + 1

@tf.function
def unknown_rows(x):
    chosen = tf.gather(x, tf.where(x[:, 0] > 0)[:, 0])
    return fusednorm.layer_norm(chosen) + 1

chosen = x[x[:, 0] > 0]
for got, expected in [
    (clustered(x), fusednorm.layer_norm(x * 2, activation="silu") + 1),
    (unknown_rows(x), fusednorm.layer_norm(chosen) + 1),
]:
    np.testing.assert_array_equal(got, expected)
"""


def test_auto_clustering_takes_the_ops(tmp_path):
    forks.output(
        "-c",
        AUTO_CLUSTERING,
        TF_XLA_FLAGS="--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit "
        "--tf_xla_min_cluster_size=1",
        XLA_FLAGS=f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text",
    )
    clusters = [path.read_text() for path in tmp_path.glob("*after_optimizations.txt")]
    assert any('"fusednorm_forward"' in hlo for hlo in clusters)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x, p: fusednorm.group_norm(x, p, groups=2),
            r"gamma must have shape \[4\], got \[5\]",
        ),
        (
            lambda x, p: fusednorm.layer_norm(x, None, p),
            r"beta must have shape \[4\], got \[5\]",
        ),
        (
            lambda x, p: fusednorm.rms_norm(x, residual=p),
            r"residual must have shape \[2,4\], got \[5\]",
        ),
        (
            lambda x, _: fusednorm.group_norm(x, groups=3),
            "groups must divide the number of channels, got groups = 3 for 4 channels",
        ),
        (
            lambda x, _: fusednorm.layer_norm(x, axis=5),
            r"axes are out of range for an input of rank 2, got \[5\]",
        ),
    ],
)
def test_bad_input_gets_the_message_it_gets_without_xla(function, message):
    signature = [tf.TensorSpec(None, tf.float32)] * 2
    for make in (compiled, functools.partial(tf.function, autograph=False)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            make(function, input_signature=signature)(tf.ones((2, 4)), tf.ones(5))


@pytest.mark.parametrize("axis", [0, 1])
def test_shapes_that_only_running_tells_are_refused(axis, rng):
    def call(x, mask):
        return fusednorm.layer_norm(tf.boolean_mask(x, mask, axis=axis))

    x = data(rng, 4, 4)
    mask = tf.constant([True, False, True, True])
    with pytest.raises(tf.errors.UnimplementedError, match="x must have a shape that"):
        compiled(call)(x, mask)

    # Where the norm comes first, it does not matter.
    def called_before(x, mask):
        return tf.boolean_mask(fusednorm.layer_norm(x), mask, axis=axis)

    assert_same_bits(compiled(called_before)(x, mask), called_before(x, mask))


# ---------------------------------------------------------------- layers


def network():
    """Returns a model with every layer, and the same weights every time."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            keras.layers.Conv2D(8, 3),
            fusednorm.GroupNormalization(groups=4, activation="silu"),
            keras.layers.Conv2D(8, 3),
            fusednorm.InstanceNormalization(activation="relu"),
            keras.layers.Flatten(),
            fusednorm.LayerNormalization(),
            keras.layers.Dense(8),
            fusednorm.RMSNormalization(),
            keras.layers.Dense(3),
        ]
    )


def trained(jit_compile, rng):
    """Returns a network and its losses after eight steps, two of a smaller batch."""
    net = network()
    net.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    x = rng.normal(size=(30, 6, 6, 4)).astype(np.float32)
    labels = rng.integers(0, 3, 30)
    history = net.fit(x, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert net.jit_compile == (jit_compile is True)  # "auto" is for GPUs
    return net, history.history["loss"]


@pytest.mark.parametrize("jit_compile", [True, "auto"])
def test_fit_trains_the_same(jit_compile):
    net, losses = trained(jit_compile, np.random.default_rng(1))
    plain, plain_losses = trained(False, np.random.default_rng(1))
    # What is around the norms is rounded differently: in each of the eight steps fewer
    # than 100 roundings of 2^-24 of numbers below 16.
    bound = 8 * 100 * 16 * 2.0**-24
    np.testing.assert_allclose(losses, plain_losses, rtol=0, atol=bound)
    start = network()
    for got, expected, before in zip(
        net.weights, plain.weights, start.weights, strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound, err_msg=got.path)
        if "/conv2d" not in got.path or got.ndim > 1:  # norms cancel these offsets
            assert np.max(np.abs(got - before)) > 10 * bound, got.path


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "layer",
    [
        functools.partial(fusednorm.GroupNormalization, 4),
        fusednorm.InstanceNormalization,
        fusednorm.LayerNormalization,
        fusednorm.RMSNormalization,
    ],
)
def test_mixed_precision(layer, policy, rng):
    layer = layer(dtype=policy, activation="gelu")
    layer.build((None, 5, 8))
    variables = [variable.value for variable in layer.trainable_variables]
    seed = data(rng, 4, 5, 8)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        gradients = tape.gradient(y, [x, *variables], tf.cast(seed, y.dtype))
        return y, gradients

    x = tf.cast(data(rng, 4, 5, 8), layer.compute_dtype)
    assert_same_bits(compiled(step)(x), step(x))
