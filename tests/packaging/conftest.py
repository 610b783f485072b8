"""Fixtures for the tests of the build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.machine_code import machine_code

sys.path.insert(0, str(Path(__file__).parents[2] / "build_backend"))

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def nvcc():
    """The compiler that the build used."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc") or shutil.which(f"{home}/bin/nvcc")


def kernels_of(source, nvcc, folder):
    """Returns the kernels of a source by name, from a library as the build makes it."""
    library = folder / "libsamples.so"
    flags = ["-O3", "-std=c++17", "-arch=sm_90", "-shared", "-Xcompiler=-fPIC"]
    usage = subprocess.run([nvcc, "--help"], capture_output=True, text=True, check=True)
    if "--compress-mode" in usage.stdout:
        flags.append("--compress-mode=size")
    subprocess.run([nvcc, *flags, "-o", library, source], check=True)
    return {kernel.name: kernel for kernel in machine_code.read(library)}


@pytest.fixture(scope="session")
def samples(nvcc, tmp_path_factory):
    """The kernels with what a row loop may have, good or bad."""
    folder = tmp_path_factory.mktemp("samples")
    return kernels_of(FOLDER / "sample_kernels.cu", nvcc, folder)


@pytest.fixture(scope="session")
def scheme_samples(nvcc, tmp_path_factory):
    """The kernels with what those of `stream` and `tile` may have, good or bad."""
    folder = tmp_path_factory.mktemp("schemes")
    return kernels_of(FOLDER / "sample_schemes.cu", nvcc, folder)


@pytest.fixture
def good_kernel(samples):
    """The sample that is as it should be."""
    (kernel,) = (each for name, each in samples.items() if "Plain" in name)
    return kernel


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
