"""The model of train_distributed.py, its strategies, and how it trains under them."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable

import fusednorm
import keras
import numpy as np
import tensorflow as tf
from digits import SEED, allowed_gap, batches, load_data, nudged
from keras import layers


def one() -> tf.distribute.Strategy:
    """Returns the strategy of a single device."""
    return tf.distribute.OneDeviceStrategy("GPU:0" if gpus() else "CPU:0")


def mirrored() -> tf.distribute.Strategy:
    """Returns a strategy over all GPUs, or over two logical CPU devices."""
    if gpus():
        return tf.distribute.MirroredStrategy()
    [cpu] = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def multiworker() -> tf.distribute.Strategy:
    """Returns a strategy over the workers of `TF_CONFIG`, this process being one.

    Workers on one machine take one GPU each. NCCL refuses two on the same GPU, so
    where there are fewer, all use their CPUs.
    """
    config = json.loads(os.environ["TF_CONFIG"])
    hosts = [address.split(":")[0] for address in config["cluster"]["worker"]]
    index = config["task"]["index"]
    neighbours = [i for i, host in enumerate(hosts) if host == hosts[index]]
    if len(neighbours) > 1:
        enough = len(gpus()) >= len(neighbours)
        own = [gpus()[neighbours.index(index)]] if enough else []
        tf.config.set_visible_devices(own, "GPU")
    return tf.distribute.MultiWorkerMirroredStrategy()


STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    each.__name__: each for each in (one, mirrored, multiworker)
}


def gpus() -> list[tf.config.PhysicalDevice]:
    """Returns the GPUs that this process may use."""
    return tf.config.get_visible_devices("GPU")


def make_model() -> keras.Model:
    """Returns a small network with every norm, on images of 28x28."""
    image = keras.Input((28, 28))
    x = layers.Reshape((28, 28, 1))(image)
    x = layers.Conv2D(16, 3, strides=2)(x)
    x = fusednorm.GroupNormalization(groups=4, activation="silu")(x)
    x = layers.Conv2D(32, 3, strides=2)(x)
    x = fusednorm.InstanceNormalization(activation="gelu")(x)
    x = layers.Reshape((36, 32))(x)
    normed = fusednorm.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 16)(normed, normed)
    normed = fusednorm.RMSNormalization()(x)
    x = x + layers.Dense(32)(layers.Dense(64, activation="silu")(normed))
    x = layers.GlobalAveragePooling1D()(fusednorm.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(10)(x))


def train(
    strategy: tf.distribute.Strategy,
    weights: list[np.ndarray],
    data: tf.data.Dataset,
    size: int,
) -> np.ndarray:
    """Trains the model on batches of `size`, and returns the loss of every step."""
    with strategy.scope():
        model = make_model()
        model.set_weights(weights)
        # Not Adam, whose steps do not depend on the size of the gradients: a sum over
        # the replicas in place of a mean would not show.
        optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
        optimizer.build(model.trainable_variables)

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            guesses = model(images, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(
                labels, guesses, from_logits=True
            )
            # This replica's share of the mean over the whole batch.
            loss = tf.reduce_sum(losses) / size
        gradients = tape.gradient(loss, model.trainable_variables)
        # Sums the gradients over the replicas first.
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        losses = strategy.run(replica_step, (images, labels))
        return strategy.reduce("SUM", losses, axis=None)

    distributed = strategy.experimental_distribute_dataset(data)
    return np.array([float(step(*batch)) for batch in distributed])


def make_dataset(size: int, steps: int) -> tf.data.Dataset:
    """Returns the batches of the digits, cut by samples for the replicas."""
    train, _ = load_data("digits")
    if size > len(train[0]):
        sys.exit(f"--batch-size is more than the {len(train[0])} training images")
    epochs = -(-steps // (len(train[0]) // size))
    chosen = itertools.islice(batches(*train, size, epochs), steps)
    joined = tuple(tf.concat(parts, axis=0) for parts in zip(*chosen, strict=True))
    options = tf.data.Options()
    sharding = options.experimental_distribute
    sharding.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices(joined).batch(size).with_options(options)


def compare(name: str, options: argparse.Namespace) -> int:
    """Trains under the strategy and alone, and returns the exit code."""
    strategy = STRATEGIES[name]()  # Before anything runs: it sets up the devices.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.utils.set_random_seed(SEED)
    weights = make_model().get_weights()
    data = make_dataset(options.batch_size, options.steps)

    alone = tf.distribute.get_strategy()
    reference, strayed = (
        train(alone, start, data, options.batch_size)
        for start in (weights, nudged(weights))
    )
    # Last, so that the workers of a cluster are done at the same time.
    losses = train(strategy, weights, data, options.batch_size)

    gap, allowed = np.abs(losses - reference), allowed_gap(reference, strayed)
    print(f"{name}, {strategy.num_replicas_in_sync} replicas\n")
    print(table(name, losses, reference, gap, allowed))
    worst = int(np.argmax(gap / allowed))
    print(
        f"\nlargest difference {gap.max():.1e}; nearest to what is allowed in step "
        f"{worst + 1}: {gap[worst]:.1e} of {allowed[worst]:.1e}",
        flush=True,
    )
    # Written so that NaN counts as a failure.
    excess = np.flatnonzero(~(gap <= allowed))
    if not excess.size:
        return 0
    first = int(excess[0])
    print(
        f"FAILED: at step {first + 1} the losses differ by {gap[first]:.2e}, and sums "
        f"in another order explain {allowed[first]:.2e}",
        file=sys.stderr,
    )
    return 1


def table(
    name: str,
    losses: np.ndarray,
    reference: np.ndarray,
    gap: np.ndarray,
    allowed: np.ndarray,
) -> str:
    """Returns the losses side by side."""
    rows = [f"step  {name:>12}  {'one device':>12}  difference  allowed"]
    for index, each in enumerate(zip(losses, reference, gap, allowed, strict=True)):
        rows.append(
            "{:>4}  {:12.7f}  {:12.7f}  {:10.1e}  {:7.1e}".format(index + 1, *each)
        )
    return "\n".join(rows)
