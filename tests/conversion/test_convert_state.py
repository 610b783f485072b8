"""`fusednorm.convert` leaves no trace of having called a model, nor of an error."""

import random
from collections import OrderedDict

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import compare, graph_change, report
from fusednorm.layers.base import Normalization

layers = keras.layers
keras_3_only = pytest.mark.skipif(LEGACY, reason="of Keras 3")
SHAPE = (6, 8)


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, *SHAPE), np.float32)


class Counting(layers.Layer):
    """Remembers its calls, in every way in which layers do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls, self.sizes = 0, []
        self.seen, self.last, self.held = {0}, {0: "call"}, [None]
        self.order = OrderedDict()
        self.totals = np.zeros(2)
        self.raw = tf.Variable(0.0, trainable=False)

    def build(self, shape):
        self.count = self.add_weight(
            name="count", shape=(), initializer="zeros", trainable=False
        )
        super().build(shape)

    def call(self, x):
        self.calls += 1
        self.sizes.append(x.shape[-1])
        # As many as before, and the last one's value is the same.
        self.seen.clear()
        self.seen.add(self.calls)
        self.last.clear()
        self.last[self.calls] = "call"
        self.held[0] = x
        self.order[self.calls] = "call"
        self.totals += 1
        self.latest = x
        self.count.assign(self.count + 1)
        self.raw.assign_add(1.0)
        return x


class AlwaysDropping(layers.Dropout):
    def call(self, x):
        return super().call(x, training=True)


def model_of(*given):
    inputs = y = keras.Input(SHAPE)
    for layer in given:
        y = layer(y)
    return keras.Model(inputs, y)


def with_state(*more):
    inputs = keras.Input(SHAPE)
    y = layers.BatchNormalization()(inputs, training=True)
    y = Counting(name="counting")(y)
    for layer in more:
        y = layer(y)
    return keras.Model(inputs, layers.Dense(8, activity_regularizer="l2")(y))


def variables(model):
    return [np.asarray(each) for each in (*model.variables, *raw(model))]


def raw(model):
    return [each.raw for each in model.layers if isinstance(each, Counting)]


def python_state(model):
    state = {}
    for layer in model.layers:
        for name, value in vars(layer).items():
            plain = isinstance(value, int | str | bool | float)
            base = next((b for b in (list, dict, set) if isinstance(value, b)), None)
            kept = base(value) if base else value
            # TensorFlow's lists and dicts, which tf_keras has, are left as they are.
            of_keras_3 = () if LEGACY else ("sizes", "last", "order", "_losses")
            if plain or name in ("seen", *of_keras_3):
                state[layer.name, name] = kept
    return state


def assert_same(now, before):
    for a, b in zip(now, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("verb", [fusednorm.convert, fusednorm.unconvert])
@pytest.mark.parametrize("given", [False, True])
def test_calls_for_the_comparison_leave_no_trace(verb, given, x):
    ours = fusednorm if verb is fusednorm.unconvert else layers
    model = with_state(ours.LayerNormalization(name="norm"))
    model(x)
    counting = model.get_layer("counting")
    before, totals = variables(model), counting.totals.copy()
    count = float(np.asarray(counting.count))
    state, latest = python_state(model), counting.latest
    verb(model, inputs=x if given else None, verbose=False)
    assert model.fusednorm_conversion.difference is not None
    assert len(model.fusednorm_conversion.replaced) == 1
    assert_same(variables(model), before)
    np.testing.assert_array_equal(counting.totals, totals)
    assert counting.latest is latest
    assert LEGACY or counting.held[0] is latest
    after = python_state(model)
    others = {key: each for key, each in state.items() if key[0] != "norm"}
    assert {key: after[key] for key in others} == others
    # And it counts on.
    model(x)
    assert float(np.asarray(counting.count)) == count + 1
    assert counting.calls == state["counting", "calls"] + 1


def test_building_a_model_leaves_the_variables_of_built_layers(x):
    counting = Counting()
    counting(x)
    before = [np.asarray(each) for each in (*counting.variables, counting.raw)]
    model = keras.Sequential([counting, layers.LayerNormalization()])
    fusednorm.convert(model, inputs=x, verbose=False)
    assert len(model.fusednorm_conversion.replaced) == 1
    assert_same([*counting.variables, counting.raw], before)


@keras_3_only
def test_random_numbers_are_drawn_as_if_nothing_had_been(x):
    drawn = []
    for change_it in (lambda model, **_: model, fusednorm.convert):
        keras.utils.set_random_seed(3)
        model = model_of(
            layers.LayerNormalization(gamma_initializer="random_normal"),
            AlwaysDropping(0.5),
        )
        change_it(model, verbose=False)
        noise = keras.random.normal((3,))
        drawn.append((model(x) == 0, noise, random.random(), np.random.rand()))
    for ours, theirs in zip(*drawn, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nothing_to_replace_means_no_call(x):
    model = with_state()
    calls = model.get_layer("counting").calls
    before = variables(model)
    traces = model.predict_function = lambda data: data
    fusednorm.convert(model, inputs=x, verbose=False)
    report = model.fusednorm_conversion
    assert report.difference is None
    assert report.outputs.endswith("were not compared: nothing was replaced")
    assert_same(variables(model), before)
    assert model.get_layer("counting").calls == calls
    assert model.predict_function is traces


@keras_3_only
def test_losses_of_single_layers_are_not_left_behind(x):
    model = model_of(
        layers.LayerNormalization(activity_regularizer="l2"), layers.Dense(8)
    )
    model(x)
    before = [float(each) for each in model.losses]
    fusednorm.convert(model, verbose=False)
    assert [float(each) for each in model.losses] == before


# ---------------------------------------------------------------- errors


def snapshot(model):
    return [(type(each), dict(vars(each))) for each in model._flatten_layers()]


@keras_3_only
@pytest.mark.parametrize("where", ["fuse", "_fold", "to_ours"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_the_model_as_it_was(
    where, error, x, monkeypatch
):
    inputs = keras.Input(SHAPE)
    y = inputs
    for _ in range(2):
        y = layers.Add()([y, layers.Dense(8)(y)])
        y = layers.ReLU()(layers.LayerNormalization()(y))
    model = keras.Model(inputs, y)
    before, weights, kept = model(x), variables(model), snapshot(model)
    done = getattr(graph_change.GraphChange, where)
    calls = []

    def fail_at_the_second(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise error
        return done(self, *args)

    monkeypatch.setattr(graph_change.GraphChange, where, fail_at_the_second)
    with pytest.raises(error):
        fusednorm.convert(model, fuse=True, verbose=False)
    assert len(calls) == 2
    assert_same(variables(model), weights)
    for (cls, now), (was, then) in zip(snapshot(model), kept, strict=True):
        assert cls is was
        assert now.keys() == then.keys()
        assert [name for name in now if now[name] is not then[name]] == []
    np.testing.assert_array_equal(model(x), before)


# ---------------------------------------------------------------- what is compared


def test_compare_false_calls_no_model(x):
    model = with_state(layers.LayerNormalization())
    calls = model.get_layer("counting").calls
    fusednorm.convert(model, compare=False, inputs=x, tolerance=-1.0, verbose=False)
    assert model.get_layer("counting").calls == calls
    report = model.fusednorm_conversion
    assert len(report.replaced) == 1
    assert report.outputs == "The model's outputs were not compared: compare=False"
    fusednorm.unconvert(model, compare=False, verbose=False)
    assert model.get_layer("counting").calls == calls


def test_large_inputs_are_compared_in_part(monkeypatch):
    inputs = keras.Input((96, 96, 8))
    norm = layers.GroupNormalization(4)
    model = keras.Model(inputs, norm(inputs))
    monkeypatch.setattr(compare, "_MOST", 100_000)
    assert tuple(compare.layer_input(norm).shape) == (1, 96, 96, 8)
    rows = layers.LayerNormalization()
    rows.build((None, 96, 96, 8))
    assert tuple(compare.layer_input(rows).shape) == (1, 5, 5, 8)
    fusednorm.convert(model, verbose=False)
    assert model.fusednorm_conversion.outputs.endswith(
        "(relative), for input of shape (1, 96, 96, 8)"
    )
    assert tuple(compare.model_input(model).shape) == (1, 96, 96, 8)
    free = keras.Input((None, None, None, 8))
    model = keras.Model(free, layers.LayerNormalization()(free))
    assert tuple(compare.model_input(model).shape) == (1, 16, 16, 16, 8)


def test_differences_are_found_in_every_part(monkeypatch):
    monkeypatch.setattr(compare, "_CHUNK", 10)
    before = np.linspace(-2, 1, 33, dtype=np.float32).reshape(3, 11)
    for at in ((0, 0), (1, 5), (2, 10)):
        after = before.copy()
        after[at] += 1
        assert compare.difference([after], [before]) == pytest.approx(0.5)
        after[at] = np.nan
        assert compare.difference([after], [before]) == float("inf")
        assert compare.difference([after], [after]) == 0


def test_says_what_kept_a_model_from_being_compared():
    class Picky(layers.Layer):
        def compute_output_shape(self, shape):
            return shape

        def call(self, x):
            if tf.executing_eagerly():
                raise ValueError("wants a\nschedule first")
            return x

    inputs = keras.Input(SHAPE)
    y = layers.LayerNormalization()(inputs)
    model = fusednorm.convert(keras.Model(inputs, Picky()(y)), verbose=False)
    outputs = model.fusednorm_conversion.outputs
    assert "wants a schedule first" in outputs
    for noise in ("\n", "\x1b", "rguments received", "Exception encountered"):
        assert noise not in outputs


def test_an_error_is_one_line_of_the_table():
    said = report.first_line(ValueError("wants a schedule\nas of today"))
    assert said == "wants a schedule"
    of_keras = "Exception encountered when calling Picky.call().\n\n\x1b[1mwants\na\x1b"
    of_keras += "[0m\n\nArguments received by Picky.call():\n  x"
    assert report.first_line(ValueError(of_keras)) == "wants a"


def test_preprocessing_is_no_norm():
    model = model_of(layers.Normalization(mean=1.0, variance=2.0))
    fusednorm.convert(model, verbose=False)
    assert model.fusednorm_conversion.rows == ()


# ---------------------------------------------------------------- regularizers


@pytest.mark.parametrize("kind", ["Group", "Layer", "RMS"])
def test_unconvert_takes_activity_regularizers_along(kind, x):
    name = f"{kind}Normalization"
    if not hasattr(layers, name):
        pytest.skip(f"tf_keras has no {name}")
    options = {"groups": 4} if kind == "Group" else {}
    norm = getattr(fusednorm, name)(activity_regularizer="l2", **options)
    model = model_of(norm)
    model(x)
    (before,) = model.losses
    fusednorm.unconvert(model, verbose=False)
    assert type(norm) is getattr(layers, name)
    model(x)
    (after,) = model.losses
    np.testing.assert_allclose(after, before, rtol=1e-5)


# ---------------------------------------------------------------- integers


NORMS = ["group", "layer", "rms"]


def norm(kind):
    options = {"gamma_initializer": keras.initializers.Constant(3.0)}
    if kind == "group":
        return layers.GroupNormalization(4, **options)
    if kind == "rms":
        return layers.RMSNormalization()
    return layers.LayerNormalization(**options)


@keras_3_only
@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_of_integers_in_a_graph_stays(kind, rng):
    x = rng.integers(-9, 9, (4, *SHAPE), np.int32)
    inputs = keras.Input(SHAPE, dtype="int32")
    model = keras.Model(inputs, norm(kind)(inputs))
    before = model(x)
    fusednorm.convert(model, fuse=True, verbose=False)
    (row,) = model.fusednorm_conversion.left
    assert row.why == "is called with int32, which ours refuses"
    np.testing.assert_array_equal(model(x), before)


@keras_3_only
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_of_integers_in_code_gives_what_it_gave(kind, dtype, rng):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = norm(kind)

        def call(self, x):
            return self.norm(x)

    x = tf.cast(rng.integers(0, 9, (4, *SHAPE)), dtype)
    model = Model()
    floats = model(tf.cast(x, tf.float32))
    before = model(x)
    fusednorm.convert(model, verbose=False)
    assert isinstance(model.norm, Normalization)
    for y in (model(x), tf.function(model)(x), model.predict(x, verbose=0)):
        assert y.dtype == before.dtype
        np.testing.assert_array_equal(y, before)
    np.testing.assert_allclose(model(tf.cast(x, tf.float32)), floats, atol=1e-5)
    fusednorm.unconvert(model, verbose=False)
    np.testing.assert_array_equal(model(x), before)
    # Layers that replace none refuse them.
    with pytest.raises(ValueError, match="floating-point dtype"):
        fusednorm.LayerNormalization()(x)


def test_who_is_right_where_sums_are_long(capsys):
    # Keras adds up half a million numbers one after the other, in float32.
    model = keras.Sequential(
        [keras.Input((48, 48, 48, 8)), layers.GroupNormalization(4, name="norm")]
    )
    norm = model.layers[-1]
    fusednorm.convert(model)
    (row,) = model.fusednorm_conversion.rows
    assert row.after == "fusednorm.GroupNormalization"
    assert row.why.startswith("Keras's layer is off by ")
    assert row.difference > 64 * 2.0**-24
    assert "Keras's layer is off by" in capsys.readouterr().out
    fusednorm.unconvert(model, verbose=False)
    assert type(norm) is layers.GroupNormalization
    (row,) = model.fusednorm_conversion.rows
    assert row.why.startswith("Keras's layer is off by ")


def test_long_sums_hide_no_other_formula(monkeypatch):
    model = keras.Sequential(
        [keras.Input((48, 48, 48, 8)), layers.GroupNormalization(4, name="norm")]
    )
    norm = model.layers[-1]
    call = fusednorm.GroupNormalization.call
    monkeypatch.setattr(
        fusednorm.GroupNormalization,
        "call",
        # As much as Keras's is off, or twice.
        lambda self, x: call(self, x) * (1 + 2.0**-14),
    )
    fusednorm.convert(model, verbose=False)
    assert type(norm) is layers.GroupNormalization
    (row,) = model.fusednorm_conversion.rows
    assert "outputs would differ by" in row.why
