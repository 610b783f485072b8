"""The command line, and what importing does: with, without and beside TensorFlow."""

import json
import shutil
from pathlib import Path

import fusednorm
import keras
import pytest
import tensorflow as tf
from fusednorm import _build_info, _native, cli, info
from support import forks
from support.commands import WITHOUT_TENSORFLOW, output, python

PACKAGE = Path(fusednorm.__file__).parent
OPS = "libfusednorm_ops.so"
LIBRARY = Path(_build_info.__file__).with_name(OPS)
REBUILD = "pip install --no-cache-dir --force-reinstall --no-deps ."


def last_error(code, python=python, **environment):
    """Returns the text of the exception that ends a Python process."""
    done = python("-c", code, **environment)
    assert done.returncode == 1, done.stderr
    return done.stderr.rpartition("\nImportError: ")[2]


@pytest.fixture
def doctored(tmp_path):
    """Returns how to make a copy of the package, changed, and to run Python with it."""

    def make(*ignored, inside=".", **constants):
        copied = tmp_path / inside / "fusednorm"
        shutil.copytree(
            PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__", *ignored)
        )
        with (copied / "_build_info.py").open("a") as build_info:
            build_info.writelines(f"{k} = {v!r}\n" for k, v in constants.items())
        return {"PYTHONPATH": str(copied.parent)}

    return make


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--help"], "usage: fusednorm "),
        (["info", "--help"], "usage: fusednorm info "),
        (["--version"], f"fusednorm {fusednorm.__version__}\n"),
    ],
)
def test_command_line(arguments, printed, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(printed)


@pytest.mark.parametrize("arguments", [[], ["inform"], ["info", "--xml"]])
def test_wrong_command_line(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: fusednorm ")


def test_info_as_json(capsys):
    assert cli.main(["info", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fusednorm"]["version"] == fusednorm.__version__
    assert report["fusednorm"]["compiler"] == _build_info.COMPILER
    tensorflow = report["tensorflow"]
    assert tensorflow["built_against"] == _build_info.TENSORFLOW_VERSION
    assert tensorflow["running"] == tf.__version__
    assert tensorflow["error"] is None
    assert [device["name"] for device in tensorflow["devices"]] == [
        device.name for device in tf.config.list_physical_devices()
    ]
    xla = ["CPU"] if _build_info.CUDA_VERSION is None else ["CPU", "GPU"]
    assert tensorflow["xla"] == xla
    assert report["keras"] == {
        "running": keras.__version__,
        "backend": "tensorflow",
        "error": None,
    }
    assert report["cpu"]["instruction_set"] == _native.isa()
    assert report["cpu"]["available"] == list(_native.isas())
    assert report["cuda"]["version"] == _build_info.CUDA_VERSION
    assert report["cuda"]["architectures"] == _build_info.CUDA_ARCHITECTURES
    assert report["libraries"] == {
        "package": str(PACKAGE),
        "op_library": {"path": str(LIBRARY), "error": None},
        "native_module": {"path": _native.__file__, "error": None},
    }


def test_info_as_text():
    text = output("-m", "fusednorm", "info", FUSEDNORM_ISA="baseline")
    lines = {line[:20].strip(): line[20:] for line in text.splitlines()}
    assert lines["fusednorm"].startswith(f"{fusednorm.__version__} (")
    assert lines["TensorFlow"] == (
        f"{tf.__version__} (built against {_build_info.TENSORFLOW_VERSION})"
    )
    assert lines["Keras"] == f"{keras.__version__} (backend tensorflow)"
    assert lines["XLA kernels"].startswith("CPU")
    assert lines["Instruction set"].startswith("baseline (usable here: ")
    assert lines["Instruction set"].endswith("; FUSEDNORM_ISA=baseline)")
    assert "CUDA" in lines
    assert lines["Op library"] == str(LIBRARY)
    assert lines["Native module"] == _native.__file__


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ("8.6", ["80", "90"], True),  # machine code of an earlier minor version
        ("8.0", ["86"], False),  # but not of a later one
        ("8.9", ["75", "90"], False),  # nor of another major one
        ("12.0", ["75", "90"], True),  # PTX of the newest
        ("12.1", ["100", "120"], True),
        ("7.0", ["75", "120"], False),
        ("9.0", [], False),
    ],
)
def test_info_says_which_devices_the_buildhas_code_for(capability, architectures, runs):
    report = info.collect()
    device = {
        "name": "GPU",
        "compute_capability": capability,
        "memory_bytes": 2**34,
        "multiprocessors": 40,
    }
    report["cuda"] |= {
        "version": "13.0",
        "architectures": architectures,
        "devices": [device],
    }
    (line,) = (
        line
        for line in info.render(report).splitlines()
        if "compute capability" in line
    )
    expected = f"GPU, compute capability {capability}, 16 GiB, 40 multiprocessors"
    assert line.split(maxsplit=1)[1] == expected + (
        "" if runs else "; no code for it built"
    )


# ---------------------------------------------------------------- another TensorFlow

OTHER = "2.1.7"
DOES_NOT_FIT = (
    f"fusednorm was built against TensorFlow {OTHER} and cannot run with the installed "
    f"TensorFlow {tf.__version__}. Either install a matching TensorFlow:\n"
    '    pip install "tensorflow==2.1.*"\n'
    "or rebuild fusednorm against the installed one, in its source checkout:\n"
    f"    {REBUILD}\n"
)


def test_import_names_both_versions_when_they_do_not_fit(doctored):
    environment = doctored("*.so", TENSORFLOW_VERSION=OTHER)
    assert last_error("import fusednorm", **environment) == DOES_NOT_FIT


def test_info_reports_a_tensorflow_that_does_not_fit(doctored):
    environment = doctored(OPS, TENSORFLOW_VERSION=OTHER)
    report = json.loads(output("-m", "fusednorm", "info", "--json", **environment))
    assert report["tensorflow"] == {
        "built_against": OTHER,
        "running": tf.__version__,
        "devices": [],
        "xla": [],
        "error": f"ImportError: {DOES_NOT_FIT.strip()}",
    }
    assert report["libraries"]["op_library"]["error"] == "not tried, see TensorFlow"
    assert report["cpu"]["available"] == list(_native.isas())


def test_import_loads_the_op_library_also_of_another_patch_release(doctored):
    minor = _build_info.TENSORFLOW_VERSION.rpartition(".")[0]
    environment = doctored(TENSORFLOW_VERSION=f"{minor}.99")
    # What is loaded into a process is in its memory map.
    code = (
        "import sys, numpy, tensorflow\n"
        f"loaded = lambda: {OPS!r} in open('/proc/self/maps').read()\n"
        "before = loaded()\n"
        "import fusednorm\n"
        "print(before, loaded(), fusednorm.rms_norm([[0.0]]).numpy())\n"
        # Weights of PyTorch need no PyTorch.
        "fusednorm.torch_weights({'weight': numpy.ones(2)})\n"
        "print('torch' in sys.modules)"
    )
    assert forks.output("-c", code, **environment) == "False True [[0.]]\nFalse\n"


# ---------------------------------------------------------------- missing parts


def test_missing_op_library_is_a_readable_error(doctored, tmp_path):
    code = (
        "import fusednorm\n"
        "layer = fusednorm.RMSNormalization()\n"
        "layer.build((None, 4))\n"
        "print('still fine')\n"
        "fusednorm.rms_norm([[1.0, 2.0]])"
    )
    done = forks.python("-c", code, **doctored(OPS))
    assert done.stdout == "still fine\n"
    assert done.returncode == 1
    assert done.stderr.endswith(
        "\nImportError: fusednorm's op library is missing: "
        f"{tmp_path / 'fusednorm' / OPS}. Reinstall the package; in a source "
        "checkout:\n    pip install --force-reinstall --no-deps .\n"
    )


def test_missing_module_is_a_readable_error(doctored):
    environment = doctored("_native*.so")
    code = "import fusednorm; fusednorm.load_op_library()"
    assert last_error(code, forks.python, **environment) == (
        "fusednorm's module fusednorm._native is missing or does not load. Reinstall "
        "the package; in a source checkout:\n"
        "    pip install --force-reinstall --no-deps .\n"
        "Python says: cannot import name '_native' from 'fusednorm' "
        f"({environment['PYTHONPATH']}/fusednorm/__init__.py)\n"
    )


def test_unbuilt_package_is_a_readable_error(doctored, tmp_path):
    environment = doctored("*.so")
    (tmp_path / "fusednorm" / "_build_info.py").unlink()
    assert last_error("import fusednorm", **environment) == (
        "fusednorm has not been built: its compiled libraries are missing from "
        f"{tmp_path / 'fusednorm'}. In a source checkout, build and install it with:\n"
        "    pip install .\n"
    )


DISABLED = (
    "fusednorm's op library is switched off by FUSEDNORM_DISABLE in the environment; "
    "its functions and layers run as plain TensorFlow ops."
)


# One process imports each copy of the package in turn.
DISABLED_PROGRAM = f"""
import json, sys, numpy as np

for folder in sys.argv[1:]:
    for name in [name for name in sys.modules if name.startswith("fusednorm")]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    import fusednorm
    from fusednorm import info

    x = np.array([[1, 3], [5, 5]], np.float32)
    y = fusednorm.layer_norm(x, epsilon=0.0)
    z = fusednorm.LayerNormalization(epsilon=0.0)(x)
    try:
        fusednorm.load_op_library()
    except ImportError as error:
        message = str(error)
    print(json.dumps({{
        "package": fusednorm.__path__[0],
        "y": y.numpy().tolist(),
        "z": z.numpy().tolist(),
        "message": message,
        "loaded": {OPS!r} in open("/proc/self/maps").read(),
        "library": info.collect()["libraries"]["op_library"]["error"],
    }}))
"""


def test_disabled_ops_are_not_loaded_and_not_missed(doctored, tmp_path):
    copies = {
        "whole": ((), _build_info.TENSORFLOW_VERSION),  # nothing is wrong
        "other": (("*.so",), OTHER),  # no library, and one for another TensorFlow
        "without": (("*.so",), None),  # a build without TensorFlow
    }
    for name, (ignored, built_against) in copies.items():
        doctored(*ignored, inside=name, TENSORFLOW_VERSION=built_against)
    folders = [tmp_path / name for name in copies]
    printed = forks.output("-c", DISABLED_PROGRAM, *folders, FUSEDNORM_DISABLE="1")
    reports = [json.loads(line) for line in printed.splitlines()]
    assert reports == [
        {
            "package": str(folder / "fusednorm"),
            "y": [[-1, 1], [0, 0]],
            "z": [[-1, 1], [0, 0]],
            "message": DISABLED,
            "loaded": False,
            "library": f"ImportError: {DISABLED}",
        }
        for folder in folders
    ]


@pytest.mark.parametrize("value", ["", "0"])
def test_ops_are_not_disabled_by(value):
    code = WITHOUT_TENSORFLOW + (
        "from fusednorm import _compat; print(_compat.OPS_DISABLED)"
    )
    assert output("-c", code, FUSEDNORM_DISABLE=value) == "False\n"


# ---------------------------------------------------------------- no TensorFlow


def test_native_module_needs_no_tensorflow():
    code = WITHOUT_TENSORFLOW + (
        "import fusednorm, fusednorm._native, numpy as np\n"
        "x = np.array([[1, 3], [5, 5]], np.float32)\n"
        "y, _, mean, _ = fusednorm._native.forward(\n"
        "    'layer_norm', x, axes=[-1], epsilon=0.0625)\n"
        "print(fusednorm.__version__, mean.tolist(), y[1].tolist())\n"
        "print({'keras', 'fusednorm.ops'} & set(sys.modules))"
    )
    assert output("-c", code) == (
        f"{fusednorm.__version__} [2.0, 5.0] [0.0, 0.0]\nset()\n"
    )


@pytest.mark.parametrize("name", ["LayerNormalization", "group_norm", "ops"])
def test_other_names_say_that_they_need_tensorflow(name):
    minor = _build_info.TENSORFLOW_VERSION.rpartition(".")[0]
    code = WITHOUT_TENSORFLOW + f"import fusednorm; fusednorm.{name}"
    assert last_error(code) == (
        f"fusednorm.{name} needs TensorFlow, which is not installed. Install the "
        "version fusednorm was built against:\n"
        f'    pip install "tensorflow=={minor}.*"\n'
    )


def test_a_build_without_tensorflow_imports_beside_one(doctored):
    environment = doctored(OPS, TENSORFLOW_VERSION=None)
    code = "import sys, fusednorm._native; print('tensorflow' in sys.modules)"
    assert output("-c", code, **environment) == "False\n"
    text = last_error("import fusednorm; fusednorm.rms_norm", **environment)
    assert text == (
        "fusednorm.rms_norm needs TensorFlow, and this fusednorm was built without it. "
        "Install TensorFlow, then rebuild fusednorm from its source checkout:\n"
        f"    {REBUILD}\n"
    )


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'batch_norm'"):
        fusednorm.batch_norm  # noqa: B018
    assert {"LayerNormalization", "ops", "__version__"} <= set(dir(fusednorm))
