"""What test_strategies.py runs in a process with two logical CPU devices."""

import sys
from pathlib import Path

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from fusednorm._doctor import cases
from fusednorm.bench.competitors.base import Competitor

from support import bounds, reference
from support.layer_cases import (
    LAYERS,
    built,
    data,
    every_layer,
    norm_of,
    share_of_bound,
)
from support.small_model import CLASSES, INPUT_SHAPE, compiled, fit, small_model

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from digits import allowed_gap, nudged

UNIT = bounds.FLOAT32


@pytest.fixture(scope="module", autouse=True)
def two_devices():
    [cpu] = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)


@pytest.fixture(scope="module")
def strategy(two_devices):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy


def parts(strategy, value):
    """Returns what each replica has of a value."""
    return [np.asarray(each) for each in strategy.experimental_local_results(value)]


# The batches of a dataset of 9 in batches of 4: the last has one sample for two
# replicas.
BATCH = 4
SAMPLES = 9


@pytest.mark.parametrize("mode", ["eager", "graph"])
@every_layer
def test_losses_and_gradients_are_those_of_one_device(kind, mode, strategy, rng):
    """Each replica's results hold the bounds of the whole batch.

    Those are sums over samples; adding up the replicas' gradients adds one rounding.
    """
    x, dy = data(rng, (SAMPLES, 5, 8)), data(rng, (SAMPLES, 5, 8))
    with strategy.scope():
        layer = built(LAYERS[kind](activation="silu"), x.shape, rng)

    def replica(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y * dy)
        return y, loss, *tape.gradient(loss, [x, *layer.trainable_weights])

    def step(x, dy):
        y, loss, dx, *parameters = strategy.run(replica, (x, dy))
        sums = [strategy.reduce("SUM", each, None) for each in (loss, *parameters)]
        return y, dx, sums

    run = tf.function(step) if mode == "graph" else step
    dataset = tf.data.Dataset.from_tensor_slices((x, dy)).batch(BATCH)
    norm = norm_of(layer)
    sizes = []
    for index, batch in enumerate(strategy.experimental_distribute_dataset(dataset)):
        y, dx, (loss, *parameters) = run(*batch)
        sizes.append([len(part) for part in parts(strategy, y)])
        rows = slice(index * BATCH, (index + 1) * BATCH)
        of = reference.forward(norm, x[rows], *layer.get_weights())
        exact = reference.backward(norm, of, dy[rows])
        limits = bounds.backward(norm, of, exact, dy[rows], np.float32)
        limit_y = bounds.forward(norm, of, np.float32)
        products = np.abs(of.y * dy[rows])
        limit_loss = np.sum(limit_y * np.abs(dy[rows]))
        limit_loss += UNIT * np.sqrt(products.size) * 2 * np.sum(products)
        results = [
            (np.concatenate(parts(strategy, y)), of.y, limit_y),
            (np.concatenate(parts(strategy, dx)), exact.dx, limits[0]),
            (loss, np.sum(of.y * dy[rows]), limit_loss),
        ]
        for got, wanted, limit in zip(
            parameters, (exact.dgamma, exact.dbeta), limits[1:], strict=False
        ):
            results.append((got, wanted, limit + UNIT * np.abs(wanted)))
        ratios = [bounds.relative_to(limit, got, want) for got, want, limit in results]
        print("error / bound:", ratios)
        assert len(ratios) == 3 + len(layer.trainable_weights)
        assert max(ratios) <= 1
    assert sizes == [[2, 2], [2, 2], [1, 0]]


@every_layer
def test_replicas_share_the_weights_of_a_layer(kind, strategy, rng):
    with strategy.scope():
        layer = built(LAYERS[kind](), (None, 8), rng)
    assert len(layer.weights) == (1 if kind == "rms" else 2)
    for weight in layer.weights:
        first, second = parts(strategy, weight.value)
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.float32


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_running_statistics_are_the_mean_over_replicas(mode, strategy, rng):
    x = data(rng, (SAMPLES, 5, 8))
    with strategy.scope():
        layer = fusednorm.InstanceNormalization(
            track_running_stats=True, update_rate=0.5
        )
        layer.build(x.shape)

    def step(x):
        return strategy.run(lambda each: layer(each, training=True), (x,))

    run = tf.function(step) if mode == "graph" else step
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)
    mean, variance = np.zeros(8), np.ones(8)
    for index, batch in enumerate(strategy.experimental_distribute_dataset(dataset)):
        run(batch)
        rows = x[index * BATCH : (index + 1) * BATCH].astype(np.float64)
        # The last sample is one replica's alone; what the other has stays.
        share = 0.5 if len(rows) == BATCH else 0.25
        mean += share * (rows.mean(1).mean(0) - mean)
        variance += share * (rows.var(1, ddof=1).mean(0) - variance)
    for weight, expected in ((layer.running_mean, mean), (layer.running_var, variance)):
        first, second = parts(strategy, weight.value)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, expected, rtol=0, atol=3 * 12 * 4 * UNIT)


def trained(strategy, weights, x, labels):
    with strategy.scope():
        model = compiled(small_model(), weights, keras.optimizers.SGD(0.1))
    return model, fit(model, x, labels, batch_size=8)


def test_fit_predict_and_save(strategy, rng, tmp_path):
    x = data(rng, (64, *INPUT_SHAPE))
    labels = rng.integers(0, CLASSES, 64)
    alone = tf.distribute.get_strategy()
    start = small_model().get_weights()
    _, reference_losses = trained(alone, start, x, labels)
    _, strayed = trained(alone, nudged(start), x, labels)
    model, losses = trained(strategy, start, x, labels)
    gap = np.abs(losses - reference_losses)
    print("gap:", gap, "allowed:", allowed_gap(reference_losses, strayed))
    assert len(gap) == 8
    assert np.all(gap <= allowed_gap(reference_losses, strayed))
    for weight, before in zip(model.weights, start, strict=True):
        first, second = parts(strategy, weight.value)
        np.testing.assert_array_equal(first, second)
        assert np.any(first != before)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    # An odd number of samples.
    predicted = model.predict(x[:7], batch_size=4, verbose=0)
    expected = loaded.predict(x[:7], batch_size=4, verbose=0)
    # Matrix products of 2 rows may round otherwise than those of 4: sums of up to 36
    # terms in seven layers, on numbers below 4.
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=7 * 36 * 4 * UNIT)


def test_the_doctor_checks_ops_in_their_place():
    """Also where TensorFlow would choose another device, as it does with a GPU."""
    made = Competitor("", None, lambda i: tf.zeros([2]) + 1, outputs=lambda y: y.device)
    for place in ("/CPU:0", "/CPU:1"):
        assert cases.outputs_of(made, place).endswith(place[1:])


def test_ops_on_a_device_by_name(rng):
    x = data(rng, (4, 8))
    results = []
    for device in ("CPU:0", "CPU:1"):
        with tf.device(device):
            y = fusednorm.layer_norm(x)
        assert y.device.endswith(device)
        results.append(y.numpy())
    np.testing.assert_array_equal(*results)
    layer = fusednorm.LayerNormalization()
    assert share_of_bound(built(layer, x.shape, rng), x, layer(x)) <= 1
