"""KerasHub's norms and backbones, converted."""

import importlib
import inspect
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

pytest.importorskip("keras_hub", reason="needs KerasHub: the extra `hub`")
import fusednorm
from fusednorm.conversion import hub
from support import hub_backbones

WIDTH = 16
# The constructors' arguments that have no default.
ARGUMENTS = {"dim": WIDTH, "input_dim": WIDTH}
UNITS = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def class_named(name):
    module, _, cls = name.rpartition(".")
    return getattr(importlib.import_module(module), cls)


def layer_of(name, dtype):
    cls = class_named(name)
    taken = inspect.signature(cls.__init__).parameters
    given = {key: value for key, value in ARGUMENTS.items() if key in taken}
    if "kwargs" in taken:
        given["dtype"] = dtype
    layer = cls(**given)
    layer.build((None, 6, WIDTH))
    return layer


def exact(x, layer, rule):
    """Returns the class's formula in float64."""
    x = np.asarray(x, "float64")
    epsilon = rule.epsilon
    if isinstance(epsilon, str):
        epsilon = getattr(layer, epsilon)
    y = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + epsilon)
    for weight in layer.weights:
        y = y * (np.asarray(weight, "float64") + rule.zero_centered)
    return y


@pytest.mark.parametrize(
    ("name", "policy"),
    # In float32 and, in turn, in another type.
    [
        (name, policy)
        for i, name in enumerate(hub.RULES)
        for policy in ("float32", ("mixed_bfloat16", "mixed_float16")[i % 2])
    ],
    ids=lambda name: name.rpartition(".")[2],
)
def test_every_class_of_norms(name, policy):
    rng = np.random.default_rng(0)
    before_all = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)  # Some take no dtype.
    try:
        layer = layer_of(name, policy)
    finally:
        keras.config.set_dtype_policy(before_all)
    for weight in layer.weights:
        weight.assign(weight + rng.normal(size=weight.shape) / 4)
    x = ops.cast(3 * rng.normal(size=(4, 6, WIDTH)), layer.compute_dtype)
    before = layer(x)
    fusednorm.convert(layer, verbose=False)
    (row,) = layer.fusednorm_conversion.rows
    assert row.after == "fusednorm.RMSNormalization", row.why
    after = layer(x)
    assert after.dtype == before.dtype
    reference = exact(ops.cast(x, "float64"), layer, hub.RULES[name])

    def error(y):
        return np.max(np.abs(np.asarray(ops.cast(y, "float64")) - reference))

    # In float32, four roundings; then one to the type of the output.
    largest = np.max(np.abs(reference))
    bound = largest * (8 * UNITS["float32"] + UNITS[after.dtype.name])
    assert error(after) <= bound
    assert error(after) <= error(before) + 4 * largest * UNITS["float32"]
    fusednorm.unconvert(layer, verbose=False)
    assert type(layer) is class_named(name)
    again = layer(x)
    assert again.dtype == before.dtype
    assert np.array_equal(again, before)


def test_a_class_that_computes_something_else_is_left(monkeypatch):
    name = "keras_hub.src.models.llama.llama_layernorm.LlamaLayerNorm"
    cls = class_named(name)

    def call(self, x):
        return x * ops.rsqrt(ops.var(x, axis=-1, keepdims=True)) * self.scale

    monkeypatch.setattr(cls, "call", call)
    model = hub_backbones.backbone("Llama")
    fusednorm.convert(model, verbose=False)
    report = model.fusednorm_conversion
    assert report.by_class == {"LlamaLayerNorm": (0, 5)}
    assert all("outputs would differ by" in row.why for row in report.left)


# One backbone for each way of using norms, and one of them trained and saved. With
# FUSEDNORM_TEST_HUB=all it is all backbones, in ten minutes.
CONVERTED = [
    "Bart",
    "CLIP",
    "EdRec",
    "Flux",
    "Gemma",
    "Gemma3n",
    "Gemma4",
    "GptOss",
    "Llama",
    "MiT",
    "Mistral",
    "MobileNetV5",
    "Moonshine",
    "Phi3",
    "Qwen3",
    "Qwen3_5",
    "QwenMoe",
    "RWKV7",
    "RoformerV2",
    "SAM",
    "T5",
]
TRAINED = ["Qwen3"]
if os.environ.get("FUSEDNORM_TEST_HUB") == "all":
    CONVERTED = TRAINED = hub_backbones.NAMES


def floats(outputs):
    flat = [np.asarray(each) for each in keras.tree.flatten(outputs)]
    return [each for each in flat if each.dtype.kind == "f"]


def gap(ours, theirs):
    """Returns the largest difference, relative to the largest number of each."""
    return max(
        np.max(np.abs(a - b)) / (np.max(np.abs(b)) or 1)
        for a, b in zip(ours, theirs, strict=True)
    )


def gradients(model, inputs):
    """Returns the outputs and the gradients of what they weigh, by path of weight."""
    rng = np.random.default_rng(1)
    with tf.GradientTape() as tape:
        outputs = model(inputs)
        flat = [tf.cast(y, "float32") for y in keras.tree.flatten(outputs)]
        loss = sum(tf.reduce_sum(y * rng.normal(size=y.shape)) for y in flat)
    weights = [each.value for each in model.trainable_weights]
    found = tape.gradient(loss, weights)
    paths = [each.path for each in model.trainable_weights]
    return floats(outputs), {
        path: tf.convert_to_tensor(each).numpy()
        for path, each in zip(paths, found, strict=True)
        if each is not None
    }


@pytest.mark.parametrize("name", CONVERTED)
def test_backbone(name):
    model = hub_backbones.backbone(name)
    inputs = hub_backbones.random_inputs(model)
    before, slopes = gradients(model, inputs)
    paths = [each.path for each in model.weights]
    fusednorm.convert(model, inputs=inputs, verbose=False)
    report = model.fusednorm_conversion
    assert report.replaced
    for row in report.left:
        # SAM's mask decoder is not called by the graph of the backbone.
        assert name == "SAM"
        assert "is not built" in row.why
    assert [each.path for each in model.weights] == paths
    after, ours = gradients(model, inputs)
    # A few thousand float32 roundings, of which nothing is known but the outputs.
    assert gap(after, before) <= 1e-4
    assert ours.keys() == slopes.keys()
    largest = max(np.max(np.abs(each)) for each in slopes.values())
    assert all(
        np.max(np.abs(ours[path] - slopes[path])) <= 1e-4 * largest for path in slopes
    )
    fusednorm.unconvert(model, inputs=inputs, verbose=False)
    assert not model.fusednorm_conversion.left
    assert all(map(np.array_equal, floats(model(inputs)), before))


@pytest.mark.parametrize("name", TRAINED)
def test_backbone_is_trained_and_saved(name, tmp_path):
    model, inputs = hub_backbones.backbone(name), None
    inputs = hub_backbones.random_inputs(model)
    model.save(tmp_path / "original.keras")
    model.save_weights(tmp_path / "original.weights.h5")
    goals = keras.tree.map_structure(lambda y: np.zeros(y.shape), model(inputs))

    def trained(jit_compile, convert):
        each = keras.models.load_model(tmp_path / "original.keras")
        if convert:
            fusednorm.convert(each, inputs=inputs, verbose=False)
            each.load_weights(tmp_path / "original.weights.h5")
        each.compile("sgd", "mse", jit_compile=jit_compile)
        history = each.fit(inputs, goals, batch_size=2, verbose=0)
        return each, history.history["loss"], floats(each(inputs))

    _, loss, outputs = trained(False, False)
    for jit_compile in (False, True):
        ours, our_loss, our_outputs = trained(jit_compile, True)
        assert np.allclose(our_loss, loss, rtol=1e-4)
        assert gap(our_outputs, outputs) <= 1e-3
    # The layers that hold the norms make them again, as their own classes.
    ours.save(tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")
    assert gap(floats(again(inputs)), floats(ours(inputs))) <= 1e-4
    ours.save_weights(tmp_path / "ours.weights.h5")
    model.load_weights(tmp_path / "ours.weights.h5")
    assert gap(floats(model(inputs)), floats(ours(inputs))) <= 1e-4


@pytest.mark.parametrize("name", ["Flux", "Gemma3n", "MobileNetV5", "Qwen3"])
def test_backbone_made_within_patch(name):
    def made():
        keras.utils.set_random_seed(0)
        return hub_backbones.backbone(name)

    theirs = made()
    with fusednorm.patch_keras():
        ours = made()
    inputs = hub_backbones.random_inputs(theirs)
    assert all(map(np.array_equal, ours.get_weights(), theirs.get_weights()))
    assert gap(floats(ours(inputs)), floats(theirs(inputs))) <= 1e-4
    assert fusednorm.convert(ours, verbose=False).fusednorm_conversion.by_class == {}
    fusednorm.unconvert(ours, inputs=inputs, verbose=False)
    assert all(map(np.array_equal, floats(ours(inputs)), floats(theirs(inputs))))


def test_presets_are_those_of_the_original(tmp_path):
    model = hub_backbones.backbone("Qwen3")
    inputs = hub_backbones.random_inputs(model)
    before = floats(model(inputs))
    fusednorm.convert(model, inputs=inputs, verbose=False)
    model.save_to_preset(str(tmp_path))

    def loaded():
        found = hub_backbones.keras_hub.models.Backbone.from_preset(str(tmp_path))
        return found, found.get_layer("sequence_output_layernorm")

    theirs, norm = loaded()
    assert not isinstance(norm, fusednorm.RMSNormalization)
    assert all(map(np.array_equal, floats(theirs(inputs)), before))
    with fusednorm.patch_keras():
        ours, norm = loaded()
    assert isinstance(norm, fusednorm.RMSNormalization)
    assert all(map(np.array_equal, floats(ours(inputs)), floats(model(inputs))))


def test_text_is_generated_with_the_layers_of_now(monkeypatch):
    backbone = hub_backbones.backbone("Qwen3")
    model = hub_backbones.keras_hub.models.Qwen3CausalLM(
        backbone=backbone, preprocessor=None
    )
    model.compile(sampler="greedy")
    prompt = {
        "token_ids": np.full((1, 12), 3, "int32"),
        "padding_mask": np.arange(12)[None] < 4,
    }

    def generated():
        return model.generate(dict(prompt), stop_token_ids=None)["token_ids"]

    before = generated()
    fusednorm.convert(model, verbose=False)
    calls = []
    call = fusednorm.RMSNormalization.call
    monkeypatch.setattr(
        fusednorm.RMSNormalization,
        "call",
        lambda self, *given, **more: calls.append(1) or call(self, *given, **more),
    )
    assert np.array_equal(generated(), before)
    assert calls
