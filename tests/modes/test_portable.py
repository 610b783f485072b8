"""`fusednorm.portable`: which ops a call or a trace takes, and what stays as it was.

That the plain ops compute the same is tests/ops/test_composition.py.
"""

import threading

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from support.layer_cases import LAYERS, every_layer

FUNCTIONS = {
    "group": lambda x: fusednorm.group_norm(x, groups=2),
    "instance": fusednorm.instance_norm,
    "layer": fusednorm.layer_norm,
    "layer, transposed": lambda x: fusednorm.layer_norm(x, axis=[0, 2]),
    "rms": fusednorm.rms_norm,
}
every_function = pytest.mark.parametrize("norm", FUNCTIONS.values(), ids=FUNCTIONS)
SPEC = tf.TensorSpec([None, None, 8], tf.float32)


def is_fused(function):
    """Returns whether our ops are in what a function, traced now, consists of."""
    graph = tf.function(function).get_concrete_function(SPEC).graph
    return any(op.type.startswith("Fusednorm>") for op in graph.get_operations())


@every_function
def test_functions_trace_to_plain_ops_within(norm):
    with fusednorm.portable():
        assert not is_fused(norm)
    assert is_fused(norm)


@every_layer
def test_layers_trace_to_plain_ops_within(kind):
    layer = LAYERS[kind]()
    layer.build((None, None, 8))
    with fusednorm.portable():
        assert not is_fused(layer)
    assert is_fused(layer)


def test_nests_and_ends_with_an_exception():
    with fusednorm.portable():
        with pytest.raises(KeyError), fusednorm.portable():
            raise KeyError
        assert not is_fused(fusednorm.rms_norm)
    assert is_fused(fusednorm.rms_norm)


def test_is_a_decorator_and_works_inside_a_traced_function():
    assert not is_fused(fusednorm.portable()(lambda x: fusednorm.rms_norm(x)))

    def partly(x):
        with fusednorm.portable():
            y = fusednorm.rms_norm(x)
        return fusednorm.layer_norm(y)

    graph = tf.function(partly).get_concrete_function(SPEC).graph
    ours = [op.type for op in graph.get_operations() if op.type.startswith("Fused")]
    assert ours == ["Fusednorm>LayerNorm"]


def test_holds_in_its_own_thread_only():
    seen = []
    with fusednorm.portable():
        thread = threading.Thread(
            target=lambda: seen.append(is_fused(fusednorm.rms_norm))
        )
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_traced_function_stays_what_it_is():
    fused, plain = (tf.function(fusednorm.rms_norm) for _ in range(2))
    before = fused.get_concrete_function(SPEC)
    with fusednorm.portable():
        assert fused.get_concrete_function(SPEC) is before
        within = plain.get_concrete_function(SPEC)
    assert plain.get_concrete_function(SPEC) is within


def test_second_derivatives_exist_within(rng):
    x = tf.constant(rng.normal(size=(3, 8)))
    with fusednorm.portable(), tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(fusednorm.rms_norm(x) ** 3)
        penalty = tf.reduce_sum(inner.gradient(y, x) ** 2)
    assert np.abs(outer.gradient(penalty, x)).max() > 0


# ---------------------------------------------------------------- one layer


@every_layer
def test_a_layer_can_be_portable_by_itself(kind):
    layer = LAYERS[kind](portable=True)
    layer.build((None, None, 8))
    assert not is_fused(layer)
    layer.portable = False
    assert is_fused(layer)


def test_rms_scaling_is_portable_too():
    with pytest.warns(UserWarning, match="rms_scaling"):
        layer = fusednorm.LayerNormalization(rms_scaling=True, portable=True)
    layer.build((None, None, 8))
    assert not is_fused(layer)


@every_layer
def test_portable_is_in_the_config_only_if_set(kind):
    layer = LAYERS[kind]()
    assert "portable" not in layer.get_config()
    layer.portable = True
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert restored.portable is True
