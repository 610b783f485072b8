"""What exported models run in: each one loaded by a process of its own.

One model has all four layers side by side.
"""

import json
import shutil
import subprocess
from pathlib import Path

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from fusednorm._library import library_path
from support import forks
from tensorflow.core.protobuf import saved_model_pb2

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve_saved_model.c"
TENSORFLOW = Path(tf.__file__).parent
# Without fusednorm nothing registers them.
UNREGISTERED = "Op type not registered 'Fusednorm>"

# Two float32 computations of the model agree to this. No intermediate exceeds 16
# (|xhat| <= sqrt(8), |gamma| and |beta| <= 2), and each makes fewer than 12 roundings
# of 2^-24 of it.
AGREE = 2 * 12 * 16 * 2.0**-24
# With gamma and beta rounded to float16, of 2^-11: xhat * gamma + beta is at most
# 2 (1 + sqrt(8)), and the slope of an activation at most 1.13.
AGREE_FLOAT16 = AGREE + 1.13 * 2 * (1 + 8**0.5) * 2.0**-11


def fused_ops(saved_model):
    """Returns the names of our ops in a SavedModel."""
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((saved_model / "saved_model.pb").read_bytes())
    graphs = [graph.graph_def for graph in proto.meta_graphs]
    nodes = [
        *(node for graph in graphs for node in graph.node),
        *(n for graph in graphs for f in graph.library.function for n in f.node_def),
    ]
    return {node.op for node in nodes if node.op.startswith("Fusednorm>")}


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    x = keras.Input((None, 8))
    norms = [
        fusednorm.GroupNormalization(groups=4, activation="silu"),
        fusednorm.InstanceNormalization(activation="leaky_relu"),
        fusednorm.LayerNormalization(activation="gelu"),
        fusednorm.RMSNormalization(zero_centered=True, activation="tanh"),
    ]
    model = keras.Model(x, keras.layers.Concatenate()([norm(x) for norm in norms]))
    for weight in model.weights:
        weight.assign(rng.uniform(-2, 1, weight.shape))
    # Both leave traced functions behind, with the fused ops in them.
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(np.zeros((1, 5, 8)), np.zeros((1, 5, 32)), verbose=0)
    model.predict(np.zeros((1, 5, 8)), verbose=0)
    return model


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).uniform(-2, 2, (2, 5, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def fused(model, x, tmp_path_factory):
    """A folder with the model as it is, and what it computes."""
    path = tmp_path_factory.mktemp("fused")
    model.export(path / "export", verbose=False)
    tf.saved_model.save(model, str(path / "save"))
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.__call__, [tf.TensorSpec([None, None, 8])])
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    archive.write_out(str(path / "custom_gradients"), options, verbose=False)
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = model(inputs)
    gradients = tape.gradient(y, [inputs, *model.trainable_variables])
    names = ["x", *(each.path for each in model.trainable_variables)]
    np.savez(path / "gradients.npz", **dict(zip(names, gradients, strict=True)))
    np.save(path / "x.npy", x)
    np.save(path / "y.npy", y)
    return path


@pytest.fixture(scope="module")
def portable(model, x, tmp_path_factory):
    """A folder with the model in every portable format."""
    path = tmp_path_factory.mktemp("portable")
    with fusednorm.portable():
        model.export(path / "export", verbose=False)
        tf.saved_model.save(model, str(path / "save"))
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        (path / "float32.tflite").write_bytes(converter.convert())
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        (path / "float16.tflite").write_bytes(converter.convert())
        model.export(path / "keras.tflite", format="litert", verbose=False)
    np.save(path / "x.npy", x)
    np.save(path / "y.npy", model(x))
    return path


# ---------------------------------------------------------------- with our ops


def test_saved_models_with_our_ops_load_after_the_import(fused):
    code = (
        "import sys, fusednorm, numpy as np, tensorflow as tf\n"
        "path = sys.argv[1]\n"
        "x = tf.constant(np.load(path + '/x.npy'))\n"
        "y = np.load(path + '/y.npy')\n"
        "expected = np.load(path + '/gradients.npz')\n"
        "load = lambda name: tf.saved_model.load(f'{path}/{name}')\n"
        "loaded = load('save')\n"
        "result = loaded.signatures['serving_default'](x).popitem()[1]\n"
        "np.testing.assert_array_equal(result, y)\n"
        "for name in ('export', 'custom_gradients'):\n"
        "    loaded = load(name)\n"
        "    with tf.GradientTape() as tape:\n"
        "        tape.watch(x)\n"
        "        result = loaded.serve(x)\n"
        "    np.testing.assert_array_equal(result, y)\n"
        "    variables = loaded.trainable_variables\n"
        "    gradients = tape.gradient(result, [x, *variables])\n"
        "    for got, want in zip(gradients, expected.values(), strict=True):\n"
        "        np.testing.assert_array_equal(got, want)\n"
        # One step down the gradient of a loss, as in fine-tuning.
        "    loss = lambda: tf.reduce_mean(loaded.serve(x) ** 2)\n"
        "    with tf.GradientTape() as tape:\n"
        "        before = loss()\n"
        "    for v, g in zip(variables, tape.gradient(before, variables)):\n"
        "        v.assign_sub(0.1 * g)\n"
        "    assert loss() < before, name\n"
    )
    forks.output("-c", code, fused)


def test_saved_model_cli_runs_our_ops(fused, x, tmp_path):
    # The command in docs/export.md.
    code = (
        "import fusednorm\n"
        "from tensorflow.python.tools.saved_model_cli import main; main()"
    )
    (name,) = (
        tf.saved_model.load(str(fused / "export"))
        .signatures["serving_default"]
        .structured_input_signature[1]
    )
    arguments = {
        "--dir": fused / "export",
        "--tag_set": "serve",
        "--signature_def": "serving_default",
        "--inputs": f"{name}={fused / 'x.npy'}",
        "--outdir": tmp_path,
    }
    options = (part for item in arguments.items() for part in item)
    forks.output("-c", code, "run", *options)
    (file,) = tmp_path.iterdir()
    np.testing.assert_array_equal(np.load(file), np.load(fused / "y.npy"))


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")
def test_c_program_runs_our_ops(fused, x, tmp_path):
    # The commands in docs/export.md. GNU ld takes four times as long.
    program = tmp_path / "serve_saved_model"
    command = ["gcc", "-Wall", "-Wextra", "-Werror", str(EXAMPLE), "-o", str(program)]
    if shutil.which("ld.gold"):
        command.append("-fuse-ld=gold")
    libraries = ["cc", "framework"]
    subprocess.run(
        [
            *command,
            f"-I{TENSORFLOW / 'include'}",
            f"-L{TENSORFLOW}",
            *(f"-l:libtensorflow_{name}.so.2" for name in libraries),
            f"-Wl,-rpath,{TENSORFLOW}",
        ],
        check=True,
    )
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((fused / "export" / "saved_model.pb").read_bytes())
    signature = proto.meta_graphs[0].signature_def["serving_default"]
    ((_, given),) = signature.inputs.items()
    ((_, taken),) = signature.outputs.items()
    operations = [each.name.partition(":")[0] for each in (given, taken)]
    done = subprocess.run(
        [program, fused / "export", library_path(), *operations, *map(str, x.shape)],
        input=x.tobytes(),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    y = np.load(fused / "y.npy")
    np.testing.assert_array_equal(np.frombuffer(done.stdout, y.dtype), y.ravel())


# ---------------------------------------------------------------- portable


def test_only_what_is_exported_within_portable_is_free_of_our_ops(fused, portable):
    ours = {"Fusednorm>GroupNorm", "Fusednorm>LayerNorm", "Fusednorm>RMSNorm"}
    for name in ("export", "save"):
        assert fused_ops(fused / name) == ours
        assert fused_ops(portable / name) == set()


@pytest.fixture(scope="module")
def errors_without_fusednorm(fused, portable):
    """Format -> the largest error where fusednorm cannot be imported, or the error."""
    code = (
        "import json, sys, numpy as np, tensorflow as tf\n"
        # To Python, a module that is None is one that is not installed.
        "sys.modules['fusednorm'] = None\n"
        "path, fused = sys.argv[1:]\n"
        "x, y = (np.load(f'{path}/{name}.npy') for name in 'xy')\n"
        "def signature(folder):\n"
        "    call = tf.saved_model.load(folder).signatures['serving_default']\n"
        "    return call(tf.constant(x)).popitem()[1]\n"
        "def tflite(file):\n"
        "    call = tf.lite.Interpreter(f'{path}/{file}').get_signature_runner()\n"
        "    (name,) = call.get_input_details()\n"
        "    return call(**{name: x}).popitem()[1]\n"
        "errors = {}\n"
        "try:\n"
        "    signature(fused + '/export')\n"
        "except Exception as error:\n"
        "    errors['fused'] = str(error)\n"
        "for name in ('export', 'save'):\n"
        "    errors[name] = float(np.abs(signature(f'{path}/{name}') - y).max())\n"
        "for name in ('float32', 'float16', 'keras'):\n"
        "    error = np.abs(tflite(name + '.tflite') - y).max()\n"
        "    errors[name + '.tflite'] = float(error)\n"
        "print(json.dumps(errors))"
    )
    return json.loads(forks.output("-c", code, portable, fused))


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("export", AGREE),
        ("save", AGREE),
        ("float32.tflite", AGREE),
        ("keras.tflite", AGREE),
        ("float16.tflite", AGREE_FLOAT16),
    ],
)
def test_runs_without_fusednorm(name, bound, errors_without_fusednorm):
    assert errors_without_fusednorm[name] <= bound


def test_our_ops_without_fusednorm_are_a_clear_error(errors_without_fusednorm):
    assert errors_without_fusednorm["fused"].startswith(UNREGISTERED)


def test_onnx_runs(model, x, tmp_path):
    why = 'needs {}: pip install "fusednorm[test]"'
    pytest.importorskip("tf2onnx", reason=why.format("tf2onnx"))
    runtime = pytest.importorskip("onnxruntime", reason=why.format("onnxruntime"))
    file = str(tmp_path / "model.onnx")
    with fusednorm.portable():
        model.export(file, format="onnx", verbose=False)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    (y,) = session.run(None, {given.name: x})
    np.testing.assert_allclose(y, model(x), rtol=0, atol=AGREE)
