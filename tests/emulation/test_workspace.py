"""What XLA sets aside when it compiles is enough for what is launched later.

When it compiles, a device is known by its architecture. When kernels are launched, the
device says how many blocks of a cluster run there, which may be fewer (MIG), and the
plan follows it.
"""

import dataclasses
import itertools

import pytest
from support.emulation.emulated_norms import DTYPES, H200, Options, plan, request
from support.emulation.kernel_cases import CASES, group, layer, name_of
from support.emulation.second_order_cases import CASES as SECOND_ORDER_CASES

LARGE = [
    (layer(), (4, 65536)),
    (layer(1), (1, 8192, 64)),
    (group(8), (2, 4096, 64)),
    (group(4, 1), (2, 16, 20000)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("which", ["forward", "backward", "second_order"])
def test_is_enough_whatever_cluster_runs(emulated, which, dtype):
    differ = 0
    cases = SECOND_ORDER_CASES if which == "second_order" else CASES
    for norm, shape in cases + LARGE:
        fields = request(norm, shape, dtype, H200, Options(), which)
        there = emulated.ask("most_workspace", fields)
        needed = set()
        for cluster, offset in itertools.product((1, 2, 4, 8, 16), (0, 1)):
            device = dataclasses.replace(H200, max_cluster=cluster)
            options = Options(offset=offset)
            made = plan(emulated, norm, shape, dtype, device, options, which)
            needed.add(made["workspace_bytes"])
        assert there == max(needed), (norm, shape)
        differ += len(needed) > 1
    assert differ > 0 or which == "second_order"  # which has no clusters
