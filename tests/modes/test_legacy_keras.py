"""Layers and conversion under TF_USE_LEGACY_KERAS: their tests again, with tf_keras."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

TESTS = Path(__file__).parents[1]
# Those that import no Keras of their own, for two processes; and the tests of each, or
# their parameters, that are left out. They compute in the same ops whatever Keras it
# is, or are beside others of their kind that stay: of models that are trained or
# exported, which takes most of the time, one of each kind does.
PROCESSES = {
    "layers": {
        "layers/test_layers": (
            "test_trains_as_keras_does[LayerNormalization",
            "test_trains_in_mixed_precision[mixed_bfloat16",
            "test_keras_file_loads_where_fusednorm_is_only_imported",
        ),
        "layers/test_layer_residual": (),
        "layers/test_modulation": (
            "test_values_and_gradients",
            "test_dtypes",
            "test_under_xla_and_with_unknown_sizes",
        ),
        "layers/test_running_statistics": (
            "test_inference_applies_the_running_statistics[True",
            "test_training_computes_what_a_layer_without_them_does[silu",
            "test_training_updates_the_running_statistics[0.0",
            "test_training_updates_the_running_statistics[1.0",
        ),
        "layers/test_filter_response": (
            "test_values_and_gradients",
            "test_only_the_result_is_rounded",
            "test_portable_and_compiled_layers_agree",
            "test_saves_trains_and_exports[{}]",
        ),
        "layers/test_peer_behaviours": (
            "test_rms_over_any_axes_saves_and_trains[1]",
            "test_rms_over_any_axes_saves_and_trains[[-1",
            "test_rms_over_any_axes_saves_and_trains[(2",
            "test_trains_alike_however_it_runs",
        ),
        "layers/test_masks": ("TestFunctions",),
        "layers/test_checked_once": (),
    },
    "conversion": {
        "conversion/test_convert": (
            *(
                f"test_training_goes_on_where_it_was[{kind}]"
                for kind in ("nested", "sequential", "subclassed")
            ),
            *(
                f"test_a_norm_takes_the_activation_after_it[{kind}-{name}"
                for kind in ("added", "functional")
                for name in ("gelu", "tanh", "ReLU", "LeakyReLU")
            ),
        ),
        "conversion/test_convert_state": (),
        "conversion/test_convert_faults": (),
    },
}
# Of tests that skip with tf_keras.
REASONS = (
    "tf_keras has nothing like it",
    "tf_keras has no RMSNormalization",
    "tf_keras gives no masks to calls with two tensors",
    "of Keras 3",
    "needs PyTorch",
)


def legacy(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("process", PROCESSES)
def test_layers_do_all_that_they_do_in_keras_3(process):
    files = {TESTS / f"{name}.py": out for name, out in PROCESSES[process].items()}
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--tb=short", "-rs"]
    options += [f"--rootdir={TESTS}"]
    for file, left_out in files.items():
        for name in left_out:
            options.append(f"--deselect={file.relative_to(TESTS)}::{name}")
    done = legacy("-m", "pytest", *options, *map(str, files))
    assert done.returncode == 0, done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    for line in skipped:
        assert any(reason in line for reason in REASONS), line


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
