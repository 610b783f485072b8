"""Masks: statistics of some positions only, in functions and layers.

That the kernels compute it is tests/numerics/test_position_kernels.py; here is how
masks come to them, and that TensorFlow takes the ops with them wherever it takes them
without.
"""

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm._keras import LEGACY, keras
from support.layer_cases import AGREE, built, data, keras_3_only, tf_keras_only

# name -> (the shape of x, the channel axis, groups)
VIEWS = {
    "channels last": ((3, 5, 7, 8), -1, 4),
    "channels first": ((3, 8, 5, 7), 1, 2),
    "channels between": ((3, 5, 8, 7), 2, -1),
    "no positions": ((5, 8), -1, 2),
}
every_view = pytest.mark.parametrize("view", VIEWS)


def mask_for(view, rng):
    """Returns a mask with a sample of which nothing counts."""
    shape, axis, _ = VIEWS[view]
    mask = rng.random(np.delete(shape, axis)) > 0.4
    mask[1] = False
    return mask


def inputs_for(view, rng, dtype=np.float64):
    shape, axis, _ = VIEWS[view]
    shapes = (shape, shape[axis], shape[axis])
    return [tf.constant(rng.normal(size=each).astype(dtype)) for each in shapes]


def norm_for(view, **options):
    _, axis, groups = VIEWS[view]
    # So large that a sample of which nothing counts, whose rstd is 2 then, has results
    # of the size of the others'.
    options["epsilon"] = 0.25

    def norm(x, gamma, beta, **more):
        return fusednorm.group_norm(
            x, gamma, beta, groups=groups, axis=axis, **options, **more
        )

    return norm


def composed(norm):
    """Returns a norm in plain TensorFlow ops."""

    def call(*given, **options):
        with fusednorm.portable():
            return norm(*given, **options)

    return call


def gradients(function, inputs):
    """Returns all outputs, and gradients that reach the inputs from all of them."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    seeds = [tf.cos(each) for each in outputs]
    return [*outputs, *tape.gradient(outputs, inputs, seeds)]


def assert_all_close(got, wanted, bound):
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


class TestFunctions:
    """`group_norm` and `instance_norm`."""

    @pytest.mark.parametrize("activation", [None, "silu"])
    @every_view
    def test_the_op_computes_what_the_composition_does(self, view, activation, rng):
        mask, inputs = mask_for(view, rng), inputs_for(view, rng)
        norm = norm_for(view, activation=activation, mask=mask, return_stats=True)
        # Of float64, whose unit is 2^-53, over sums of a hundred terms.
        assert_all_close(
            gradients(norm, inputs), gradients(composed(norm), inputs), 1e-12
        )

    @pytest.mark.parametrize("portable", [False, True])
    def test_padding_is_as_if_it_were_not_there(self, portable, rng):
        x = data(rng, (1, 9, 6))
        gamma, beta = data(rng, (6,)), data(rng, (6,))
        padding = np.full((1, 4, 6), np.nan, np.float32)
        mask = np.arange(13)[np.newaxis] < 9

        def norm(x, **options):
            return fusednorm.group_norm(x, gamma, beta, groups=2, **options)

        call = composed(norm) if portable else norm
        y = call(np.concatenate([x, padding], 1), mask=mask)
        np.testing.assert_allclose(y[:, :9], call(x), rtol=0, atol=AGREE)
        assert np.isnan(y[:, 9:]).all()

    def test_nothing_counts(self, rng):
        """Mean 0 and variance 0, which do not depend on x."""
        x = tf.constant(data(rng, (2, 5, 4)))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, mean, rstd = fusednorm.instance_norm(
                x, epsilon=0.25, mask=np.zeros((2, 5), bool), return_stats=True
            )
        np.testing.assert_array_equal(mean, np.zeros((2, 4)))
        np.testing.assert_array_equal(rstd, np.full((2, 4), 2))
        np.testing.assert_array_equal(y, 2 * x)
        np.testing.assert_array_equal(tape.gradient(y, x), np.full_like(x, 2))

    def test_everything_counts(self, rng):
        x = data(rng, (2, 5, 7, 8))
        y = fusednorm.group_norm(x, groups=2, mask=np.ones((2, 5, 7), bool))
        np.testing.assert_allclose(
            y, fusednorm.group_norm(x, groups=2), rtol=0, atol=AGREE
        )

    @pytest.mark.parametrize(
        "shape", [(3,), (3, 5), (3, 5, 7), (3, 1, 7), (1, 5), (3, 5, 7, 1), (3, 5, 1)]
    )
    def test_masks_are_broadcast(self, shape, rng):
        x, mask = data(rng, (3, 5, 7, 8)), rng.random(shape) > 0.4
        positions = mask.reshape(shape[:3])
        positions = positions.reshape(positions.shape + (1,) * (3 - positions.ndim))
        whole = np.broadcast_to(positions, (3, 5, 7))
        np.testing.assert_array_equal(
            fusednorm.instance_norm(x, mask=mask),
            fusednorm.instance_norm(x, mask=whole),
        )

    @every_view
    def test_xla_gives_the_same(self, view, rng):
        mask, inputs = tf.constant(mask_for(view, rng)), inputs_for(view, rng)
        norm = norm_for(view, return_stats=True)

        @tf.function(jit_compile=True)
        def compiled(mask, *given):
            return gradients(lambda *g: norm(*g, mask=mask), list(given))

        eager = gradients(lambda *g: norm(*g, mask=mask), inputs)
        # But for the cosine in between, the kernels are the same.
        assert_all_close(compiled(mask, *inputs), eager, 1e-12)

    @pytest.mark.parametrize("activation", [None, "tanh"])
    @every_view
    def test_second_order(self, view, activation, rng):
        mask, inputs = mask_for(view, rng), inputs_for(view, rng)
        norm = norm_for(view, activation=activation, mask=mask, return_stats=True)

        def twice(norm):
            def first(*given):
                return [tf.sin(each) for each in gradients(norm, list(given))]

            return gradients(first, inputs)

        assert_all_close(twice(norm), twice(composed(norm)), 1e-10)

    @pytest.mark.parametrize("stacked", [False, True])
    @every_view
    def test_vectorized_map_without_a_loop(self, view, stacked, rng):
        norm = norm_for(view)
        _, gamma, beta = inputs_for(view, rng)
        xs = tf.stack([inputs_for(view, rng)[0] for _ in range(4)])
        masks = tf.stack([tf.constant(mask_for(view, rng)) for _ in range(4)])
        if not stacked:
            masks = tf.repeat(masks[:1], 4, 0)

        def one(x, mask):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = norm(x, gamma, beta, mask=mask)
            return y, tape.gradient(y, x, tf.cos(y))

        def iteration(given):
            return one(*given) if stacked else one(given, masks[0])

        mapped = tf.vectorized_map(
            iteration, (xs, masks) if stacked else xs, fallback_to_while_loop=False
        )
        wanted = [one(*given) for given in zip(xs, masks, strict=True)]
        assert_all_close(mapped, map(tf.stack, zip(*wanted, strict=True)), 1e-12)

    @pytest.mark.parametrize("known", ["rank", "nothing"])
    def test_shapes_that_are_not_known(self, known, rng):
        shape = (3, 5, 7, 8)
        x, mask = data(rng, shape), rng.random(shape[:3]) > 0.4
        unknown = [None] * 4 if known == "rank" else None
        of_mask = [None] * 3 if known == "rank" else None

        @tf.function(
            input_signature=[
                tf.TensorSpec(unknown),
                tf.TensorSpec(of_mask, tf.bool),
            ]
        )
        def traced(x, mask):
            return fusednorm.group_norm(x, groups=4, mask=mask)

        np.testing.assert_array_equal(
            traced(x, mask), fusednorm.group_norm(x, groups=4, mask=mask)
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match="mask must have"):
            traced(x, mask[:, :4])

    def test_saved_models(self, rng, tmp_path):
        x, mask = data(rng, (3, 5, 8)), rng.random((3, 5)) > 0.4
        module = tf.Module()
        module.norm = tf.function(
            lambda x, mask: fusednorm.group_norm(x, groups=4, mask=mask)
        )
        wanted = module.norm(x, mask)
        tf.saved_model.save(module, str(tmp_path))
        restored = tf.saved_model.load(str(tmp_path))
        np.testing.assert_array_equal(restored.norm(x, mask), wanted)

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (np.ones((2, 5), np.float32), r"`mask` must be boolean.*float32"),
            (np.ones((2, 4), bool), r"`mask`.*\(2, 5\).*\(2, 4\)"),
            (np.ones((2, 5, 8), bool), r"`mask`.*\(2, 5\).*\(2, 5, 8\)"),
            (np.bool_(True), r"`mask`.*\(2, 5\).*\(\)"),
        ],
    )
    def test_bad_masks(self, mask, message):
        with pytest.raises(ValueError, match=message):
            fusednorm.group_norm(np.ones((2, 5, 8), np.float32), groups=4, mask=mask)


# kind -> (a new layer, the shape of x, that of a mask)
LAYERS = {
    "group": (lambda **k: fusednorm.GroupNormalization(4, **k), (3, 6, 8)),
    "instance": (fusednorm.InstanceNormalization, (3, 6, 8)),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def expected(layer, x, mask):
    """Returns what the function computes with the layer's weights."""
    return fusednorm.group_norm(
        x,
        *layer.get_weights()[:2],
        groups=layer.groups,
        axis=layer.axis,
        epsilon=layer.epsilon,
        mask=mask,
    )


class TestLayers:
    """The layers' `mask`, given or come with the input."""

    @every_layer
    def test_a_mask_that_is_given(self, kind, rng):
        make, shape = LAYERS[kind]
        layer = built(make(), shape, rng)
        x, mask = data(rng, shape), tf.constant(rng.random(shape[:2]) > 0.4)
        np.testing.assert_array_equal(layer(x, mask=mask), expected(layer, x, mask))
        plain = layer(x)
        np.testing.assert_array_equal(plain, expected(layer, x, None))
        assert np.abs(plain - layer(x, mask=mask)).max() > 0.1

    @pytest.mark.parametrize("residual", [False, True])
    @every_layer
    def test_the_mask_of_an_embedding(self, kind, residual, rng):
        if residual and LEGACY:
            pytest.skip("tf_keras gives no masks to calls with two tensors")
        make, shape = LAYERS[kind]
        tokens = rng.integers(0, 3, shape[:2])
        mask = tokens != 0
        embedding = keras.layers.Embedding(3, shape[2], mask_zero=True)
        layer = built(make(), shape, rng)
        inputs = keras.Input(shape[1:2], dtype="int32")
        embedded = embedding(inputs)
        if residual:
            outputs = list(layer(embedded, residual=embedded))
        else:
            outputs = [layer(embedded)]
        model = keras.Model(inputs, outputs)
        x = np.asarray(embedding(tokens)) * (2 if residual else 1)
        got = model(tokens)
        got = got[0] if isinstance(got, list | tuple) else got
        np.testing.assert_array_equal(got, expected(layer, x, mask))
        assert np.asarray(model.predict(tokens, verbose=0)[0]).size

    @every_layer
    def test_use_mask_false(self, kind, rng):
        make, shape = LAYERS[kind]
        layer = built(make(use_mask=False), shape, rng)
        x, mask = data(rng, shape), tf.constant(rng.random(shape[:2]) > 0.4)
        np.testing.assert_array_equal(layer(x, mask=mask), layer(x))
        again = type(layer).from_config(layer.get_config())
        assert again.use_mask is False
        assert type(layer).from_config(make().get_config()).use_mask is True

    @every_layer
    def test_trains_in_fit(self, kind, rng):
        make, shape = LAYERS[kind]
        model = keras.Sequential(
            [
                keras.layers.Embedding(5, shape[2], mask_zero=True),
                make(activation="silu"),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse")
        tokens = rng.integers(0, 5, shape[:2])
        history = model.fit(tokens, np.ones(shape[0]), epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()

    def test_keras_3_counts_every_position(self, rng):
        """And so do files that were saved with its layer, or with Addons'."""
        config = fusednorm.GroupNormalization(4).get_config()
        del config["use_mask"]
        layer = fusednorm.GroupNormalization.from_config(config)
        assert layer.use_mask is LEGACY

    @tf_keras_only
    def test_as_tf_keras_computes_it(self, rng):
        x, mask = data(rng, (3, 6, 8)), rng.random((3, 6, 1)) > 0.4
        mask[:, 0] = True  # Where nothing counts it divides by zero.
        ours = built(fusednorm.GroupNormalization(4), x.shape, rng)
        theirs = keras.layers.GroupNormalization(4)
        theirs.build(x.shape)
        theirs.set_weights(ours.get_weights())
        np.testing.assert_allclose(
            ours(x, mask=mask), theirs(x, mask=tf.constant(mask)), rtol=0, atol=AGREE
        )

    @keras_3_only
    def test_conversion_keeps_what_a_model_computes(self, rng):
        tokens = rng.integers(0, 3, (3, 6))
        model = keras.Sequential(
            [
                keras.layers.Embedding(3, 8, mask_zero=True),
                keras.layers.GroupNormalization(4),
            ]
        )
        before = np.asarray(model(tokens))
        fusednorm.convert(model, verbose=False)
        assert isinstance(model.layers[1], fusednorm.GroupNormalization)
        np.testing.assert_allclose(model(tokens), before, rtol=0, atol=AGREE)
        fusednorm.unconvert(model, verbose=False)
        np.testing.assert_allclose(model(tokens), before, rtol=0, atol=AGREE)

    @keras_3_only
    def test_so_does_the_patch(self, rng, tmp_path):
        with fusednorm.patch_keras():
            layer = keras.layers.GroupNormalization(4)
        assert isinstance(layer, fusednorm.GroupNormalization)
        assert layer.use_mask is False
        assert type(layer).from_config(layer.get_config()).use_mask is False

    @pytest.mark.parametrize("use_mask", [False, True])
    @pytest.mark.parametrize("kind", [*LAYERS, "adaptive"])
    def test_files_of_models_with_masks(self, kind, use_mask, rng, tmp_path):
        """Keras writes no mask into the graph, which an `.h5` file cannot hold."""
        inputs = keras.Input((6,))
        y = keras.layers.Embedding(3, 8, mask_zero=True)(inputs)
        if kind == "adaptive":
            condition = keras.layers.Dense(2)(inputs)
            layer = fusednorm.AdaptiveGroupNormalization(
                4, use_mask=use_mask, kernel_initializer="ones"
            )
            model = keras.Model(inputs, layer([y, condition]))
        else:
            model = keras.Model(inputs, LAYERS[kind][0](use_mask=use_mask)(y))
        self.survives_files(model, rng, tmp_path)

    @keras_3_only
    def test_files_of_converted_models_with_masks(self, rng, tmp_path):
        inputs = keras.Input((6,))
        y = keras.layers.Embedding(3, 8, mask_zero=True)(inputs)
        model = keras.Model(inputs, keras.layers.GroupNormalization(4)(y))
        fusednorm.convert(model, verbose=False)
        self.survives_files(model, rng, tmp_path)

    def survives_files(self, model, rng, folder):
        tokens = rng.integers(0, 3, (3, 6)).astype(np.float32)
        expected = model(tokens)
        for name in ("first.keras", "second.h5", "third.keras"):
            model.save(folder / name)
            model = keras.models.load_model(folder / name)
            np.testing.assert_array_equal(model(tokens), expected)
            assert model.layers[-1].__class__.__module__.startswith("fusednorm")

    def test_adaptive_normalization(self, rng):
        layer = fusednorm.AdaptiveGroupNormalization(4)
        x, condition = data(rng, (3, 6, 8)), data(rng, (3, 5))
        mask = tf.constant(rng.random((3, 6)) > 0.4)
        y = layer([x, condition], mask=[mask, None])
        wanted = fusednorm.group_norm(x, groups=4, mask=mask)
        np.testing.assert_array_equal(y, wanted)
        layer = fusednorm.AdaptiveGroupNormalization(4, use_mask=False)
        y = layer([x, condition], mask=[mask, None])
        np.testing.assert_array_equal(y, fusednorm.group_norm(x, groups=4))

    def test_running_statistics(self, rng):
        """They are those of the positions and of the samples that count."""
        layer = fusednorm.InstanceNormalization(
            track_running_stats=True, update_rate=1.0
        )
        x, mask = data(rng, (4, 9, 8)), rng.random((4, 9)) > 0.4
        mask[2] = False
        layer(x, training=True, mask=tf.constant(mask))
        counted = [x[i, mask[i]].astype(np.float64) for i in (0, 1, 3)]
        mean = np.mean([each.mean(0) for each in counted], 0)
        variance = np.mean([each.var(0, ddof=1) for each in counted], 0)
        np.testing.assert_allclose(layer.running_mean, mean, rtol=0, atol=AGREE)
        np.testing.assert_allclose(layer.running_var, variance, rtol=0, atol=AGREE)
        before = [np.asarray(w) for w in (layer.running_mean, layer.running_var)]
        layer(x, training=True, mask=tf.zeros((4, 9), tf.bool))
        for old, new in zip(
            before, (layer.running_mean, layer.running_var), strict=True
        ):
            np.testing.assert_array_equal(old, new)
