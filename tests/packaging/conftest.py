"""Fixtures for the tests of the build."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "build_backend"))


@pytest.fixture
def make_tensorflow():
    """Makes what the finder looks at in an installed TensorFlow."""

    def make(
        site_packages: Path, version: str, distribution: str = "tensorflow"
    ) -> Path:
        folder = site_packages / "tensorflow"
        (folder / "include" / "tensorflow").mkdir(parents=True)
        name = distribution.replace("-", "_")
        dist_info = site_packages / f"{name}-{version}.dist-info"
        dist_info.mkdir()
        (dist_info / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {distribution}\nVersion: {version}\n"
        )
        return folder

    return make
