"""What XLA leaves beside the custom calls of training steps, pinned.

A count that is higher than here means that something is moved or cast which was not
before; one that is lower belongs here.
"""

import functools

import fusednorm
import pytest
import tensorflow as tf
from fusednorm.bench import hlo

OURS, FUSED = hlo.OURS, hlo.FUSED

# Norms of each model: each of them is one custom call forward and one backward.
NORMS = {"unet": 7, "cyclegan": 7, "gpt": 3, "llama": 3, "vit": 3}

# What only casts data or fills memory beside the calls, in the HLO that XLA is given.
# The casts are not of the norms, and models with Keras's norms have them too: of the
# loss and its gradient, and of what the gradients of biases are sums of. But for two in
# gpt: its input is float32, and the norm of float32 data writes float32 and takes a
# float32 gradient, also in a layer that computes in 16 bits.
CASTS = {
    ("unet", OURS): {},
    ("unet", FUSED): {},
    ("cyclegan", OURS): {},
    ("cyclegan", FUSED): {},
    ("gpt", OURS): {"convert": 5},
    ("gpt", FUSED): {"convert": 5},
    ("llama", OURS): {"convert": 3},
    ("llama", FUSED): {"convert": 4},
    ("vit", OURS): {"convert": 3},
    ("vit", FUSED): {"convert": 4},
}
# Both give the same counts.
POLICIES = {OURS: "mixed_float16", FUSED: "mixed_bfloat16"}

# What only moves data beside the calls in what XLA runs on the CPU, in float32. What
# there is, is not for the norms: XLA's CPU backend transposes both operands of the
# convolutions that are gradients of filters.
MOVES = {
    ("unet", FUSED): {"copy+transpose": 12},
    ("cyclegan", FUSED): {"copy+transpose": 13},
    ("gpt", FUSED): {},
    ("llama", FUSED): {},
    ("vit", FUSED): {},
}


@functools.cache
def hlo_of(model, policy, norms, optimized):
    step, x = hlo.compiled_step(model, policy, norms)
    return hlo.read(step, x, optimized=optimized)


def assert_moves(got, known, of):
    got = hlo.moves(got.beside_the_calls(), of)
    assert got == known, (
        f"beside the custom calls are {got}, and {known} is known: what is more must "
        "go, what is less belongs in the table above"
    )


@pytest.mark.parametrize(("model", "norms"), CASTS)
def test_casts_beside_the_calls(model, norms):
    got = hlo_of(model, POLICIES[norms], norms, optimized=False)
    assert len(got.custom_calls()) == 2 * NORMS[model]
    assert_moves(got, CASTS[model, norms], hlo.CASTS)


@pytest.mark.parametrize(("model", "norms"), MOVES)
def test_moves_beside_the_calls(model, norms):
    got = hlo_of(model, "float32", norms, optimized=True)
    assert len(got.custom_calls()) == 2 * NORMS[model]
    assert_moves(got, MOVES[model, norms], hlo.MOVES)


def test_no_more_is_moved_than_with_the_norms_of_keras():
    def moves_in_all(norms):
        got = hlo_of("cyclegan", "float32", norms, optimized=True)
        return sum(hlo.moves(got.kernels()).values())

    assert moves_in_all(FUSED) <= moves_in_all(hlo.KERAS)


@pytest.mark.parametrize(("model", "norms"), MOVES)
def test_the_backward_pass_reads_what_the_forward_pass_read_or_wrote(model, norms):
    got = hlo_of(model, "float32", norms, optimized=True)
    forward, backward = [
        [each for each in got.custom_calls() if each.custom_call_target == target]
        for target in hlo.TARGETS[:2]
    ]
    assert len(forward) == len(backward) == NORMS[model]
    for call in backward:
        _, x, *statistics = got.sources(call)
        [source] = [each for each in forward if each.id == statistics[0].id]
        # The sum, where there is a residual: an output of the forward pass itself.
        assert x.id in {source.id, *(each.id for each in got.sources(source))}


# Beside a norm between two convolutions, forward and backward. On the CPU XLA computes
# convolutions channels last, and the calls take and give row-major data: what is
# channels first is transposed on every side of them.
BETWEEN_CONVOLUTIONS = {"NHWC": {"copy+transpose": 2}, "NCHW": {"copy+transpose": 6}}


@pytest.mark.parametrize("data_format", BETWEEN_CONVOLUTIONS)
def test_moves_between_convolutions(data_format):
    first = data_format == "NCHW"
    x = tf.ones([2, 16, 8, 12] if first else [2, 8, 12, 16])
    filters = tf.ones([3, 3, 16, 16])

    def gradients(x, filters):
        def convolved(x):
            return tf.nn.conv2d(x, filters, 1, "SAME", data_format)

        with tf.GradientTape() as tape:
            tape.watch([x, filters])
            y = fusednorm.group_norm(convolved(x), groups=4, axis=1 if first else -1)
            y = convolved(y) ** 2
        return tape.gradient(y, [x, filters])

    assert beside(gradients, x, filters) == BETWEEN_CONVOLUTIONS[data_format]


# ---------------------------------------------------------------- the counting


def beside(function, *arguments, optimized=True):
    function = tf.function(function, jit_compile=True, autograph=False)
    got = hlo.read(function, *arguments, optimized=optimized)
    return hlo.moves(got.beside_the_calls())


X = tf.ones([4, 6, 8])
X16 = tf.ones([4, 6, 8], tf.bfloat16)


def test_a_norm_alone_has_nothing_beside_it():
    for x in (X, X16):
        assert beside(lambda x: fusednorm.layer_norm(x), x) == {}


@pytest.mark.parametrize("optimized", [False, True])
def test_casts_are_counted(optimized):
    def cast_before_and_after(x):
        return tf.cast(fusednorm.layer_norm(tf.cast(x, tf.float32)), x.dtype)

    assert beside(cast_before_and_after, X16, optimized=optimized) == {"convert": 2}


def test_transpositions_are_counted():
    # In and out: these axes are not one run of axes.
    got = beside(lambda x: fusednorm.layer_norm(x, axis=[0, 2]), X)
    assert sum(got.values()) == 2


def test_what_is_smaller_than_the_data_is_said_to_be():
    def cast_of_gamma(x, gamma):
        return fusednorm.layer_norm(x, tf.cast(gamma, tf.float32))

    gamma = tf.ones(8, tf.bfloat16)
    assert beside(cast_of_gamma, X16, gamma) == {"small convert": 1}


def test_what_computes_as_well_is_no_move():
    def silu_of_a_cast(x):
        return tf.nn.silu(tf.cast(fusednorm.layer_norm(x), tf.float32))

    assert beside(silu_of_a_cast, X16) == {}


def test_the_table():
    header, _, *rows = hlo.table(["gpt"], ["mixed_bfloat16"], gpu=False)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    casts = {hlo.KERAS: "0", OURS: "5 convert", FUSED: "5 convert"}
    # What runs is not told: of 16 bits it says nothing on the CPU.
    unknown = [""] * (header.count("|") - 5)
    assert cells == [
        ["gpt", "mixed_bfloat16", *each, *unknown] for each in casts.items()
    ]
