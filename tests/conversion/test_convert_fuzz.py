"""Random models do after a conversion all that they did before, whatever is asked.

What is converted: the models of tests/support/random_models.py by `fusednorm.convert`,
with and without `fuse`, and the same models made within `fusednorm.patch_keras()`. What
is asked stands in `PROPERTIES` and `IN_TURN`.

A few models are tried by default. Two environment variables choose which:
`FUSEDNORM_FUZZ_MODELS` is how many, `FUSEDNORM_FUZZ_FIRST` the seed of the first:

    FUSEDNORM_FUZZ_MODELS=500 python -m pytest tests/conversion/test_convert_fuzz.py
    FUSEDNORM_FUZZ_FIRST=17 FUSEDNORM_FUZZ_MODELS=1 python -m pytest ...  # seed 17
"""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from fusednorm.layers.base import Normalization
from support import random_models

FIRST = int(os.environ.get("FUSEDNORM_FUZZ_FIRST", "0"))
MODELS = int(os.environ.get("FUSEDNORM_FUZZ_MODELS", "3"))

# By how much outputs, gradients and weights after a step may differ, relative to the
# largest number among them; by the coarsest dtype policy of the model. Of 40 models
# the largest differences were 3e-15, 6e-6, 2e-3 and 0.12.
BOUNDS = {
    "float64": 1e-11,
    "float32": 1e-3,
    "mixed_float16": 0.1,
    "mixed_bfloat16": 0.5,
}

# Outputs of random models are of about one, unless they are nothing but rounding.
FLOOR = 1e-3

HOW = ("convert", "fuse", "patch")


# ---------------------------------------------------------------- what is compared


def in_code(model: keras.Model) -> bool:
    return isinstance(model, random_models.InCode)


def outputs(model: keras.Model, inputs: Any) -> list[Any]:
    """Returns the outputs of a model, a list of tensors."""
    return tf.nest.flatten(model(inputs, training=False))


def relative(now: list[Any], before: list[Any]) -> float:
    """Returns the largest difference, relative to the largest number of all.

    Where all are less than `FLOOR`, which sums of normalized numbers may be, relative
    to that.
    """
    now, before = ([np.asarray(each, np.float64) for each in x] for x in (now, before))
    assert [each.shape for each in now] == [each.shape for each in before]
    gap, largest = 0.0, FLOOR
    for a, b in zip(now, before, strict=True):
        finite = np.isfinite(b)
        np.testing.assert_array_equal(a[~finite], b[~finite])
        gap = np.max(np.abs(a - b)[finite], initial=gap)
        largest = np.max(np.abs(b[finite]), initial=largest)
    return gap / largest


def masks(tensors: list[Any]) -> list[Any]:
    found = [getattr(each, "_keras_mask", None) for each in tensors]
    return [None if each is None else np.asarray(each).tolist() for each in found]


def gradients(model: keras.Model, inputs: Any) -> dict[str, np.ndarray]:
    """Returns the gradients of a sum of the outputs and of all losses, by path.

    Statistics and random numbers are what they were before the call for training.
    """
    state = [np.asarray(each) for each in model.variables]
    with tf.GradientTape() as tape:
        ends = tf.nest.flatten(model(inputs, training=True))
        rng = np.random.default_rng(0)
        total = tf.add_n(
            [
                tf.reduce_sum(tf.cast(y, tf.float64) * rng.standard_normal(y.shape))
                for y in ends
            ]
            + [tf.cast(each, tf.float64) for each in model.losses]
        )
    values = [weight.value for weight in model.trainable_weights]
    found = tape.gradient(total, values, unconnected_gradients="zero")
    for variable, before in zip(model.variables, state, strict=True):
        variable.assign(before)
    paths = [weight.path for weight in model.trainable_weights]
    return {
        path: np.asarray(tf.convert_to_tensor(each))
        for path, each in zip(paths, found, strict=True)
    }


def order(model: keras.Model) -> tuple[list[str], list[str]]:
    """Returns the names of a model's layers that have weights, and the weights'."""
    names = [layer.name for layer in model.layers if layer.weights]
    return names, [weight.path for weight in model.weights]


def norms(model: keras.Model) -> list[str]:
    """Returns the names of our layers in a model and in the models within it.

    Not in layers that are made by a seed: as theirs, a file or a copy makes Keras's.
    """
    found = []
    for layer in model.layers:
        found += norms(layer) if isinstance(layer, keras.Model) else []
        found += [layer.name] if isinstance(layer, Normalization) else []
    return found


def saved(suffix: str) -> Callable[[keras.Model, Path], keras.Model]:
    def way(model: keras.Model, folder: Path) -> keras.Model:
        model.save(folder / f"model{suffix}")
        return keras.models.load_model(folder / f"model{suffix}")

    return way


WAYS: dict[str, Callable[[keras.Model, Path], keras.Model]] = {
    ".keras": saved(".keras"),
    ".h5": saved(".h5"),
    "json": lambda model, _: keras.models.model_from_json(model.to_json()),
    "clone": lambda model, _: keras.models.clone_model(model),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
}
WITH_WEIGHTS = (".keras", ".h5", "deepcopy", "pickle")
FILES = (".weights.h5", ".h5")


# ---------------------------------------------------------------- one model


class Case:
    """A random model, what it does, and ways to make it once more.

    Args:
        seed: The seed of the model.
        folder: Where files can be.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.original = self.make()
        self.bound = BOUNDS[self.original.policy]
        self.model, self.inputs = self.original.model, self.original.inputs
        self.weights = self.model.get_weights()
        # For the twin of the model, with other weights.
        self.others = random_models.random_weights(self.model, seed + 1)
        self.expected = outputs(self.model, self.inputs)
        self.gaps: dict[str, float] = collections.defaultdict(float)

    @functools.cached_property
    def gradients(self) -> dict[str, np.ndarray]:
        """The gradients of the original."""
        return gradients(self.model, self.inputs)

    def make(self) -> random_models.Made:
        return random_models.make(self.seed)

    def made(self, how: str) -> keras.Model:
        """Returns the model after a conversion."""
        if how == "patch":
            with fusednorm.patch_keras():
                model = self.make().model
            model.set_weights(self.weights)
            return model
        model = self.make().model
        model.make_predict_function()
        if self.convert(model, how):
            assert model.predict_function is None
        return model

    def convert(self, model: keras.Model, how: str) -> tuple[Any, ...]:
        options = {"inputs": self.inputs} if in_code(model) else {}
        fusednorm.convert(model, fuse=how == "fuse", verbose=False, **options)
        return model.fusednorm_conversion.replaced

    def near(self, what: str, now: list[Any], before: list[Any]) -> None:
        """Compares within the bound."""
        gap = relative(now, before)
        self.gaps[what] = max(self.gaps[what], gap)
        assert gap <= self.bound, f"{what}: {gap:.1e} off, more than {self.bound:.1e}"

    def near_outputs(
        self, what: str, model: keras.Model, expected: list[Any] | None = None
    ) -> None:
        expected = self.expected if expected is None else expected
        self.near(what, outputs(model, self.inputs), expected)

    def after(self, way: str, model: keras.Model) -> keras.Model:
        """Returns what a model is after it has been saved or copied."""
        again = WAYS[way](model, self.folder)
        if way not in WITH_WEIGHTS:
            again.set_weights(self.weights)
        return again

    @functools.cached_property
    def survivors(self) -> list[str]:
        """The ways that Keras's own model survives: all, but `.h5` where it fails."""
        return [way for way in WAYS if way != ".h5" or self._survives_h5()]

    def _survives_h5(self) -> bool:
        """An `.h5` file holds no operations, and axes of norms are wrong in it."""
        try:
            again = self.after(".h5", self.model)
        except Exception:  # Of many kinds.
            return False
        return relative(outputs(again, self.inputs), self.expected) == 0


# ---------------------------------------------------------------- properties


def outputs_are_the_same(case: Case, model: keras.Model, how: str) -> None:
    case.near_outputs("outputs", model)
    now = outputs(model, case.inputs)
    assert [y.dtype for y in now] == [y.dtype for y in case.expected]
    assert masks(now) == masks(case.expected)


def gradients_are_the_same(case: Case, model: keras.Model, how: str) -> None:
    expected, now = case.gradients, gradients(model, case.inputs)
    assert now.keys() == expected.keys()
    case.near("gradients", [now[path] for path in expected], list(expected.values()))


def order_is_the_same(case: Case, model: keras.Model, how: str) -> None:
    assert order(model) == order(case.model)
    assert [each.trainable for each in model.layers if each.weights] == [
        each.trainable for each in case.model.layers if each.weights
    ]
    for now, before in zip(model.get_weights(), case.weights, strict=True):
        np.testing.assert_array_equal(now, before)


def survives_what_the_original_survives(
    case: Case, model: keras.Model, how: str
) -> None:
    for way in case.survivors:
        try:
            again = case.after(way, model)
            assert order(again)[0] == order(model)[0]
            if not in_code(model):
                assert norms(again) == norms(model)
            case.near_outputs(f"after {way}", again)
        except Exception as error:
            raise AssertionError(f"{way}: {error!r}") from error


def takes_the_weights_of_the_original(case: Case, model: keras.Model, how: str) -> None:
    twin = case.make().model
    twin.set_weights(case.others)
    expected = outputs(twin, case.inputs)
    model.set_weights(case.others)
    case.near_outputs("other weights", model, expected)
    twin.set_weights(case.weights)
    twin.set_weights(model.get_weights())
    case.near_outputs("weights back", twin, expected)
    files = FILES[:1] if in_code(model) else FILES
    for suffix in files:
        paths = [str(case.folder / f"{name}{suffix}") for name in ("twin", "model")]
        for each, path in zip((twin, model), paths, strict=True):
            (each.save_weights if suffix == ".weights.h5" else each.save)(path)
        for each, path in zip((twin, model), reversed(paths), strict=True):
            each.set_weights(case.weights)
            each.load_weights(path)
            case.near_outputs(f"weights of a file {suffix}", each, expected)
    model.set_weights(case.weights)


def twice_is_once(case: Case, model: keras.Model, how: str) -> None:
    if how == "patch":
        # The patch knows no rank, and so has left layers that `convert` takes.
        how = "convert"
        case.convert(model, how)
    config = model.get_config()
    assert case.convert(model, how) == ()
    assert model.get_config() == config


def goes_back(case: Case, model: keras.Model, how: str) -> None:
    fusednorm.unconvert(model, verbose=False, inputs=case.inputs)
    assert norms(model) == []
    order_is_the_same(case, model, how)
    case.near_outputs("unconverted", model)
    if how == "convert":
        assert model.get_config() == case.model.get_config()
    # And forth, for what comes after.
    case.convert(model, "fuse" if how == "fuse" else "convert")
    order_is_the_same(case, model, how)


def trains_as_before(case: Case, model: keras.Model, how: str) -> None:
    rng = np.random.default_rng(case.seed)
    targets = [rng.standard_normal(y.shape) for y in case.expected]
    y = targets if len(targets) > 1 else targets[0]

    def fitted(model: keras.Model) -> tuple[list[float], list[np.ndarray]]:
        with floatx("float64" if case.original.policy == "float64" else "float32"):
            # Tracing takes most of the time.
            eager = case.seed % 4 > 0
            model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=eager)
            done = model.fit(case.inputs, y, batch_size=random_models.BATCH, verbose=0)
        return done.history["loss"], model.get_weights()

    try:
        loss, weights = fitted(case.make().model)
    except (TypeError, tf.errors.InvalidArgumentError):
        # Keras adds up no losses of several dtypes, which regularizers may give.
        assert case.original.policy.startswith("mixed")
        return
    loss_now, weights_now = fitted(model)
    case.near("loss", loss_now, loss)
    case.near("weights after fit", weights_now, weights)


@contextlib.contextmanager
def floatx(name: str) -> Iterator[None]:
    """The type of losses within it, which Keras can add up in no other one."""
    before = keras.config.floatx()
    keras.config.set_floatx(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


PROPERTIES = (
    order_is_the_same,
    outputs_are_the_same,
    gradients_are_the_same,
    twice_is_once,
    goes_back,
)
# These take long: each is asked after one conversion of a model, in turn. The last one
# changes the weights.
IN_TURN = (
    survives_what_the_original_survives,
    takes_the_weights_of_the_original,
    trains_as_before,
)


def asked(seed: int, how: str) -> list[Callable[[Case, keras.Model, str], None]]:
    """Returns what is asked of a model after a conversion."""
    turn = [(seed + place) % len(HOW) for place in range(len(IN_TURN))]
    pairs = zip(IN_TURN, turn, strict=True)
    return [*PROPERTIES, *(each for each, place in pairs if HOW[place] == how)]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + MODELS))
def test_random_model(seed: int, tmp_path: Path) -> None:
    rerun = (
        f"Once more: FUSEDNORM_FUZZ_FIRST={seed} FUSEDNORM_FUZZ_MODELS=1 "
        "python -m pytest tests/conversion/test_convert_fuzz.py"
    )
    with warnings.catch_warnings():
        # Of layers that end masks, and of `.h5`.
        warnings.simplefilter("ignore")
        case = Case(seed, tmp_path)
        for how in HOW:
            model = case.made(how)
            for holds in asked(seed, how):
                try:
                    holds(case, model, how)
                except Exception as error:
                    raise AssertionError(
                        f"Seed {seed}, {how}: not {holds.__name__}: {error!r}. {rerun}"
                    ) from error


def test_h5_files_are_among_what_is_asked(tmp_path: Path) -> None:
    """For where Keras's own model does not survive a file, nothing is asked of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert any(".h5" in Case(seed, tmp_path).survivors for seed in range(6))
