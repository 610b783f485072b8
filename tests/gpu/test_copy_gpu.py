"""The copy kernel of the benchmark's yardstick."""

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)
pytest.importorskip("triton", reason="GPU tests: no Triton")

import torch
from fusednorm.bench import copy_kernel, yardstick

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("blocks", [0, 1, 1000])
@pytest.mark.parametrize("rest", [16, copy_kernel.BLOCK - 16])
def test_copies_all_and_nothing_else(blocks, rest):
    size = blocks * copy_kernel.BLOCK + rest
    source = torch.arange(1, size + 1, dtype=torch.int32, device="cuda")
    memory = torch.zeros(size + 16, dtype=torch.int32, device="cuda")
    copy_kernel.copy(source, memory[:size])
    assert torch.equal(memory[:size], source)
    assert not memory[size:].any()


def test_the_yardstick_takes_it():
    found, what = yardstick.kernel(*yardstick.pairs_of(2**20, 1, "cuda")[0])
    assert found is copy_kernel.copy, what
