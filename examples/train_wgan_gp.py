"""Trains a WGAN-GP on real digits, with our InstanceNormalization and with plain ops.

The penalty of a WGAN-GP (Gulrajani et al., 2017) is a function of the critic's
gradient, so that training differentiates a gradient: through the norm of the critic in
second order. Two GANs start from the same weights and see the same digits and noise.
One has fusednorm's layer with the activation fused in, the other the norm written out
in Keras's ops, and LeakyReLU. At each of the first steps the losses and gradients of
both norms are compared, at the same weights.

    python examples/train_wgan_gp.py
    python examples/train_wgan_gp.py --steps 40
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when TensorFlow is imported.

import fusednorm
import keras
import numpy as np
import tensorflow as tf
from digits import SEED
from keras import layers, ops
from train_digits import GRADIENT_BOUND, aligned

SIZE = 16  # The digits have 8x8 pixels, and are resized to have room for two norms.
NOISE = 32
CRITIC_STEPS = 3  # For each step of the generator.
PENALTY = 10.0
SLOPE = 0.2
EPSILON = 1e-3

# The two GANs' own curves say little about rounding: a critic's gradients have kinks,
# LeakyReLU's slopes, and Adam makes a whole step of an element that is all rounding, so
# that now and then two runs of the same model part within a step. So the comparison
# follows the plain GAN: at each of these first steps a critic and a generator of the
# other norm are given its weights, and its batch.
COMPARED = 30

# One value that rounds to the other side of zero changes a slope from 0.2 to 1, and a
# gradient by much more than rounding: in about one step of fifty. Hence the median of
# the steps is held against the bound. A wrong formula is wrong in each of them. Losses
# keep to the bound as well. Measured over ten seeds: medians of 1.2e-7 for losses and
# 1.8e-6 for gradients, and six of 300 steps beyond the bound.
BOUND = GRADIENT_BOUND

LOSSES = ("critic", "penalty", "generator")


class PlainInstanceNormalization(layers.Layer):
    """InstanceNormalization over the channels of images, in Keras's ops.

    Keras's own is GroupNormalization(groups=-1), which is right in first order only:
    its variance comes from tf.nn.moments, where the mean that is subtracted has no
    gradient. The deviations from the mean sum to zero, so the first derivative lacks
    nothing. The second does, and the penalty trains on it. The table says how much.
    """

    def build(self, input_shape) -> None:
        """Creates the weights, in the order of other norms."""
        channels = input_shape[-1:]
        self.gamma = self.add_weight(shape=channels, initializer="ones")
        self.beta = self.add_weight(shape=channels, initializer="zeros")

    def call(self, x):
        """Normalizes each channel of each image."""
        deviation = x - ops.mean(x, [1, 2], keepdims=True)
        variance = ops.mean(deviation**2, [1, 2], keepdims=True)
        return deviation * ops.rsqrt(variance + EPSILON) * self.gamma + self.beta


# Name -> what makes a norm and its activation. All three have the same weights.
NORMS: dict[str, Callable[[], list[layers.Layer]]] = {
    "fusednorm": lambda: [
        fusednorm.InstanceNormalization(epsilon=EPSILON, activation="leaky_relu")
    ],
    "plain": lambda: [PlainInstanceNormalization(), layers.LeakyReLU(SLOPE)],
    "Keras": lambda: [
        layers.GroupNormalization(groups=-1, epsilon=EPSILON),
        layers.LeakyReLU(SLOPE),
    ],
}


def make_critic(norm: str) -> keras.Model:
    """Returns a critic of images with two norms in it.

    It has no biases. A norm takes away what they add before it, and a score the same
    for real and fake images is not trained: their gradients would be all rounding.
    """
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
            layers.LeakyReLU(SLOPE),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            *NORMS[norm](),
            layers.Conv2D(64, 3, strides=2, padding="same", use_bias=False),
            *NORMS[norm](),
            layers.Flatten(),
            layers.Dense(1, use_bias=False),
        ]
    )


def make_generator() -> keras.Model:
    """Returns a generator of images from noise."""
    return keras.Sequential(
        [
            keras.Input((NOISE,)),
            layers.Dense(4 * 4 * 32, activation="relu"),
            layers.Reshape((4, 4, 32)),
            layers.UpSampling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.UpSampling2D(),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )


class Batch(NamedTuple):
    """What one step sees: for each critic step digits, noise and mixtures.

    The noise has one more, for the generator's step.
    """

    real: tf.Tensor
    noise: tf.Tensor
    mixture: tf.Tensor


class Gan:
    """A critic and a generator in training, and what was measured of them."""

    def __init__(self, norm: str, weights: list[np.ndarray] | None = None) -> None:
        self.critic = make_critic(norm)
        self.generator = make_generator()
        if weights is not None:
            self.set_weights(weights)
        self.optimizers = []
        for model in (self.critic, self.generator):
            optimizer = keras.optimizers.Adam(1e-3, beta_1=0.5, beta_2=0.9)
            optimizer.build(model.trainable_variables)
            self.optimizers.append(optimizer)
        self.losses: list[np.ndarray] = []
        self.seconds: list[float] = []

    def get_weights(self) -> list[np.ndarray]:
        """Returns the weights of both models."""
        return [*self.critic.get_weights(), *self.generator.get_weights()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights of both models."""
        count = len(self.critic.weights)
        self.critic.set_weights(weights[:count])
        self.generator.set_weights(weights[count:])

    def train(self, batch: Batch) -> None:
        """Takes one step, and notes its losses and time."""
        start = time.perf_counter()
        losses = self._step(batch)
        self.losses.append(np.array([float(loss) for loss in losses]))
        self.seconds.append(time.perf_counter() - start)

    @property
    def milliseconds(self) -> float:
        """The median time of a step, without the first, which traces the models."""
        return 1e3 * float(np.median(self.seconds[1:] or self.seconds))

    @tf.function
    def losses_and_gradients(
        self, batch: Batch
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns `LOSSES` at the present weights, and the gradients of them all."""
        loss, penalty, critic_gradients = self._critic_gradients(
            batch.real[0], batch.noise[0], batch.mixture[0]
        )
        generator_loss, gradients = self._generator_gradients(batch.noise[-1])
        return [loss, penalty, generator_loss], [*critic_gradients, *gradients]

    def _critic_gradients(
        self, real: tf.Tensor, noise: tf.Tensor, mixture: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        fake = self.generator(noise, training=True)
        between = real + mixture * (fake - real)
        weights = [each.value for each in self.critic.trainable_variables]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(between)
                score = self.critic(between, training=True)
            slopes = inner.gradient(score, between)
            norms = tf.sqrt(tf.reduce_sum(slopes**2, [1, 2, 3]) + 1e-12)
            penalty = tf.reduce_mean((norms - 1) ** 2)
            loss = tf.reduce_mean(self.critic(fake, training=True))
            loss -= tf.reduce_mean(self.critic(real, training=True))
            loss += PENALTY * penalty
        return loss, penalty, outer.gradient(loss, weights)

    def _generator_gradients(
        self, noise: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        weights = [each.value for each in self.generator.trainable_variables]
        with tf.GradientTape() as tape:
            fake = self.generator(noise, training=True)
            loss = -tf.reduce_mean(self.critic(fake, training=True))
        return loss, tape.gradient(loss, weights)

    @tf.function
    def _step(self, batch: Batch) -> tuple[tf.Tensor, ...]:
        for index in range(CRITIC_STEPS):
            loss, penalty, gradients = self._critic_gradients(
                batch.real[index], batch.noise[index], batch.mixture[index]
            )
            self.optimizers[0].apply(gradients, self.critic.trainable_variables)
        generator_loss, gradients = self._generator_gradients(batch.noise[-1])
        self.optimizers[1].apply(gradients, self.generator.trainable_variables)
        return loss, penalty, generator_loss


class Gaps(NamedTuple):
    """How far one norm is from plain ops at the same weights, each relative."""

    loss: float  # To its size, or 1: the largest of `LOSSES`.
    gradient: float  # To a weight's largest: the largest of all weights.


@dataclass
class Outcome:
    """How the GANs fared."""

    ours: Gan
    plain: Gan
    gaps: dict[str, list[Gaps]]  # Of each other norm, at each compared step.

    def median(self, norm: str) -> Gaps:
        """Returns the median step's gaps, of losses and gradients each."""
        return Gaps(*np.median(self.gaps[norm], axis=0))

    def failures(self) -> Iterator[str]:
        """Yields what float32 rounding does not explain."""
        for name, gap in self.median("fusednorm")._asdict().items():
            if not gap <= BOUND:  # Written so that NaN counts as a failure.
                yield (
                    f"{name}: at the same weights the norms differ by {gap:.2e}, "
                    f"and float32 rounding explains {BOUND:.2e}"
                )


def load_data() -> np.ndarray:
    """Returns scikit-learn's digits, [N, SIZE, SIZE, 1] in 0..1."""
    from sklearn.datasets import load_digits

    images = load_digits().images[..., None] / 16
    return tf.image.resize(images, (SIZE, SIZE)).numpy().astype("float32")


def batches(images: np.ndarray, size: int, steps: int) -> Iterator[Batch]:
    """Yields what each step sees."""
    rng = np.random.default_rng(SEED)
    for _ in range(steps):
        chosen = rng.integers(len(images), size=(CRITIC_STEPS, size))
        yield Batch(
            tf.constant(images[chosen]),
            tf.constant(
                rng.normal(size=(CRITIC_STEPS + 1, size, NOISE)).astype("float32")
            ),
            tf.constant(
                rng.uniform(size=(CRITIC_STEPS, size, 1, 1, 1)).astype("float32")
            ),
        )


def compare(images: np.ndarray, size: int, steps: int) -> Outcome:
    """Trains both, step by step side by side."""
    keras.utils.set_random_seed(SEED)
    plain = Gan("plain")
    ours = Gan("fusednorm", plain.get_weights())
    followers = {norm: Gan(norm) for norm in NORMS if norm != "plain"}

    outcome = Outcome(ours, plain, gaps={norm: [] for norm in followers})
    for index, batch in enumerate(batches(images, size, steps)):
        if index < COMPARED:
            for norm, gan in followers.items():
                gan.set_weights(plain.get_weights())
                outcome.gaps[norm].append(measure_gaps(gan, plain, batch))
        # Taking turns at going first shares out what a cold cache costs.
        for gan in (ours, plain) if index % 2 else (plain, ours):
            gan.train(batch)
        show_progress(steps, ours, plain)
    return outcome


def measure_gaps(gan: Gan, plain: Gan, batch: Batch) -> Gaps:
    """Compares two GANs of the same weights with each other."""
    (losses, gradients), (plain_losses, plain_gradients) = (
        each.losses_and_gradients(batch) for each in (gan, plain)
    )
    return Gaps(
        max(
            float(abs(a - b) / max(abs(b), 1))
            for a, b in zip(losses, plain_losses, strict=True)
        ),
        max(
            float(tf.reduce_max(tf.abs(a - b)) / tf.reduce_max(tf.abs(b)))
            for a, b in zip(gradients, plain_gradients, strict=True)
        ),
    )


def show_progress(steps: int, ours: Gan, plain: Gan) -> None:
    """Redraws the progress line; where there is no terminal, a line every 50 steps."""
    step = len(ours.losses)
    terminal = sys.stdout.isatty()
    if not terminal and step % 50 and step < steps:
        return
    width = 24
    done = width * step // steps
    print(
        f"[{'#' * done}{'.' * (width - done)}] step {step}/{steps}  "
        f"critic loss {ours.losses[-1][0]:.4f} (plain {plain.losses[-1][0]:.4f})",
        end="\r" if terminal and step < steps else "\n",
        flush=True,
    )


def table(outcome: Outcome) -> str:
    """Returns the results as two aligned text tables."""
    # A GAN's losses jitter: the mean of the last steps says more than the last.
    last = min(50, len(outcome.ours.losses))
    gans = (outcome.ours, outcome.plain)
    means = [np.mean(gan.losses[-last:], axis=0) for gan in gans]
    curves = [
        (f"mean of last {last}", "ours", "plain"),
        *(
            (f"{name} loss", *(f"{mean[index]:.4f}" for mean in means))
            for index, name in enumerate(LOSSES)
        ),
        ("ms/step", *(f"{gan.milliseconds:.1f}" for gan in gans)),
    ]
    median, of_keras = (outcome.median(norm) for norm in ("fusednorm", "Keras"))
    steps = len(outcome.gaps["fusednorm"])
    gaps = [
        (f"gap, median of first {steps}", "found", "allowed", "GroupNormalization's"),
        *(
            (
                f"{name} at equal weights",
                f"{getattr(median, name):.1e}",
                f"{BOUND:.1e}",
                f"{getattr(of_keras, name):.1e}",
            )
            for name in Gaps._fields
        ),
    ]
    return f"{aligned(curves)}\n\n{aligned(gaps)}"


def plot(outcome: Outcome, images: np.ndarray, path: str) -> None:
    """Writes the critic's losses, and digits: real ones and those of both."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    panel, pictures = figure.subplots(1, 2, width_ratios=(1, 1.25))
    steps = np.arange(1, len(outcome.ours.losses) + 1)
    ours, plain = (np.array(gan.losses)[:, 0] for gan in (outcome.ours, outcome.plain))
    panel.plot(steps, ours, color="#2a6fbb", linewidth=1, label="fusednorm")
    panel.plot(steps, plain, "o", color="#e07b39", markersize=1.6, label="plain ops")
    panel.set_yscale("symlog", linthresh=1)
    panel.set_xlabel("step", fontsize=8)
    panel.set_ylabel("critic loss", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(color="#e6e6e6", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)

    count = 12
    rng = np.random.default_rng(SEED)
    noise = rng.normal(size=(2 * count, NOISE)).astype("float32")
    rows = {"real": images[rng.integers(len(images), size=2 * count)]}
    for name, gan in (("fusednorm", outcome.ours), ("plain ops", outcome.plain)):
        rows[name] = gan.generator(noise).numpy()
    pad = ((0, 0), (1, 1), (1, 1))
    sheets = [
        np.concatenate(
            [np.hstack(np.pad(half[..., 0], pad)) for half in np.split(digits, 2)]
        )
        for digits in rows.values()
    ]
    pictures.imshow(np.concatenate(sheets), cmap="gray_r", vmin=0, vmax=1)
    height = len(sheets[0])
    pictures.set_yticks([height * (i + 0.5) for i in range(len(rows))], list(rows))
    pictures.set_xticks([])
    pictures.tick_params(labelsize=8, length=0)
    for index in range(1, len(rows)):
        pictures.axhline(height * index - 0.5, color="#2a6fbb", linewidth=0.8)
    figure.savefig(path, dpi=160)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description="Train a WGAN-GP with fusednorm's InstanceNormalization and with "
        "plain ops, and compare them step by step.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=300,
        help=f"of the generator, each after {CRITIC_STEPS} of the critic",
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--output", default="train_wgan_gp.png", help="where to write the plot"
    )
    options = parser.parse_args()
    if options.steps < 1 or options.batch_size < 1:
        parser.error("--steps and --batch-size must be positive")
    return options


def main() -> int:
    """Runs the demo and returns its exit code."""
    options = parse_arguments()
    images = load_data()
    print(f"{len(images)} digits, {options.steps} steps of {options.batch_size}")
    outcome = compare(images, options.batch_size, options.steps)
    print(f"\n{table(outcome)}\n")
    plot(outcome, images, options.output)
    print(f"Losses and digits: {options.output}")

    failures = list(outcome.failures())
    for message in failures:
        print(f"FAILED: {message}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
