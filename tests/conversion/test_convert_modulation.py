"""`convert(fuse=True)` folds a scale and an offset after a norm into it, and back."""

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from support.folding import AGREE, assert_trains_as_before, convert, relative

layers, ops = keras.layers, keras.ops
TOKENS, WIDTH = 6, 8


def norm(name=None, **options):
    return layers.LayerNormalization(center=False, scale=False, name=name, **options)


def dense(units=WIDTH, **kwargs):
    return layers.Dense(units, kernel_initializer="random_normal", **kwargs)


def inputs():
    return keras.Input((TOKENS, WIDTH), name="x"), keras.Input((WIDTH,), name="c")


def modulated(y, scale, shift):
    return y * (1 + ops.expand_dims(scale, 1)) + ops.expand_dims(shift, 1)


def dit(blocks=2):
    """Returns a diffusion transformer, as people write them with functions."""
    x, c = inputs()
    y = dense(name="embed")(x)
    for i in range(blocks):
        given = dense(6 * WIDTH, name=f"modulation{i}")(ops.silu(c))
        shift1, scale1, gate1, shift2, scale2, gate2 = ops.split(given, 6, -1)
        h = modulated(norm(f"attention_norm{i}")(y), scale1, shift1)
        h = layers.MultiHeadAttention(2, 4, use_bias=False, name=f"attention{i}")(h, h)
        y = y + ops.expand_dims(gate1, 1) * h
        h = modulated(norm(f"mlp_norm{i}")(y), scale2, shift2)
        h = dense(name=f"out{i}")(ops.gelu(dense(16, name=f"in{i}")(h)))
        y = y + ops.expand_dims(gate2, 1) * h
    shift, scale = ops.split(dense(2 * WIDTH, name="last")(ops.silu(c)), 2, -1)
    y = modulated(norm("last_norm")(y), scale, shift)
    return keras.Model([x, c], dense(3, name="head")(y))


@pytest.fixture
def x(rng):
    shapes = (4, TOKENS, WIDTH), (4, WIDTH)
    return [tf.constant(rng.standard_normal(shape, np.float32)) for shape in shapes]


def folded(model):
    """Returns the names of the norms that have taken over a scale."""
    rows = model.fusednorm_conversion.replaced
    return [row.path for row in rows if row.after.startswith("with gamma of")]


def types_of(model, x):
    traced = tf.function(model, autograph=False).get_concrete_function(x)
    return [operation.type for operation in traced.graph.get_operations()]


def gradients(model, x):
    """Returns the gradients of all weights, by their paths, and of the inputs."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.sin(model(x)))
    variables = {each.path: each.value for each in model.trainable_weights}
    return tape.gradient(loss, variables | {"x": x[0], "c": x[1]})


def names(model):
    return [layer.name for layer in model.layers]


def weighted(model):
    return [layer.name for layer in model.layers if layer.weights]


def test_a_diffusion_transformer(x):
    model = dit()
    before, slopes = model(x), gradients(model, x)
    order, weights = weighted(model), [id(each) for each in model.weights]
    operations = len(model.operations)
    convert(model)
    expected = ["attention_norm0", "mlp_norm0", "attention_norm1", "mlp_norm1"]
    assert folded(model) == [*expected, "last_norm"]
    # The product, the sum, and what has added 1.
    assert len(model.operations) == operations - 5 * 3
    assert types_of(model, x).count("Fusednorm>LayerNorm") == 5
    assert relative(model(x), before) <= AGREE
    for path, slope in gradients(model, x).items():
        assert relative(slope, slopes[path]) <= AGREE, path
    assert weighted(model) == order
    assert [id(each) for each in model.weights] == weights


def test_it_trains_as_before(x):
    assert_trains_as_before(dit, x, np.tanh(x[0][..., :3]))


def test_the_graph_saves_loads_and_clones(x, tmp_path):
    original = dit()
    model = convert(keras.models.clone_model(original))
    model.set_weights(original.get_weights())
    expected = model(x)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(original.get_weights())
    read = keras.models.model_from_json(model.to_json())
    read.load_weights(tmp_path / "model.weights.h5")
    for again in (loaded, clone, read):
        assert names(again) == names(model)
        np.testing.assert_array_equal(again(x), expected)
    other = dit()
    other.load_weights(tmp_path / "model.weights.h5")
    assert relative(other(x), expected) <= AGREE


def test_other_models_of_the_layers_go_on(x):
    model = dit()
    ends = ["embed", "attention1", "in1", "out1"]
    others = [keras.Model(model.inputs, model.get_layer(n).output) for n in ends]
    before = [other(x) for other in others]
    convert(model)
    for other, y in zip(others, before, strict=True):
        assert relative(other(x), y) <= AGREE
        clone = keras.models.clone_model(other)
        clone.set_weights(other.get_weights())
        assert relative(clone(x), y) <= AGREE
    # And models that are made now.
    for name, y in zip(ends, before, strict=True):
        late = keras.Model(model.inputs, model.get_layer(name).output)
        assert relative(late(x), y) <= AGREE


@pytest.mark.parametrize("times", [1, 2])
def test_unconvert_is_the_way_back(times, x):
    model = dit()
    before, order = model(x), weighted(model)
    for _ in range(times):
        assert len(folded(convert(model))) == 5
        fusednorm.unconvert(model, verbose=False)
    assert not model.fusednorm_conversion.left
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(layers.LayerNormalization) == 5
    assert kinds.count(layers.Multiply) == kinds.count(layers.Add) == 5
    assert weighted(model) == order
    assert relative(model(x), before) <= AGREE
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))


def test_a_graph_is_put_back_if_outputs_differ(x):
    model = dit()
    before, kept = model(x), names(model)

    def nodes():
        return {
            each.name: (list(each._inbound_nodes), list(each._outbound_nodes))
            for each in model.operations
        }

    graph = nodes()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="The model is as it was"):
            convert(model, tolerance=-1.0)
        assert (names(model), nodes()) == (kept, graph)
    np.testing.assert_array_equal(model(x), before)
    convert(model)
    converted, kept, graph = model(x), names(model), nodes()
    with pytest.raises(RuntimeError, match="The model is as it was"):
        fusednorm.unconvert(model, tolerance=-1.0, verbose=False)
    assert (names(model), nodes()) == (kept, graph)
    np.testing.assert_array_equal(model(x), converted)


# Ways of writing a scale and an offset after a norm: its output h, and s and b, each of
# the shapes (N, 1, C) and (N, C).
FORMS = {
    "1 + s": lambda h, s, b: h * (1 + s[0]) + b[0],
    "s + 1": lambda h, s, b: h * (s[0] + 1.0) + b[0],
    "the other way round": lambda h, s, b: b[0] + (1 + s[0]) * h,
    "a plain scale": lambda h, s, b: h * s[0] + b[0],
    "no offset": lambda h, s, b: h * (1 + s[0]),
    "functions": lambda h, s, b: ops.add(ops.multiply(h, ops.add(1, s[0])), b[0]),
    "layers": lambda h, s, b: layers.Add()([layers.Multiply()([h, s[0]]), b[0]]),
    "layers that broadcast": lambda h, s, b: layers.Add()(
        [b[1], layers.Multiply()([s[1], h])]
    ),
    "layers with Rescaling": lambda h, s, b: layers.Add()(
        [layers.Multiply()([h, layers.Rescaling(1.0, 1.0)(s[0])]), b[0]]
    ),
    "both": lambda h, s, b: layers.Multiply()([h, 1 + s[0]]) + b[0],
    "one tensor for both": lambda h, s, b: h * (1 + s[0]) + s[0],
}
NORMS = {
    "plain": norm,
    "with weights": lambda: layers.LayerNormalization(gamma_initializer="uniform"),
    "rms": layers.RMSNormalization,
}


def model_of(form, made=norm, after=lambda y: y):
    x, c = inputs()
    scale, shift = ops.split(dense(2 * WIDTH, name="given")(c), 2, -1)
    given = [(ops.expand_dims(each, 1), each) for each in (scale, shift)]
    y = after(form(made()(dense(name="embed")(x)), *given))
    return keras.Model([x, c], dense(3, name="head")(y))


@pytest.mark.parametrize("made", NORMS)
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, made, x):
    model = model_of(FORMS[form], NORMS[made])
    before, order, slopes = model(x), weighted(model), gradients(model, x)
    operations = len(model.operations)
    convert(model)
    (path,) = folded(model)
    only = form == "no offset" or made == "rms"
    adds = 0 if form in ("a plain scale", "layers", "layers that broadcast") else 1
    assert len(model.operations) == operations - (1 if only else 2) - adds
    held = {each.name for each in model._flatten_layers(include_self=False)}
    assert held == set(names(model))
    (layer,) = (each for each in model.layers if each.name == path)
    assert isinstance(layer, fusednorm.layers.base.Normalization)
    assert relative(model(x), before) <= AGREE
    for name, slope in gradients(model, x).items():
        assert relative(slope, slopes[name]) <= AGREE, name
    assert weighted(model) == order
    fusednorm.unconvert(model, verbose=False)
    assert relative(model(x), before) <= AGREE
    assert weighted(model) == order
    reasons = {row.why for row in model.fusednorm_conversion.left}
    # Its Add takes the offset first, and so the order of weights is another one.
    in_order = form != "layers that broadcast" or made == "rms"
    assert ("the model's weights would be in another order" not in reasons) is in_order
    assert in_order is not bool(reasons)


def test_several_norms_share_a_scale(x):
    inner, c = inputs()
    scale = 1 + ops.expand_dims(dense(name="scale")(c), 1)
    y = inner
    for i in range(3):
        y = dense(name=f"dense{i}")(norm(name=f"norm{i}")(y) * scale)
    model = keras.Model([inner, c], y)
    before = model(x)
    assert folded(convert(model)) == ["norm0", "norm1", "norm2"]
    assert relative(model(x), before) <= AGREE
    fusednorm.unconvert(model, verbose=False)
    assert relative(model(x), before) <= AGREE


@pytest.mark.parametrize(
    ("after", "kind"), [(layers.Activation("silu"), "silu"), (layers.ReLU(), "relu")]
)
def test_an_activation_after_them_is_taken_over_too(after, kind, x):
    model = model_of(FORMS["1 + s"], after=type(after).from_config(after.get_config()))
    before = model(x)
    convert(model)
    (path,) = folded(model)
    assert model.get_layer(path).activation == kind
    assert relative(model(x), before) <= AGREE
    fusednorm.unconvert(model, verbose=False)
    assert type(model.get_layer(path)) is layers.LayerNormalization
    assert relative(model(x), before) <= AGREE


def residual_stream(of_sum=False):
    """Returns a model whose norm comes after an Add, and its scale from it or not."""
    x, c = inputs()
    total = layers.Add(name="total")([dense(name="a")(x), dense(name="b")(x)])
    source = ops.mean(total, axis=1) if of_sum else c
    scale = dense(name="scale")(ops.expand_dims(source, 1))
    y = dense(name="out")(norm(name="norm")(total) * (1 + scale))
    return keras.Model([x, c], layers.Add(name="last")([total, y]))


def test_with_a_residual(x):
    model = residual_stream()
    before, order = model(x), weighted(model)
    assert folded(convert(model)) == ["norm"]
    assert "total" not in names(model)
    assert relative(model(x), before) <= AGREE
    assert types_of(model, x).count("Fusednorm>LayerNorm") == 1
    fusednorm.unconvert(model, verbose=False)
    assert not model.fusednorm_conversion.left
    assert type(model.get_layer("norm")) is layers.LayerNormalization
    assert relative(model(x), before) <= AGREE
    assert weighted(model) == order


def test_a_scale_that_depends_on_the_sum_stays(x):
    model = residual_stream(of_sum=True)
    before = model(x)
    convert(model)
    # The norm can give the sum, and then it cannot wait for what is made of that.
    assert "total" not in names(model)
    assert not folded(model)
    assert not model.fusednorm_conversion.left
    assert relative(model(x), before) <= AGREE


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_policies(policy, x):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = dit(1)
    finally:
        keras.config.set_dtype_policy(before)
    expected = model(x)
    assert len(folded(convert(model))) == 3
    y = model(x)
    assert y.dtype == expected.dtype
    # Half of the digits, as `convert` allows for a model.
    unit = {"mixed_float16": 2.0**-11, "mixed_bfloat16": 2.0**-8}.get(policy, 2.0**-53)
    assert relative(*(tf.cast(each, tf.float64) for each in (y, expected))) <= (
        4 * unit**0.5
    )


def kept():
    """Yields models whose scale has to stay, by what is in the way."""

    def model(form, **options):
        return model_of(form, **options)

    def repeated(s):
        return ops.repeat(s[0], TOKENS, axis=1)

    yield "of each position", model(lambda h, s, b: h * (1 + repeated(s)) + b[0])
    yield "of all channels", model(lambda h, s, b: h * (1 + s[0][..., :1]))
    yield "a number", model(lambda h, s, b: h * 2.0 + b[0])
    yield "an offset alone", model(lambda h, s, b: h + b[0])
    yield "taken twice", model(lambda h, s, b: h * (1 + s[0]) + h)
    yield "its square", model(lambda h, s, b: h * h)
    yield (
        "a regularizer",
        model(
            lambda h, s, b: layers.Multiply(activity_regularizer="l2")([h, s[0]]),
        ),
    )
    yield (
        "an activation before",
        model(lambda h, s, b: layers.ReLU()(h) * (1 + s[0]) + b[0]),
    )
    yield (
        "an activation in the norm",
        model(
            lambda h, s, b: h * (1 + s[0]) + b[0],
            made=lambda: fusednorm.LayerNormalization(activation="relu"),
        ),
    )
    yield "three factors", model(lambda h, s, b: layers.Multiply()([h, s[0], b[0]]))
    yield (
        "a mask",
        model(
            lambda h, s, b: h * (1 + s[0]),
            made=lambda: lambda y: norm()(layers.Masking()(y)),
        ),
    )
    yield (
        "another dtype",
        model(lambda h, s, b: h * ops.cast(s[0], "float64")),
    )
    x, c = inputs()
    scale = ops.expand_dims(dense()(c), 1)
    h = norm()(x)
    yield "the norm is an output", keras.Model([x, c], [h, dense()(h * scale)])
    yield "the product is an output", keras.Model([x, c], norm()(x) * scale)
    shared = norm()
    y = shared(dense()(x)) * scale + ops.sin(shared(x))
    yield "a shared norm", keras.Model([x, c], dense()(y))
    multiply = layers.Multiply()
    y = multiply([norm()(x), scale]) + multiply([x, scale])
    yield "a shared product", keras.Model([x, c], dense()(y))
    y = norm(axis=1)(x) * scale
    yield "another axis", keras.Model([x, c], dense()(y))


def test_what_has_to_stay_stays(x):
    for name, model in kept():
        before = keras.tree.flatten(model(x))
        convert(model)
        assert not folded(model), name
        assert not model.fusednorm_conversion.left, name
        after = keras.tree.flatten(model(x))
        assert all(map(lambda *pair: relative(*pair) <= AGREE, after, before)), name


def test_a_product_that_is_no_output_goes_where_the_sum_is_one(x):
    inner, c = inputs()
    scale = ops.expand_dims(dense()(c), 1)
    model = keras.Model([inner, c], norm(name="norm")(inner) * scale + scale)
    before, outputs = model(x), model.output_names
    assert folded(convert(model)) == ["norm"]
    assert model.output_names == outputs
    assert relative(model(x), before) <= AGREE


def test_the_order_of_weights_stays(x):
    inner, c = inputs()
    # Unlike the scale, the offset is not needed before what the norm takes.
    scale, shift = (ops.expand_dims(dense(name=name)(c), 1) for name in ("a", "b"))
    h = norm(name="norm")(dense(name="embed")(inner))
    model = keras.Model([inner, c], dense(name="out")(h * (1 + scale) + shift))
    before, order = model(x), weighted(model)
    assert order == ["a", "embed", "b", "out"]
    convert(model)
    (row,) = (each for each in model.fusednorm_conversion.replaced[1:])
    assert "and beta" not in row.after
    assert not model.fusednorm_conversion.left
    assert weighted(model) == order
    assert relative(model(x), before) <= AGREE
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))


def test_a_scale_stays_that_would_change_the_order_of_weights(x):
    inner, c = inputs()
    # What makes the scale comes after what the norm takes.
    h = norm(name="norm")(dense(name="embed")(inner))
    scale = ops.expand_dims(dense(name="scale")(c), 1)
    model = keras.Model([inner, c], dense(name="out")(h * scale))
    before, order = model(x), weighted(model)
    convert(model)
    assert not folded(model)
    (row,) = model.fusednorm_conversion.left
    assert row.why == "the model's weights would be in another order"
    assert weighted(model) == order
    assert relative(model(x), before) <= AGREE


def test_unconvert_leaves_what_it_cannot_take_apart(x):
    inner, c = inputs()
    layer = fusednorm.LayerNormalization(name="norm", activation="silu")
    model = keras.Model([inner, c], dense()(layer(inner, gamma=c, beta=c)))
    before = model(x)
    fusednorm.unconvert(model, verbose=False)
    (row,) = model.fusednorm_conversion.left
    assert (row.path, row.why) == ("norm", "is called with a scale or an offset")
    np.testing.assert_array_equal(model(x), before)
