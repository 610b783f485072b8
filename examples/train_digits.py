"""Trains the tutorial's models on real digits, with our layers and with Keras's.

The models are those of the TensorFlow Addons tutorial on normalization: one
convolution, the norm, two dense layers. Each is trained twice from the same
weights, on the same batches in the same order and with the same dropout: once
with fusednorm's layer, once with Keras's. The losses are compared at every step.

    python examples/train_digits.py
    python examples/train_digits.py --data mnist --epochs 1 --norms group layer
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when TensorFlow is imported.

import fusednorm
import keras
import numpy as np
import tensorflow as tf
from keras import layers

SEED = 20

RANDOM = {"beta_initializer": "random_uniform", "gamma_initializer": "random_uniform"}

# Name -> how to make our layer and Keras's. Keras has no InstanceNormalization, and
# its RMSNormalization takes only trailing axes.
NORMS: dict[str, tuple[Callable[[], layers.Layer], Callable[[], layers.Layer]]] = {
    "group": (
        lambda: fusednorm.GroupNormalization(groups=5, axis=3),
        lambda: layers.GroupNormalization(groups=5, axis=3),
    ),
    "instance": (
        lambda: fusednorm.InstanceNormalization(
            axis=3, center=True, scale=True, **RANDOM
        ),
        lambda: layers.GroupNormalization(
            groups=-1, axis=3, center=True, scale=True, **RANDOM
        ),
    ),
    "layer": (
        lambda: fusednorm.LayerNormalization(axis=1, center=True, scale=True),
        lambda: layers.LayerNormalization(axis=1, center=True, scale=True),
    ),
    "rms": (
        lambda: fusednorm.RMSNormalization(axis=-1),
        lambda: layers.RMSNormalization(axis=-1),
    ),
}

# How far the two loss curves may part. Both models compute the same function and
# round differently. No bound from the number format alone survives training: where a
# sum lands on the other side of a relu's kink, or a gradient that is all rounding
# passes through Adam, which divides each gradient by its own size, a difference of
# 1e-7 becomes one of a learning rate within a step, and grows from there. When such
# an event comes is chance. So the amplification is measured: a third model, again
# with Keras's layer, starts from weights that are each moved up or down by a
# relative 2^-16, and how far its losses have strayed from Keras's own by a given
# step is what rounding explains there.
#
# 2^-16 is 128 units in the last place; the model's longest sums have 6760 terms,
# each rounded, and gather the square root of that, 82 units. So the moved model meets
# sooner what rounding alone meets later, and stays ahead: over 40 runs (10 seeds of
# each norm) the gap was at most 1.3 times the straying, in 30 below a tenth of it.
# Moved by a single unit, it was up to 50000 times, as chance would have it. Hence
# this size, and the factor. A wrong formula shows at once, in the first step, where
# the straying is about 1e-5: an epsilon of 1.1e-6 instead of 1e-6 fails here.
NUDGE = 2.0**-16
STRAYING_FACTOR = 5.0
# For the first steps, where the straying can be zero by chance. A loss near 2.3 is a
# mean of logarithms of a softmax of 128-term sums, each rounded.
FLOOR = 16 * float(np.finfo(np.float32).eps)

# Adam divides gradients by their size, so curves agree also when gradients are off by a
# factor. They are compared by themselves, before training: the largest difference in a
# weight's gradient, relative to its largest element. The longest sums, those of the
# convolution's kernel, have 32 * 676 terms, each rounded: 147 half units in the last
# place by chance (2^-16.8); measured are up to 2^-18.7, over four seeds.
GRADIENT_BOUND = 2.0**-16


@dataclass
class Trainee:
    """A model in training, and what was measured of it."""

    model: keras.Model
    step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def train(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Takes one step, and notes its loss and time."""
        start = time.perf_counter()
        loss = float(self.step(images, labels))
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(loss)

    @property
    def milliseconds(self) -> float:
        """The median time of a step, without the first, which traces the model."""
        return 1e3 * float(np.median(self.seconds[1:] or self.seconds))


@dataclass
class Outcome:
    """How one norm fared, ours against Keras's."""

    norm: str
    ours: Trainee
    theirs: Trainee
    gradient_gap: float
    accuracy: tuple[float, float]
    final_loss: tuple[float, float]
    gap: np.ndarray
    allowed: np.ndarray

    def failures(self) -> Iterator[str]:
        """Yields what float32 rounding does not explain."""
        # Written so that NaN counts as a failure.
        if not self.gradient_gap <= GRADIENT_BOUND:
            yield (
                f"{self.norm}: the gradients differ by {self.gradient_gap:.2e} of the "
                f"largest, and float32 rounding explains {GRADIENT_BOUND:.2e}"
            )
        excess = np.flatnonzero(~(self.gap <= self.allowed))
        if excess.size:
            step = int(excess[0])
            yield (
                f"{self.norm}: at step {step + 1} the losses differ by "
                f"{self.gap[step]:.2e}, and float32 rounding explains "
                f"{self.allowed[step]:.2e}"
            )


def load_data(name: str) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Returns training and test images, [N, 28, 28] in 0..1, with their labels."""
    if name == "mnist":
        train, test = keras.datasets.mnist.load_data()
        scaled = [(x.astype("float32") / 255, y) for x, y in (train, test)]
        return scaled[0], scaled[1]

    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = tf.image.resize(digits.images[..., None] / 16, (28, 28)).numpy()[..., 0]
    train_x, test_x, train_y, test_y = train_test_split(
        images.astype("float32"),
        digits.target,
        test_size=0.2,
        stratify=digits.target,
        random_state=SEED,
    )
    return (train_x, train_y), (test_x, test_y)


def make_trainee(norm: layers.Layer, weights: list[np.ndarray] | None) -> Trainee:
    """Returns the tutorial's model around `norm`, to start from `weights` if given."""
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(10, (3, 3), activation="relu", data_format="channels_last"),
            norm,
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            # The seed makes the masks of all models agree, step by step.
            layers.Dropout(0.2, seed=SEED),
            layers.Dense(10, activation="softmax"),
        ]
    )
    if weights is not None:
        model.set_weights(weights)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    loss_function = keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return Trainee(model, step)


def nudged(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the weights, each moved by a relative `NUDGE`, up or down."""
    rng = np.random.default_rng(SEED)
    factors = np.float32([1 - NUDGE, 1 + NUDGE])
    return [each * rng.choice(factors, each.shape) for each in weights]


def batches(
    images: np.ndarray, labels: np.ndarray, size: int, epochs: int
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields full batches of images and labels, shuffled anew in each epoch."""
    rng = np.random.default_rng(SEED)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield tf.constant(images[chosen]), tf.constant(labels[chosen])


def compare(norm: str, train: tuple, test: tuple, size: int, epochs: int) -> Outcome:
    """Trains the models of one norm, step by step side by side."""
    make_ours, make_theirs = NORMS[norm]
    keras.utils.set_random_seed(SEED)
    ours = make_trainee(make_ours(), None)
    weights = ours.model.get_weights()
    theirs = make_trainee(make_theirs(), weights)
    strayed = make_trainee(make_theirs(), nudged(weights))

    per_epoch = len(train[0]) // size
    gradient_gap = largest_gradient_gap(ours, theirs, train, size)
    for index, (images, labels) in enumerate(batches(*train, size, epochs)):
        # Taking turns at going first shares out what a cold cache costs.
        pair = (ours, theirs) if index % 2 else (theirs, ours)
        for trainee in (*pair, strayed):
            trainee.train(images, labels)
        show_progress(norm, per_epoch, epochs, ours, theirs)

    losses, reference, straying = (
        np.array(trainee.losses) for trainee in (ours, theirs, strayed)
    )
    return Outcome(
        norm,
        ours,
        theirs,
        gradient_gap,
        accuracy=tuple(accuracy(each.model, *test) for each in (ours, theirs)),
        final_loss=tuple(
            float(np.mean(each[-per_epoch:])) for each in (losses, reference)
        ),
        gap=np.abs(losses - reference),
        allowed=FLOOR * np.maximum(1, reference)
        + STRAYING_FACTOR * np.maximum.accumulate(np.abs(straying - reference)),
    )


def largest_gradient_gap(
    ours: Trainee, theirs: Trainee, train: tuple, size: int
) -> float:
    """Compares the gradients of the first batch, each relative to its largest."""

    def gradients(model: keras.Model) -> list[tf.Tensor]:
        images, labels = (tf.constant(each[:size]) for each in train)
        with tf.GradientTape() as tape:
            guesses = model(images, training=False)
            losses = keras.losses.sparse_categorical_crossentropy(labels, guesses)
            loss = tf.reduce_mean(losses)
        return tape.gradient(loss, [each.value for each in model.trainable_variables])

    return max(
        float(tf.reduce_max(tf.abs(a - b)) / tf.reduce_max(tf.abs(b)))
        for a, b in zip(gradients(ours.model), gradients(theirs.model), strict=True)
    )


def accuracy(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns which part of the images the model recognizes."""
    guesses = model.predict(images, verbose=0).argmax(axis=-1)
    return float(np.mean(guesses == labels))


def show_progress(
    norm: str, per_epoch: int, epochs: int, ours: Trainee, theirs: Trainee
) -> None:
    """Redraws the progress line; where there is no terminal, one line an epoch."""
    step = len(ours.losses)
    epoch, within = divmod(step - 1, per_epoch)
    terminal = sys.stdout.isatty()
    if not terminal and within < per_epoch - 1:
        return
    width = 24
    done = width * step // (per_epoch * epochs)
    print(
        f"{norm:<9}[{'#' * done}{'.' * (width - done)}] epoch {epoch + 1}/{epochs}  "
        f"loss {ours.losses[-1]:.5f} (Keras {theirs.losses[-1]:.5f})",
        end="\r" if terminal and step < per_epoch * epochs else "\n",
        flush=True,
    )


def table(outcomes: list[Outcome]) -> str:
    """Returns the results as an aligned text table."""
    head = ("", "accuracy", "", "final loss", "", "largest loss", "", "gradient")
    units = ("norm", "ours", "Keras", "ours", "Keras", "difference", "allowed")
    rows = [(*head, "ms/step", ""), (*units, "gap", "ours", "Keras")]
    for each in outcomes:
        worst = int(np.argmax(each.gap))
        rows.append(
            (
                each.norm,
                *(f"{value:.2%}" for value in each.accuracy),
                *(f"{value:.5f}" for value in each.final_loss),
                f"{each.gap[worst]:.1e}",
                f"{each.allowed[worst]:.1e}",
                f"{each.gradient_gap:.1e}",
                f"{each.ours.milliseconds:.2f}",
                f"{each.theirs.milliseconds:.2f}",
            )
        )
    return aligned(rows)


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Returns rows of text as columns: the first to the left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if index == 0 else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def plot(outcomes: list[Outcome], path: str) -> None:
    """Writes the loss curves: ours as lines, Keras's as dots on top of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(outcomes), 3), layout="constrained")
    panels = figure.subplots(1, len(outcomes), sharey=True, squeeze=False)[0]
    for panel, outcome in zip(panels, outcomes, strict=True):
        steps = np.arange(1, len(outcome.gap) + 1)
        every = max(1, len(steps) // 40)
        panel.plot(
            steps, outcome.ours.losses, color="#2a6fbb", linewidth=1, label="fusednorm"
        )
        panel.plot(
            steps[::every],
            outcome.theirs.losses[::every],
            "o",
            color="#e07b39",
            markersize=2.6,
            label="Keras",
        )
        panel.set_title(
            f"{outcome.norm}   (largest difference {outcome.gap.max():.0e})", fontsize=9
        )
        panel.set_yscale("log")
        panel.set_xlabel("step", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("training loss", fontsize=8)
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=160)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description="Train small models with fusednorm's layers and with Keras's own, "
        "and compare them step by step.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data",
        choices=("digits", "mnist"),
        default="digits",
        help="digits: scikit-learn's, resized to 28x28; mnist: downloaded by Keras",
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--norms", nargs="+", choices=tuple(NORMS), default=list(NORMS), metavar="NORM"
    )
    parser.add_argument(
        "--output", default="train_digits.png", help="where to write the plot"
    )
    options = parser.parse_args()
    if options.epochs < 1 or options.batch_size < 1:
        parser.error("--epochs and --batch-size must be positive")
    return options


def main() -> int:
    """Runs the demo and returns its exit code."""
    options = parse_arguments()
    train, test = load_data(options.data)
    if len(train[0]) < options.batch_size:
        sys.exit(f"--batch-size is more than the {len(train[0])} training images")
    print(
        f"{options.data}: {len(train[0])} training and {len(test[0])} test images, "
        f"{options.epochs} epochs of {len(train[0]) // options.batch_size} steps"
    )
    outcomes = [
        compare(norm, train, test, options.batch_size, options.epochs)
        for norm in options.norms
    ]
    print(f"\n{table(outcomes)}\n")
    plot(outcomes, options.output)
    print(f"Loss curves: {options.output}")

    failures = [message for each in outcomes for message in each.failures()]
    for message in failures:
        print(f"FAILED: {message}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
