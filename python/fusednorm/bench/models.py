"""Times training steps of whole models, with Keras's norms and with ours.

A step is forward, backward and an update by plain gradient descent in one tf.function,
in a graph and compiled by XLA. Four models take turns, round after round: with Keras's
norms; with ours after `fusednorm.convert`; with ours after `convert(fuse=True)`, which
take over activations and residuals; and with none. The share of the step that the norms
take is what the step loses when every norm is taken out and all else stays. All start
from Keras's weights, and the losses of the first steps must agree.

An entry of the report has, beside what records.py says:

    input, parameters   the shape of the model's input, and how many numbers it learns
    converted           how many layers each conversion replaced, and how many it left
    first_losses        name -> losses of the first steps
    wrong               names whose losses differ from those with Keras's norms
    results             "<norms>-<mode>", with first_call_ms, peak_extra_bytes and
                        share_in_norms
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusednorm.bench import timing
from fusednorm.bench.networks import NETWORKS, Norms
from fusednorm.bench.records import one_line

if TYPE_CHECKING:
    from fusednorm.bench.machines import Machine

MODES = ("graph", "xla")
KERAS, OURS, FUSED, NONE = KINDS = ("keras", "fusednorm", "fused", "none")
STEP = "training step"
# Policy -> how far losses may be apart, relative: the same weights, but other orders of
# summation, and with 16-bit policies activations that are rounded at other places. On a
# CPU the small models' were apart by up to 1.1e-7 and 3.8e-4, and in mixed_float16, of
# the ResNet and the UNet, by 1.0e-4. float32 has room for TensorFloat-32, ten bits,
# on GPUs, where nothing was measured.
TOLERANCES = {"float32": 2e-4, "mixed_bfloat16": 2e-3, "mixed_float16": 1e-3}
FIRST_STEPS = 3
# In three steps losses change by more than their tolerance (but for gpt's, whose output
# is normalized): so gradients are compared too.
LEARNING_RATE = 1e-2


def training_step(model: Any, *, xla: bool) -> Callable[[Any], Any]:
    """Returns x -> loss, which also updates the model."""
    import tensorflow as tf

    variables = [each.value for each in model.trainable_variables]

    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            y = tf.cast(model(x, training=True), tf.float32)
            loss = tf.reduce_mean(tf.square(y - 0.5))
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(LEARNING_RATE * gradient)
        return loss

    return tf.function(step, jit_compile=xla)


def models_of(name: str, policy: str, *, gpu: bool) -> dict[str, Any]:
    """Returns kind -> the model with norms of that kind, all with the same weights."""
    import keras

    import fusednorm

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        network = NETWORKS[name]
        keras.utils.set_random_seed(5)
        models = {kind: network.build(Norms(kind != NONE), gpu=gpu) for kind in KINDS}
    finally:
        keras.config.set_dtype_policy(before)
    for kind, fuse in ((OURS, False), (FUSED, True)):
        models[kind].set_weights(models[KERAS].get_weights())
        # That the models compute the same is checked by their losses.
        fusednorm.convert(models[kind], fuse=fuse, compare=False, verbose=False)
    return models


@dataclass(frozen=True)
class ModelJob:
    """A model with a dtype policy, to be measured.

    Attributes:
        name: Of the model.
        policy: Of Keras.
        modes: Of MODES.
        rounds: At most.
        machine: Where.
    """

    section = "models"

    name: str
    policy: str
    modes: Sequence[str]
    rounds: int
    machine: Machine

    def __str__(self) -> str:
        """As the progress line shows it."""
        return f"{self.name} {self.policy}"

    @property
    def labels(self) -> list[dict[str, str]]:
        """Shape, dtype and pass of the one entry."""
        return [{"shape": self.name, "dtype": self.policy, "pass": STEP}]

    @property
    def estimate(self) -> float:
        """Seconds, more or less: XLA compiles for longest."""
        return sum({"graph": 15.0, "xla": 45.0}[mode] for mode in self.modes)

    def needed_bytes(self) -> int:
        """Returns nothing: nobody knows before the models are there."""
        return 0

    def measure(self, bandwidth: float) -> list[dict[str, Any]]:
        """Returns the entry of the model."""
        import numpy as np
        import tensorflow as tf

        models = models_of(self.name, self.policy, gpu=self.machine.is_gpu)
        batch = NETWORKS[self.name].size(gpu=self.machine.is_gpu)["batch"]
        shape = (batch, *models[KERAS].input_shape[1:])
        with tf.device(self.machine.tensorflow_device):
            x = tf.constant(np.random.default_rng(5).standard_normal(shape, np.float32))
        weights = {
            kind: [tf.identity(each.value) for each in model.trainable_variables]
            for kind, model in models.items()
        }
        entry: dict[str, Any] = {
            **self.labels[0],
            "input": list(shape),
            "parameters": models[KERAS].count_params(),
            "converted": {kind: converted(models[kind]) for kind in (OURS, FUSED)},
            "absent": {},
        }
        results: dict[str, dict[str, Any]] = {}
        losses: dict[str, list[float]] = {}
        tasks = []
        for mode in self.modes:
            for kind, model in models.items():
                label = f"{kind}-{mode}"
                step = training_step(model, xla=mode == "xla")
                for variable, value in zip(
                    model.trainable_variables, weights[kind], strict=True
                ):
                    variable.assign(value)
                # The function keeps the step of this round of the loop.
                call = lambda _, step=step: step(x)  # noqa: E731
                try:
                    first, losses[label], estimate = self._start(call)
                    peak = self.machine.peak_extra_bytes(lambda call=call: call(0))
                except (tf.errors.OpError, MemoryError) as error:
                    entry["absent"][label] = f"failed: {one_line(error)}"
                    continue
                results[label] = {"first_call_ms": first, "peak_extra_bytes": peak}
                tasks.append(timing.Task(label, call, 1, estimate))
        times = timing.measure(
            tasks,
            rounds=self.rounds,
            seconds=30,
            call_seconds=0.05,
            synchronize=self.machine.synchronize,
        )
        for label, each in times.items():
            results[label] |= timing.summary(each)
            kind, mode = label.split("-")
            without = times.get(f"{NONE}-{mode}")
            if kind != NONE and without:
                results[label]["share_in_norms"] = share_in_norms(each, without)
        for label in results:
            if (
                not label.startswith(KERAS)
                and f"keras-{label.split('-')[1]}" in results
            ):
                results[label]["against"] = f"keras-{label.split('-')[1]}"
        return [
            {
                **entry,
                "first_losses": {
                    label: each
                    for label, each in losses.items()
                    if not label.startswith(NONE)
                },
                "wrong": wrong_losses(losses, TOLERANCES[self.policy]),
                "results": results,
            }
        ]

    def _start(self, call: Callable[[int], Any]) -> tuple[float, list[float], float]:
        """Makes the first steps: ms of the first, all losses, seconds of the last."""
        losses, seconds = [], []
        for _ in range(FIRST_STEPS):
            begin = time.perf_counter()
            losses.append(float(call(0)))
            seconds.append(time.perf_counter() - begin)
        return seconds[0] * 1e3, losses, seconds[-1]


def converted(model: Any) -> dict[str, int]:
    """Returns how many layers a conversion replaced, and how many it left."""
    changes = model.fusednorm_conversion
    return {"replaced": len(changes.replaced), "left": len(changes.left)}


def share_in_norms(times: Sequence[float], without: Sequence[float]) -> float:
    """Returns the median share of steps that is lost without norms, round by round."""
    shares = [1 - b / a for a, b in zip(times, without, strict=True)]
    return timing.quartiles(shares)[1]


def wrong_losses(losses: dict[str, list[float]], tolerance: float) -> list[str]:
    """Returns whose first losses differ from those with Keras's norms in a graph."""
    reference = losses.get(f"{KERAS}-graph") or losses.get(f"{KERAS}-xla")
    if reference is None:
        return []
    size = max(map(abs, reference))
    return [
        label
        for label, found in losses.items()
        if not label.startswith(NONE)
        # A NaN is no nearer than the tolerance, hence `not ... <=`.
        and not all(
            abs(a - b) <= tolerance * size
            for a, b in zip(found, reference, strict=True)
        )
    ]
