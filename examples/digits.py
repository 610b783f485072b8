"""What the examples share: the images, and how far two loss curves may part."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

SEED = 20

# How far two loss curves may part. Both models compute the same function and round
# differently. No bound from the number format alone survives training: where a sum
# lands on the other side of a relu's kink, or a gradient that is all rounding passes
# through Adam, which divides each gradient by its own size, a difference of 1e-7
# becomes one of a learning rate within a step, and grows from there. When such an
# event comes is chance. So the amplification is measured: another model, the same as
# the reference, starts from weights that are each moved up or down by a relative
# 2^-16, and how far its losses have strayed from the reference's by a given step is
# what rounding explains there.
#
# 2^-16 is 128 units in the last place; the longest sums of the models of
# train_digits.py have 6760 terms, each rounded, and gather the square root of that,
# 82 units. So the moved model meets sooner what rounding alone meets later, and stays
# ahead: over 40 runs there (10 seeds of each norm) the gap was at most 1.3 times the
# straying, in 30 below a tenth of it. Moved by a single unit, it was up to 50000
# times, as chance would have it. Hence this size, and the factor. A wrong formula
# shows at once, in the first step, where the straying is about 1e-5: an epsilon of
# 1.1e-6 instead of 1e-6 fails there.
NUDGE = 2.0**-16
STRAYING_FACTOR = 5.0
# For the first steps, where the straying can be zero by chance. A loss near 2.3 is a
# mean of logarithms of a softmax of 128-term sums, each rounded.
FLOOR = 16 * float(np.finfo(np.float32).eps)


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


def nudged(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the weights, each moved by a relative `NUDGE`, up or down."""
    rng = np.random.default_rng(SEED)
    factors = np.float32([1 - NUDGE, 1 + NUDGE])
    return [each * rng.choice(factors, each.shape) for each in weights]


def allowed_gap(reference: np.ndarray, strayed: np.ndarray) -> np.ndarray:
    """Returns how far losses may be from the reference's, step by step.

    Args:
        reference: The losses of the reference.
        strayed: Those of the same model when it starts from `nudged` weights.
    """
    straying = np.maximum.accumulate(np.abs(strayed - reference))
    return FLOOR * np.maximum(1, np.abs(reference)) + STRAYING_FACTOR * straying
