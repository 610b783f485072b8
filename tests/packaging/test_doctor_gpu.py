"""What `fusednorm doctor` says of a GPU, its driver, TensorFlow and this build."""

import copy
import ctypes

import pytest
from fusednorm import info
from fusednorm._doctor import gpu, machine
from fusednorm._doctor.machine import Driver, Machine

GPU = {"name": "GPU:0", "type": "GPU", "model": None}
NEW = Driver(cuda=(13, 0), gpus=1, version="580.65.06")
OLD = Driver(cuda=(12, 4), gpus=1, version="550.54.15")
WELL = Machine(on_bus=("0000:01:00.0",), driver=NEW, tensorflow_cuda="12.5.1")


@pytest.fixture(scope="module")
def here():
    return info.collect()


@pytest.fixture
def report(here):
    """Returns how to make the report of a build with CUDA, or as arguments say."""

    def make(cuda="13.0", devices=(GPU,)):
        changed = copy.deepcopy(here)
        changed["cuda"]["version"] = cuda
        changed["tensorflow"] |= {
            "error": None, "running": "2.21.0", "devices": list(devices)
        }  # fmt: skip
        return changed

    return make


def altered(**changes):
    return Machine(**(vars(WELL) | changes))


def test_all_is_well_with_a_gpu(report):
    found = gpu.check(report(), WELL)
    assert found.problems == []
    assert found.notes == [
        "NVIDIA's driver 580.65.06 has 1 GPU and serves CUDA up to 13.0; fusednorm is "
        "built with CUDA 13.0, TensorFlow with 12.5.1.",
        "TensorFlow and fusednorm are built with different major versions of CUDA. "
        "They run together: fusednorm links its own runtime.",
    ]


def test_nothing_to_say_of_versions_that_are_alike(report):
    assert len(gpu.check(report(cuda="12.9"), WELL).notes) == 1


@pytest.mark.parametrize(
    ("cuda", "facts", "note"),
    [
        ("13.0", Machine(), "There is no NVIDIA GPU here."),
        (None, WELL, "A build without CUDA: it does not use a GPU."),
        (None, altered(driver=None), "A build without CUDA: it does not use a GPU."),
    ],
)
def test_without_a_gpu_to_use_nothing_is_wrong(report, cuda, facts, note):
    found = gpu.check(report(cuda=cuda, devices=()), facts)
    assert (found.problems, found.notes) == ([], [note])


@pytest.mark.parametrize(
    ("changes", "cuda", "devices", "problems"),
    [
        pytest.param(
            {"driver": None}, "13.0", [],
            ["There is an NVIDIA GPU on the PCI bus (0000:01:00.0) and no driver for "
             "it: libcuda.so.1 is not found. Install driver 580.65.06 or newer; a "
             "container must be started with access to the GPU (docker run --gpus "
             "all)."],
            id="no driver",
        ),
        pytest.param(
            {"driver": Driver((12, 4), error="cuInit fails with 803: mismatch")},
            "13.0", [],
            ["NVIDIA's driver does not start: cuInit fails with 803: mismatch. After "
             "an update of the driver a restart of the machine makes its two halves, "
             "the kernel's module and libcuda.so.1, the same version again."],
            id="driver does not start",
        ),
        pytest.param(
            {"driver": OLD}, "13.0", [GPU],
            ["NVIDIA's driver 550.54.15 serves CUDA up to 12.4, and this build of "
             "fusednorm has the runtime of CUDA 13.0: its kernels do not run. Install "
             "driver 580.65.06 or newer, or rebuild fusednorm with the nvcc of CUDA "
             "12."],
            id="driver too old for this build",
        ),
        # The runtime of a later minor version runs with it.
        pytest.param({"driver": OLD}, "12.9", [GPU], [], id="minor version"),
        pytest.param(
            {"driver": Driver((11, 8), gpus=1)}, "11.8", [],
            ["NVIDIA's driver serves CUDA up to 11.8, and TensorFlow is built for CUDA "
             "12.5.1: it does not find the GPU. Install driver 525.60.13 or newer."],
            id="driver too old for TensorFlow",
        ),
        pytest.param(
            {"driver": NEW}, "14.1", [GPU],
            ["NVIDIA's driver 580.65.06 serves CUDA up to 13.0, and this build of "
             "fusednorm has the runtime of CUDA 14.1: its kernels do not run. Install "
             "a driver for CUDA 14.1, or rebuild fusednorm with the nvcc of CUDA 13."],
            id="CUDA of the future",
        ),
        pytest.param(
            {"tensorflow_cuda": None}, "13.0", [],
            ["The driver has 1 GPU, and TensorFlow is built without CUDA. Install the "
             'one with it: pip install "tensorflow[and-cuda]==2.21.*"'],
            id="TensorFlow without CUDA",
        ),
        pytest.param(
            {"missing_packages": ("nvidia-cublas-cu12", "nvidia-cudnn-cu12")}, "13.0",
            [],
            ["The driver has 1 GPU, and TensorFlow sees none, for its CUDA libraries "
             "are not installed (nvidia-cublas-cu12, nvidia-cudnn-cu12). Install them "
             'with: pip install "tensorflow[and-cuda]==2.21.*"'],
            id="TensorFlow without its libraries",
        ),
        # They may come from the system.
        pytest.param(
            {"missing_packages": ("nvidia-cublas-cu12",)}, "13.0", [GPU], [],
            id="libraries of the system",
        ),
        pytest.param(
            {"driver": Driver((13, 0), gpus=2)}, "13.0", [],
            ["The driver has 2 GPUs, and TensorFlow sees none, although its CUDA "
             "libraries are installed. Its log says why: TF_CPP_MIN_LOG_LEVEL=0 python "
             '-c "import tensorflow as tf; tf.config.list_physical_devices()"'],
            id="TensorFlow knows why",
        ),
        # As with CUDA_VISIBLE_DEVICES="".
        pytest.param(
            {"driver": Driver((13, 0), gpus=0)}, "13.0", [], [], id="hidden GPU"
        ),
        pytest.param(
            {"libdevice": False}, "13.0", [GPU],
            ["XLA does not find libdevice.10.bc, NVIDIA's device functions: "
             "jit_compile=True fails on the GPU. Name the folder of a CUDA toolkit in "
             "the environment, XLA_FLAGS=--xla_gpu_cuda_data_dir=/usr/local/cuda, or "
             'install it with: pip install "tensorflow[and-cuda]==2.21.*"'],
            id="XLA without libdevice",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(report, changes, cuda, devices, problems):
    found = gpu.check(report(cuda, devices), altered(**changes))
    assert found.problems == problems


def test_a_tensorflow_of_another_minor_version_is_named_by_the_installation(report):
    """And the GPU is looked at all the same."""
    broken = report()
    broken["tensorflow"] |= {"error": "ImportError: another version", "running": "2.20"}
    assert gpu.check(broken, altered(driver=OLD, tensorflow_cuda=None)).problems
    assert not gpu.check(broken, altered(tensorflow_cuda=None)).problems


# The facts


def test_gpus_on_the_bus(tmp_path):
    for name, vendor, kind in [
        ("0000:02:00.0", "0x10de", "0x030200"),  # a GPU that draws nothing
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its sound
        ("0000:00:02.0", "0x8086", "0x030000"),
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "0000:00:00.0").mkdir()
    assert machine.gpus_on_bus(tmp_path) == ("0000:01:00.0", "0000:02:00.0")
    assert machine.gpus_on_bus(tmp_path / "none") == ()


class Library:
    """libcuda.so.1, as far as it is asked."""

    def __init__(self, status):
        self.status = status

    def cuDriverGetVersion(self, number):  # noqa: N802
        number._obj.value = 12040

    def cuInit(self, flags):  # noqa: N802
        assert flags == 0
        return self.status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = 3

    def cuGetErrorString(self, status, text):  # noqa: N802
        assert status == self.status
        text._obj.value = b"system has unsupported display driver"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, Driver((12, 4), gpus=3, version="550.54.15")),
        (100, Driver((12, 4), gpus=0, version="550.54.15")),
        (
            803,
            Driver(
                (12, 4),
                error="cuInit fails with 803: system has unsupported display driver",
                version="550.54.15",
            ),
        ),
    ],
)
def test_the_driver(tmp_path, status, expected):
    kernel_module = tmp_path / "version"
    kernel_module.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    names = []
    library = Library(status)
    found = machine.driver(lambda name: names.append(name) or library, kernel_module)
    assert (found, names) == (expected, ["libcuda.so.1"])


def test_a_driver_whose_kernel_module_is_out_of_sight(tmp_path):
    found = machine.driver(lambda _: Library(0), tmp_path / "none")
    assert found == Driver((12, 4), gpus=3)


def test_no_driver():
    assert machine.driver(lambda _: ctypes.CDLL("libnone.so.1")) is None


def test_missing_packages():
    assert machine.missing_packages(
        [
            "numpy>=1.26.0",
            "no-such-package>=1",
            'nvidia-no-such-thing-cu12<13.0,>=12.5; extra == "and-cuda"',
            "pytest>=1; extra == 'and-cuda'",
            'no-such-io>=0.23.1; python_version < "3.13" and extra == "gcs-filesystem"',
        ]
    ) == ("nvidia-no-such-thing-cu12",)


def test_where_xla_looks(tmp_path):
    named = tmp_path / "toolkit"
    flags = f"--xla_dump_to=/dev/null --xla_gpu_cuda_data_dir={named}"
    folder = tmp_path / "site-packages" / "tensorflow"
    first, *others = machine.cuda_roots(flags, folder)
    assert first == named
    assert others == list(machine.cuda_roots("", folder))
    assert tmp_path / "site-packages" / "nvidia" / "cuda_nvcc" in others


def test_this_machine(here, monkeypatch, tmp_path):
    found = machine.look(here)
    assert (found.driver is None) == (machine.driver() is None)
    assert found.tensorflow_cuda is None or found.tensorflow_cuda[0].isdigit()
    (tmp_path / "nvvm" / "libdevice").mkdir(parents=True)
    (tmp_path / "nvvm" / "libdevice" / "libdevice.10.bc").touch()
    monkeypatch.setenv("XLA_FLAGS", f"--xla_gpu_cuda_data_dir={tmp_path}")
    assert machine.look(here).libdevice
