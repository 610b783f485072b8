"""Layers and conversion under TF_USE_LEGACY_KERAS: their tests again, with tf_keras."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

TESTS = Path(__file__).parents[1]
# Those that import no Keras of their own, for four processes.
MODULES = (
    ("layers/test_layers", "layers/test_layer_residual", "layers/test_modulation"),
    (
        "layers/test_running_statistics",
        "layers/test_filter_response",
        "layers/test_peer_behaviours",
    ),
    ("conversion/test_convert", "layers/test_masks"),
    ("conversion/test_convert_state", "conversion/test_convert_faults"),
)


def legacy(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("modules", MODULES, ids=lambda modules: Path(modules[0]).name)
def test_layers_do_all_that_they_do_in_keras_3(modules):
    tests = [str(TESTS / f"{name}.py") for name in modules]
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--tb=short"]
    done = legacy("-m", "pytest", *options, *tests)
    assert done.returncode == 0, done.stdout


def test_are_those_of_tf_keras():
    code = (
        "import fusednorm, tensorflow as tf, tf_keras\n"
        "assert issubclass(fusednorm.RMSNormalization, tf_keras.layers.Layer)\n"
        "assert issubclass(fusednorm.RMSNormalization, tf.keras.layers.Layer)\n"
        "from fusednorm import info\n"
        "assert info.collect()['keras']['running'] == tf_keras.__version__\n"
    )
    done = legacy("-c", code)
    assert done.returncode == 0, done.stderr


def test_missing_tf_keras_is_a_readable_error():
    done = legacy("-c", "import sys; sys.modules['tf_keras'] = None; import fusednorm")
    minor = ".".join(tf.__version__.split(".")[:2])
    assert done.stderr.endswith(
        "\nImportError: TF_USE_LEGACY_KERAS is set in the environment, so fusednorm's "
        "layers are for tf_keras, which cannot be imported. Install it:\n"
        f'    pip install "tf_keras=={minor}.*"\n'
        "or unset TF_USE_LEGACY_KERAS to use Keras 3.\n"
    )
