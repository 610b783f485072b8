"""The compiled libraries of the installed package: what they need and export."""

import re
from pathlib import Path

import fusednorm
import pytest
from elftools.elf.elffile import ELFFile
from fusednorm import _build_info

PACKAGE = Path(fusednorm.__file__).parent
(NATIVE,) = PACKAGE.glob("_native*.so")
OPS = PACKAGE / "libfusednorm_ops.so"
CUDA = PACKAGE / "libfusednorm_cuda.so"
WITH_CUDA = _build_info.CUDA_VERSION is not None
CUDA_LIBRARIES = {CUDA.name} if WITH_CUDA else set()
needs_cuda = pytest.mark.skipif(not WITH_CUDA, reason="BUILD WITHOUT CUDA")

# Of every Linux with a C++ library.
SYSTEM_LIBRARIES = {
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
}
TENSORFLOW_LIBRARIES = {"libtensorflow_cc.so.2", "libtensorflow_framework.so.2"}


def dynamic_section(library: Path) -> list:
    """Returns the entries of the library's dynamic section."""
    with library.open("rb") as file:
        return list(ELFFile(file).get_section_by_name(".dynamic").iter_tags())


def needed(library: Path) -> set[str]:
    """Returns the names of the libraries that a library is linked with."""
    tags = dynamic_section(library)
    return {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}


def dynamic_symbols(library: Path) -> list:
    """Returns the symbols that a library has from others or for others."""
    with library.open("rb") as file:
        return list(ELFFile(file).get_section_by_name(".dynsym").iter_symbols())


def exported(library: Path) -> set[str]:
    """Returns the names of the symbols that a library defines for others."""
    return {
        symbol.name
        for symbol in dynamic_symbols(library)
        if symbol.name
        and symbol.entry.st_shndx != "SHN_UNDEF"
        and symbol.entry.st_info.bind != "STB_LOCAL"
    }


def imported(library: Path) -> set[str]:
    """Returns the names of the symbols that a library needs from others."""
    return {
        symbol.name
        for symbol in dynamic_symbols(library)
        if symbol.entry.st_shndx == "SHN_UNDEF"
    }


@pytest.mark.parametrize("library", [NATIVE, OPS], ids=["native", "ops"])
def test_search_path_is_the_package_and_only_with_cuda(library):
    paths = {
        getattr(tag, "runpath", None) or getattr(tag, "rpath", None)
        for tag in dynamic_section(library)
        if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")
    }
    assert paths == ({"$ORIGIN"} if WITH_CUDA else set())


def test_native_module_needs_the_system_and_our_kernels_only():
    libraries = needed(NATIVE)
    assert libraries <= SYSTEM_LIBRARIES | CUDA_LIBRARIES
    assert libraries >= CUDA_LIBRARIES


def test_ops_need_the_system_tensorflow_and_our_kernels_only():
    libraries = needed(OPS)
    assert libraries <= SYSTEM_LIBRARIES | TENSORFLOW_LIBRARIES | CUDA_LIBRARIES
    assert libraries & TENSORFLOW_LIBRARIES
    assert libraries >= CUDA_LIBRARIES


@needs_cuda
def test_kernels_need_the_system_only():
    assert needed(CUDA) <= SYSTEM_LIBRARIES
    tags = {tag.entry.d_tag for tag in dynamic_section(CUDA)}
    assert not tags & {"DT_RPATH", "DT_RUNPATH"}


@needs_cuda
def test_kernels_export_their_api_only():
    names = exported(CUDA)
    assert names
    for name in names:
        assert name.startswith("_ZN9fusednorm4cuda"), name


@needs_cuda
def test_kernels_are_small():
    assert CUDA.stat().st_size < 40e6


def test_native_module_exports_its_entry_point_only():
    assert exported(NATIVE) == {"PyInit__native"}


def test_ops_export_nothing():
    # Loading the library registers the ops; nobody looks for a symbol in it.
    assert exported(OPS) == set()


@pytest.mark.parametrize(
    "library", [OPS, pytest.param(CUDA, marks=needs_cuda)], ids=["ops", "cuda"]
)
def test_only_the_module_depends_on_python(library):
    """A build for another Python takes the other libraries, cmake/libraries.cmake."""
    assert not [name for name in imported(library) if re.match("_?Py", name)]
    assert [name for name in imported(NATIVE) if re.match("_?Py", name)]


@pytest.mark.parametrize("library", [NATIVE, OPS], ids=["native", "ops"])
def test_waiting_takes_no_symbol_that_rhel_9_lacks(library):
    """See Await in csrc/core/shared_work.h."""
    names = imported(library)
    assert any("condition_variable" in name for name in names)
    assert "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE" not in names


def test_build_info():
    assert _build_info.BUILD_TYPE == "Release"
    assert re.fullmatch(r"2\.2[01]\.\d+.*", _build_info.TENSORFLOW_VERSION)
    assert re.fullmatch(r"\w+ \d+\.\d+.*", _build_info.COMPILER)
    if _build_info.CUDA_VERSION is None:
        assert _build_info.CUDA_ARCHITECTURES == []
    else:
        assert re.fullmatch(r"\d+\.\d+", _build_info.CUDA_VERSION)
        assert all(name.isdigit() for name in _build_info.CUDA_ARCHITECTURES)
