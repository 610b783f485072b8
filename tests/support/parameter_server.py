"""A cluster of a parameter server and a worker that trains a norm's weights.

Run by tests/modes/test_strategies.py in a process of its own: it starts servers in it.
"""

import sys
from pathlib import Path

import fusednorm
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from local_cluster import free_ports

STEPS = 3


def step(gamma, beta, x, dy):
    with tf.GradientTape() as tape:
        y = fusednorm.group_norm(x, gamma, beta, groups=2, activation="silu")
    for variable, gradient in zip(
        (gamma, beta), tape.gradient(y, [gamma, beta], dy), strict=True
    ):
        variable.assign_sub(0.1 * gradient)
    return y


def main():
    rng = np.random.default_rng(1)
    x, dy = (tf.constant(rng.normal(size=(4, 9, 8)), tf.float32) for _ in range(2))
    alone = [tf.Variable(tf.ones(8)), tf.Variable(tf.zeros(8))]
    for _ in range(STEPS):
        y = step(*alone, x, dy)
    # As arrays: what TensorFlow holds is lost when it joins a cluster.
    expected = [each.numpy() for each in (y, *alone)]
    x, dy = x.numpy(), dy.numpy()

    names = ("worker", "ps")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(names))]
    cluster = tf.train.ClusterSpec(
        {name: [address] for name, address in zip(names, addresses, strict=True)}
    )
    servers = [tf.distribute.Server(cluster, name, 0) for name in names]
    strategy = tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
    )
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        weights = [tf.Variable(tf.ones(8)), tf.Variable(tf.zeros(8))]
    placed = [weight.device for weight in weights]
    on_worker = tf.function(lambda: step(*weights, x, dy))
    for _ in range(STEPS):
        y = coordinator.schedule(on_worker)
        coordinator.join()
    got = [y.fetch(), *(weight.numpy() for weight in weights)]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    print(len(servers), "servers; weights on", *placed)


if __name__ == "__main__":
    main()
