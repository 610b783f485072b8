"""Random models of Keras's layers, for tests of what converts models.

A seed gives the same model in every run, and within `fusednorm.patch_keras()` the same
model of our layers. All layers have names of their own. The shapes are tiny: what takes
time is building and saving.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

layers = keras.layers

KINDS = ("functional", "functional", "nested", "sequential", "subclassed")
# From the finest to the coarsest. Half of the models are of float64, where roundings
# hide nothing.
POLICIES = ("float64", "float32", "mixed_float16", "mixed_bfloat16")
_SHARES = (10, 6, 2, 2)
BATCH, VOCABULARY = 3, 6
_STEPS = 4


@dataclass(frozen=True)
class Made:
    """A model with what to call it on.

    Attributes:
        model: The model, built.
        inputs: An array, or a list of arrays.
        policy: The coarsest dtype policy of its layers.
    """

    model: keras.Model
    inputs: Any
    policy: str


def make(seed: int) -> Made:
    """Returns the model of a seed, with random weights or those of its initializers."""
    # Keras gives the operations and inner inputs names by counts.
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    parts = Parts(rng, rng.choices(POLICIES, _SHARES)[0])
    if kind == "subclassed":
        model, inputs = _subclassed(parts)
    elif kind == "sequential":
        model, inputs = _sequential(parts)
    else:
        model, inputs = _functional(parts, nested=kind == "nested")
    if rng.random() < 0.5:
        model.set_weights(random_weights(model, seed))
    for layer in model.layers:
        if rng.random() < 0.1:
            layer.trainable = False
    return Made(model, inputs, max(parts.policies, key=POLICIES.index))


def random_weights(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Returns weights as `model.set_weights` takes them, no two of them alike."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in model.weights:
        if weight.name in ("gamma", "scale", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        else:
            value = rng.uniform(-0.5, 0.5, weight.shape)
        values.append(value.astype(weight.dtype))
    return values


class Parts:
    """Makes random layers, and random pieces of graphs of them.

    Args:
        rng: What draws.
        policy: The dtype policy of most layers.
    """

    def __init__(self, rng: random.Random, policy: str) -> None:
        self.rng = rng
        self.policy = policy
        self.policies = {policy}
        self.channels = rng.choice((4, 8))
        # Keras cannot load an `.h5` file with other ones.
        self.only_last_axes = rng.random() < 0.5
        self._count = 0
        self._shared: list[tuple[Any, tuple[int, ...]]] = []
        self._activations: list[Any] = []

    def name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def options(self, kind: str) -> dict[str, Any]:
        """Returns the name and the dtype policy of a layer."""
        policy = self.policy
        if policy != "float64" and self.rng.random() < 0.05:
            policy = self.rng.choice(POLICIES[1:])
            self.policies.add(policy)
        return {"name": self.name(kind), "dtype": policy}

    def maybe(self, probability: float, value: Any, otherwise: Any = None) -> Any:
        return value if self.rng.random() < probability else otherwise

    # ------------------------------------------------------------ layers

    def norm(self, rank: int) -> Any:
        """Returns one of the layers that `convert` replaces, with random options."""
        make = self.rng.choice((self._group, self._layer, self._rms))
        return make(rank)

    def _affine(self) -> dict[str, Any]:
        regularizers, constraints = ("l2", None, None, None), ("non_neg", None, None)
        return {
            "epsilon": self.rng.choice((1e-3, 1e-2, 1e-5)),
            "center": self.rng.random() < 0.8,
            "scale": self.rng.random() < 0.8,
            "beta_initializer": self.rng.choice(("zeros", "ones")),
            "beta_regularizer": self.rng.choice(regularizers),
            "gamma_regularizer": self.rng.choice(regularizers),
            "gamma_constraint": self.rng.choice(constraints),
            "activity_regularizer": self.maybe(0.05, "l2"),
        }

    def _group(self, rank: int) -> Any:
        axis = self.rng.choice((-1, -1, -1, rank - 1, 1))
        groups = self.rng.choice((1, 2, 4, -1))
        if rank == 2 and self.policy.startswith("mixed"):
            # A norm after what is the same in all samples is a norm of roundings.
            groups = 1
        return layers.GroupNormalization(
            groups,
            axis=axis,
            **self._affine(),
            **self.options("group"),
        )

    def _layer(self, rank: int) -> Any:
        return layers.LayerNormalization(
            axis=self._axes(rank), **self._affine(), **self.options("layer")
        )

    def _rms(self, rank: int) -> Any:
        return layers.RMSNormalization(
            axis=self._axes_of_rms(rank),
            epsilon=self.rng.choice((1e-6, 1e-3, 1e-2)),
            **self.options("rms"),
        )

    def _axes(self, rank: int) -> int | list[int]:
        if self.only_last_axes or self.rng.random() < 0.5:
            return -1
        axes = self.rng.sample(range(1, rank), self.rng.randint(1, rank - 1))
        axes = [axis - self.rng.choice((0, rank)) for axis in axes]
        return axes[0] if len(axes) == 1 and self.rng.random() < 0.5 else axes

    def _axes_of_rms(self, rank: int) -> int | list[int]:
        """Keras multiplies by `scale` along the last axes, whatever `axis` says."""
        if self.only_last_axes or self.channels == _STEPS:
            return self._axes(rank)
        return self.rng.choice((-1, -1, list(range(self.rng.randrange(1, rank), rank))))

    def activation(self) -> Any:
        kind = self.rng.choice(("named", "named", "relu", "leaky"))
        if kind == "relu":
            return layers.ReLU(
                max_value=self.maybe(0.2, 1.0),
                negative_slope=self.maybe(0.2, 0.2, 0.0),
                **self.options("relu"),
            )
        if kind == "leaky":
            slope = self.rng.choice((0.2, 0.2, 0.3))
            return layers.LeakyReLU(slope, **self.options("leaky"))
        names = ("relu", "silu", "gelu", "tanh", "sigmoid", "elu", "linear")
        return layers.Activation(self.rng.choice(names), **self.options("act"))

    def plain(self, rank: int) -> Any:
        """Returns a layer that is no norm, and gives the shape that it takes."""
        rng, channels = self.rng, self.channels
        kinds = ("dense", "conv", "drop", "batch", "act", "time", "block")
        kind = rng.choice(kinds)
        if kind == "act":
            return self.activation()
        if kind == "conv":
            conv = {3: layers.Conv1D, 4: layers.Conv2D}[rank]
            options = self.options("conv")
            return conv(channels, 3, padding="same", use_bias=False, **options)
        if kind == "drop":
            seed = rng.randrange(1000)
            return layers.Dropout(
                rng.choice((0.0, 0.4)), seed=seed, **self.options(kind)
            )
        if kind == "batch":
            return layers.BatchNormalization(**self.options(kind))
        if kind == "time":
            options = {"name": self.name("time"), "dtype": self.policy}
            inner = self.norm(rank - 1) if rng.random() < 0.5 else self.dense()
            return layers.TimeDistributed(inner, **options)
        if kind == "block":
            options = {"name": self.name("block"), "dtype": self.policy}
            return Block(rng.randrange(10**6), channels, rank, **options)
        return self.dense()

    def dense(self, units: int | None = None) -> Any:
        return layers.Dense(
            units or self.channels,
            kernel_regularizer=self.maybe(0.2, "l2"),
            activation=self.maybe(0.2, "tanh"),
            **self.options("dense"),
        )

    # ------------------------------------------------------------ graphs

    def piece(self, x: Any) -> Any:
        """Returns what a random piece of a graph makes of a tensor, in its shape."""
        pieces: tuple[Callable[[Any], Any], ...] = (
            self._of_plain,
            self._of_norm,
            self._of_norm,
            self._activated,
            self._activated,
            self._residual,
            self._residual,
            self._parallel,
            self._again,
        )
        if self.rng.random() < 0.04:  # These cannot be in an `.h5` file.
            return self._operators(x)
        return self.rng.choice(pieces)(x)

    def pieces(self, x: Any, count: int) -> Any:
        for _ in range(count):
            x = self.piece(x)
        return x

    def _of_plain(self, x: Any) -> Any:
        return self.plain(len(x.shape))(x)

    def _of_norm(self, x: Any) -> Any:
        norm = self.norm(len(x.shape))
        self._shared.append((norm, tuple(x.shape)))
        return norm(x)

    def _activated(self, x: Any) -> Any:
        """Perhaps by a layer that has another input already."""
        again = self._activations and self.rng.random() < 0.3
        layer = self.rng.choice(self._activations) if again else self.activation()
        self._activations.append(layer)
        return layer(self._of_norm(x))

    def _add(self, *tensors: Any) -> Any:
        return layers.Add(**self.options("add"))(list(tensors))

    def _residual(self, x: Any) -> Any:
        """Before the norm or after it, with the sum used on or not."""
        branch = self.pieces(x, self.rng.randint(1, 2))
        order = [x, branch] if self.rng.random() < 0.5 else [branch, x]
        total = self._add(*order)
        y = self._of_norm(total)
        if self.rng.random() < 0.5:
            y = self.activation()(y)
        if self.rng.random() < 0.6:
            return self._add(total, self.dense()(y))
        return y

    def _parallel(self, x: Any) -> Any:
        """Two norms of one sum, one of them perhaps of something of it."""
        total = self._add(x, self.dense()(x))
        first = self.activation()(total) if self.rng.random() < 0.5 else total
        ends = [self._of_norm(first), self._of_norm(total)]
        if self.rng.random() < 0.5:
            ends[1] = self.dense()(ends[1])
        combine = self.rng.choice((layers.Add, layers.Subtract, layers.Multiply))
        y = combine(**self.options("both"))(ends)
        return self._add(total, y) if self.rng.random() < 0.5 else y

    def _again(self, x: Any) -> Any:
        """A norm that is in the model already, once more."""
        fit = [norm for norm, shape in self._shared if shape == tuple(x.shape)]
        return self.rng.choice(fit)(x) if fit else self._of_norm(x)

    def _operators(self, x: Any) -> Any:
        """Operations of `keras.ops`, which are no layers."""
        y = self._of_norm(x)
        return self.rng.choice((lambda: x + y, lambda: keras.ops.tanh(y) * 0.5))()

    def head(self, x: Any) -> Any:
        """Returns an output of a model."""
        kind = self.rng.choice(("pool", "pool", "same", "norm", "flat"))
        if kind == "same":
            return x
        if kind == "norm":
            return self._of_norm(x)
        if kind == "flat":
            y = layers.Flatten(**self.options("flat"))(x)
            return self.dense(3)(self._of_norm(y) if self.rng.random() < 0.5 else y)
        pool = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D}
        return self.dense(3)(pool[len(x.shape)](**self.options("pool"))(x))


@keras.saving.register_keras_serializable("random_models")
class Block(layers.Layer):
    """A layer of layers, as KerasHub's encoders are, that is made by a seed."""

    def __init__(self, seed: int, channels: int, rank: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.made_of = {"seed": seed, "channels": channels, "rank": rank}
        parts = Parts(random.Random(seed), self.dtype_policy.name)
        parts.channels = channels
        self.norm = parts.norm(rank)
        self.steps = [parts.dense(), parts.norm(rank)]

    def build(self, shape: Any) -> None:
        for each in (self.norm, *self.steps):
            each.build(shape)
        super().build(shape)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def call(self, x: Any) -> Any:
        y = self.norm(x)
        for each in self.steps:
            y = each(y)
        return y + x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.made_of}


@keras.saving.register_keras_serializable("random_models")
class InCode(keras.Model):
    """A subclassed model, whose layers are in attributes, lists and dicts.

    Args:
        parts: The layers: the first one, some in a row and two by name.
    """

    def __init__(self, parts: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, *self.row = parts[:-2]
        self.by_name = dict(zip(("norm", "last"), parts[-2:], strict=True))
        self.all_parts = tuple(parts)

    def call(self, x: Any, training: bool | None = None) -> Any:
        y = self.first(x)
        for each in self.row:
            y = each(y)
        return y, self.by_name["last"](self.by_name["norm"](y))

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        parts = [serialize(each) for each in self.all_parts]
        return {**super().get_config(), "parts": parts}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        read = keras.saving.deserialize_keras_object
        parts = [read(each, custom_objects) for each in config.pop("parts")]
        return cls(parts, **config)


# ---------------------------------------------------------------- models


def _source(parts: Parts, prefix: str = "x") -> tuple[Any, Any, np.ndarray]:
    """Returns an input, the first tensor made of it, and data for it."""
    rng, channels = parts.rng, parts.channels
    data = np.random.default_rng(rng.randrange(10**6))
    kind = rng.choice(("tokens", "steps", "steps", "image", "image", "masked"))
    dtype = "float64" if parts.policy == "float64" else "float32"
    if kind == "tokens":
        x = keras.Input((_STEPS,), dtype="int32", name=parts.name(prefix))
        mask = rng.random() < 0.8
        embedding = layers.Embedding(
            VOCABULARY, channels, mask_zero=mask, **parts.options("embed")
        )
        values = data.integers(0, VOCABULARY, (BATCH, _STEPS)).astype("int32")
        values[:, 0] = 1  # No sample without any word.
        return x, embedding(x), values
    shape = (_STEPS, _STEPS, channels) if kind == "image" else (_STEPS, channels)
    x = keras.Input(shape, dtype=dtype, name=parts.name(prefix))
    values = data.standard_normal((BATCH, *shape)).astype(dtype)
    if kind == "masked":
        values[:, -1] = 0
        return x, layers.Masking(**parts.options("masking"))(x), values
    return x, x, values


def _functional(parts: Parts, nested: bool) -> tuple[keras.Model, Any]:
    rng = parts.rng
    x, y, data = _source(parts)
    inputs, values = [x], [data]
    if rng.random() < 0.25 and "float" in x.dtype:
        other = keras.Input(y.shape[1:], dtype=x.dtype, name=parts.name("x"))
        inputs.append(other)
        values.append(data[::-1] * 0.5)
        y = layers.Add(**parts.options("add"))([y, other])
    ends = []
    for _ in range(rng.randint(1, 3)):
        y = parts.pieces(y, rng.randint(1, 2))
        if nested and rng.random() < 0.7:
            y = _inner(parts, y)
        if rng.random() < 0.3:
            ends.append(parts.head(y))
            if ends[-1].shape == y.shape and rng.random() < 0.7:
                # What is given out is not all that is made of it.
                y = parts.activation()(ends[-1])
    if nested:
        y = _inner(parts, y)
    ends.append(parts.head(y))
    model = keras.Model(inputs, ends, name="model")
    return model, values if len(values) > 1 else values[0]


def _inner(parts: Parts, y: Any) -> Any:
    """Calls a model within the model, once or twice."""
    rng = parts.rng
    name = parts.name("inner")
    shared, parts._shared = parts._shared, []
    activations, parts._activations = parts._activations, []
    if rng.random() < 0.3:
        rank = len(y.shape)
        stack = [parts.norm(rank), parts.activation(), parts.plain(rank)]
        given = keras.Input(y.shape[1:], dtype=y.dtype, name=parts.name("x"))
        inner = keras.Sequential([given, *stack], name=name)
    else:
        x = keras.Input(y.shape[1:], dtype=y.dtype, name=parts.name("x"))
        z = parts.pieces(x, rng.randint(1, 2))
        inner = keras.Model(x, z, name=name)
    parts._shared, parts._activations = shared, activations
    z = inner(y)
    return inner(z) if rng.random() < 0.3 else z


def _stack(parts: Parts, rank: int, count: int) -> list[Any]:
    found = []
    for _ in range(count):
        found.append(
            parts.norm(rank) if parts.rng.random() < 0.5 else parts.plain(rank)
        )
        if parts.rng.random() < 0.3:
            found.append(parts.activation())
    return found


def _sequential(parts: Parts) -> tuple[keras.Model, Any]:
    rng = parts.rng
    x, first, data = _source(parts)
    rank = len(first.shape)
    before = [] if first is x else [first._keras_history.operation]
    stack = [*before, *_stack(parts, rank, rng.randint(2, 5)), parts.norm(rank)]
    if rng.random() < 0.5:
        stack += [layers.Flatten(**parts.options("flat")), parts.dense(3)]
    given = keras.Input(x.shape[1:], dtype=x.dtype, name=x.name)
    if before:
        # A layer of its own, for this one is in a graph already.
        stack[0] = type(stack[0]).from_config(stack[0].get_config())
    return keras.Sequential([given, *stack], name="model"), data


def _subclassed(parts: Parts) -> tuple[keras.Model, Any]:
    rng = parts.rng
    shape = (_STEPS, parts.channels)
    dtype = "float64" if parts.policy == "float64" else "float32"
    data = np.random.default_rng(rng.randrange(10**6))
    values = data.standard_normal((BATCH, *shape)).astype(dtype)
    stack = [parts.norm(3), *_stack(parts, 3, rng.randint(1, 4)), parts.norm(3)]
    if rng.random() < 0.5:
        x = keras.Input(shape, dtype=dtype, name=parts.name("x"))
        stack[1:1] = [keras.Model(x, parts.pieces(x, 2), name=parts.name("inner"))]
    model = InCode([*stack, parts.dense(3)], name="model", dtype=parts.policy)
    model(values)
    return model, values
