"""Fixtures for the tests of the build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import machine_code
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "build_backend"))

SAMPLES = Path(__file__).with_name("sample_kernels.cu")


@pytest.fixture(scope="session")
def nvcc():
    """The compiler that the build used."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc") or shutil.which(f"{home}/bin/nvcc")


@pytest.fixture(scope="session")
def samples(nvcc, tmp_path_factory):
    """The kernels of the samples by name, from a library as the build makes it."""
    library = tmp_path_factory.mktemp("samples") / "libsamples.so"
    flags = ["-O3", "-std=c++17", "-arch=sm_90", "-shared", "-Xcompiler=-fPIC"]
    usage = subprocess.run([nvcc, "--help"], capture_output=True, text=True, check=True)
    if "--compress-mode" in usage.stdout:
        flags.append("--compress-mode=size")
    subprocess.run([nvcc, *flags, "-o", library, SAMPLES], check=True)
    return {kernel.name: kernel for kernel in machine_code.read(library)}


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
