"""What the wheel requires is what it is compiled against."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fusednorm import _build_info

ROOT = Path(__file__).parents[2]
PROJECT_FILES = (
    "CMakeLists.txt",
    "LICENSE",
    "NOTICE",
    "README.md",
    "pyproject.toml",
    "setup.py",
)
PREPARE_METADATA = """
import sys
sys.path.insert(0, "build_backend")
import fusednorm_build
fusednorm_build.prepare_metadata_for_build_wheel(sys.argv[1])
"""


def prepare_metadata(
    tmp_path: Path, **environment: str
) -> importlib.metadata.Distribution:
    """Runs the backend's metadata hook in a copy of the project's own files."""
    project = tmp_path / "project"
    project.mkdir()
    for name in PROJECT_FILES:
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "build_backend", project / "build_backend")
    (project / "python" / "fusednorm").mkdir(parents=True)
    metadata = tmp_path / "metadata"
    metadata.mkdir()
    subprocess.run(
        [sys.executable, "-c", PREPARE_METADATA, str(metadata)],
        cwd=project,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    (dist_info,) = metadata.glob("*.dist-info")
    return importlib.metadata.Distribution.at(dist_info)


@pytest.mark.parametrize("minor", ["2.20", "2.21"])
def test_requires_the_tensorflow_of_the_build(make_tensorflow, tmp_path, minor):
    folder = make_tensorflow(tmp_path / "site-packages", f"{minor}.0")
    distribution = prepare_metadata(tmp_path, FUSEDNORM_TENSORFLOW_DIR=str(folder))
    assert f"tensorflow=={minor}.*" in distribution.requires


def test_version_is_said_once(make_tensorflow, tmp_path):
    folder = make_tensorflow(tmp_path / "site-packages", "2.21.0")
    distribution = prepare_metadata(tmp_path, FUSEDNORM_TENSORFLOW_DIR=str(folder))
    assert distribution.version == _build_info.VERSION


def test_installed_wheel_requires_what_it_was_compiled_against():
    minor = ".".join(_build_info.TENSORFLOW_VERSION.split(".")[:2])
    requires = importlib.metadata.requires("fusednorm")
    assert any(
        requirement.startswith("tensorflow") and requirement.endswith(f"=={minor}.*")
        for requirement in requires
    )


def test_installed_wheel_has_the_licence_and_the_notices():
    files = importlib.metadata.files("fusednorm")
    licences = {each.name for each in files if each.parent.name == "licenses"}
    assert licences == {"LICENSE", "NOTICE"}


def test_pre_commit_has_the_versions_of_lint():
    def versions(text: str) -> set[str]:
        return set(re.findall(r"[\w-]+==[\d.]+", text))

    (group,) = re.findall(
        r"^lint = \[.*\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert versions(group)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert versions(hooks) == versions(group)


def test_console_script():
    (script,) = importlib.metadata.entry_points(
        group="console_scripts", name="fusednorm"
    )
    assert script.value == "fusednorm.cli:main"
