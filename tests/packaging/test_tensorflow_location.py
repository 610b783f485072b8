"""The TensorFlow that a build picks, from fake `site-packages` folders."""

import site
import sys
import types

import fusednorm_build
import pytest
import tensorflow_location

NO_PLUGIN_REQUIREMENTS = {
    "get_requires_for_build_wheel": lambda _: ["ninja"],
    "get_requires_for_build_editable": lambda _: ["ninja"],
}


@pytest.fixture
def search_path(tmp_path, monkeypatch):
    """Two empty folders, the only ones that are searched."""
    for name in ("DIR", "VERSION"):
        monkeypatch.delenv(f"FUSEDNORM_TENSORFLOW_{name}", raising=False)
    folders = [tmp_path / "first", tmp_path / "second"]
    monkeypatch.setattr(tensorflow_location, "_search_path", lambda: iter(folders))
    for name, hook in NO_PLUGIN_REQUIREMENTS.items():
        monkeypatch.setattr(fusednorm_build.build_meta, name, hook)
    return folders


@pytest.mark.parametrize(
    ("distribution", "version", "requirement"),
    [
        ("tensorflow", "2.20.0", "tensorflow==2.20.*"),
        ("tensorflow", "2.21.1", "tensorflow==2.21.*"),
        ("tensorflow", "2.21.0rc1", "tensorflow==2.21.*"),
        ("tensorflow-cpu", "2.21.0", "tensorflow-cpu==2.21.*"),
    ],
)
def test_found(make_tensorflow, search_path, distribution, version, requirement):
    folder = make_tensorflow(search_path[1], version, distribution)
    found = tensorflow_location.find()
    assert found == tensorflow_location.TensorFlow(folder, distribution, version)
    assert found.requirement == requirement


def test_first_on_the_path_counts(make_tensorflow, search_path):
    make_tensorflow(search_path[0], "2.20.0")
    make_tensorflow(search_path[1], "2.21.0")
    assert tensorflow_location.find().version == "2.20.0"


@pytest.mark.parametrize("wanted", ["2.21", "2.21.0"])
def test_wanted_version_is_searched_for(
    make_tensorflow, search_path, monkeypatch, wanted
):
    make_tensorflow(search_path[0], "2.20.0")
    make_tensorflow(search_path[1], "2.21.0")
    monkeypatch.setenv("FUSEDNORM_TENSORFLOW_VERSION", wanted)
    assert tensorflow_location.find().version == "2.21.0"


def test_named_folder_comes_first(make_tensorflow, search_path, monkeypatch, tmp_path):
    make_tensorflow(search_path[0], "2.21.0")
    folder = make_tensorflow(tmp_path / "named", "2.20.0")
    monkeypatch.setenv("FUSEDNORM_TENSORFLOW_DIR", str(folder))
    assert tensorflow_location.find().folder == folder


def test_named_folder_without_tensorflow(search_path, monkeypatch, tmp_path):
    monkeypatch.setenv("FUSEDNORM_TENSORFLOW_DIR", str(tmp_path))
    with pytest.raises(tensorflow_location.TensorFlowError) as error:
        tensorflow_location.find()
    assert str(error.value) == (
        "FUSEDNORM_TENSORFLOW_DIR must be the folder of an installed TensorFlow, like "
        ".../site-packages/tensorflow, with its `.dist-info` folder beside it. "
        f"Received: {tmp_path}"
    )


@pytest.mark.parametrize("version", ["2.19.1", "2.22.0", "2.2.0"])
def test_unsupported_version(make_tensorflow, search_path, version):
    make_tensorflow(search_path[0], version)
    with pytest.raises(tensorflow_location.TensorFlowError) as error:
        tensorflow_location.find()
    assert str(error.value) == (
        f"fusednorm supports TensorFlow 2.20 and 2.21, but found tensorflow {version} "
        f"in {search_path[0]}. Install a supported version, e.g. pip install "
        '"tensorflow>=2.20,<2.22", or set FUSEDNORM_TENSORFLOW_DIR to the folder of '
        "one, like .../site-packages/tensorflow."
    )


def test_unsupported_wanted_version(search_path, monkeypatch):
    monkeypatch.setenv("FUSEDNORM_TENSORFLOW_VERSION", "2.19")
    with pytest.raises(tensorflow_location.TensorFlowError) as error:
        tensorflow_location.find()
    assert str(error.value) == (
        "FUSEDNORM_TENSORFLOW_VERSION must be 2.20 or 2.21, or a release of one of "
        "them. Received: 2.19"
    )


def test_folder_without_headers_is_no_tensorflow(search_path):
    (search_path[0] / "tensorflow").mkdir(parents=True)
    assert tensorflow_location.find() is None


@pytest.mark.parametrize(
    ("wanted", "requirement"),
    [
        ("", "tensorflow==2.21.*"),
        ("2.20", "tensorflow==2.20.*"),
        ("2.20.0", "tensorflow==2.20.0"),
    ],
)
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_build_requires_tensorflow_where_none_is(
    search_path, monkeypatch, kind, wanted, requirement
):
    monkeypatch.setenv("FUSEDNORM_TENSORFLOW_VERSION", wanted)
    hook = getattr(fusednorm_build, f"get_requires_for_build_{kind}")
    assert hook() == ["ninja", requirement]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_build_uses_the_tensorflow_that_is(make_tensorflow, search_path, kind):
    make_tensorflow(search_path[1], "2.21.0")
    hook = getattr(fusednorm_build, f"get_requires_for_build_{kind}")
    assert hook() == ["ninja"]


@pytest.mark.parametrize(
    ("place", "configuration"),
    [
        ("environment", "include-system-site-packages = false"),
        ("system", "include-system-site-packages = true"),
        ("activated", "include-system-site-packages = false"),
    ],
)
def test_isolated_build_searches_what_is_hidden_from_it(
    make_tensorflow, tmp_path, monkeypatch, place, configuration
):
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "pyvenv.cfg").write_text(configuration)
    interpreter = types.SimpleNamespace(
        path=[], prefix=str(environment), base_prefix=str(tmp_path / "system")
    )
    monkeypatch.setattr(tensorflow_location, "sys", interpreter)
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(tmp_path / "user"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "activated"))
    for name in ("DIR", "VERSION"):
        monkeypatch.delenv(f"FUSEDNORM_TENSORFLOW_{name}", raising=False)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = tmp_path / place / "lib" / python / "site-packages"
    folder = make_tensorflow(site_packages, "2.21.0")
    assert tensorflow_location.find().folder == folder
