"""What benchmarks/sanitize.py runs on a GPU, through emulated kernels.

There a result that is not finite means that a kernel read what nothing had written. So
the numbers that it is given must not lead to any, which only the smallest types show.
"""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.emulation import emulated_norms, emulated_second_order
from support.emulation.emulated_norms import DTYPES, SMALL, Options
from support.emulation.kernel_cases import name_of

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import sanitize
from support.gpu.cases import CASES

LARGEST = 20_000  # elements, which takes a second


@pytest.mark.parametrize("dtype", DTYPES[:3], ids=name_of)
@pytest.mark.parametrize("case", [c for c in CASES if math.prod(CASES[c][1]) < LARGEST])
def test_results_are_finite(emulated, case, dtype, rng):
    norm, shape = CASES[case]
    options = Options(residual=True)
    data = emulated_norms.draw(norm, shape, np.dtype(dtype), options, rng)
    _, out = emulated_norms.forward(emulated, norm, data, SMALL, options)
    _, gradients = emulated_norms.backward(emulated, norm, data, out, SMALL, options)
    given = sanitize.of_second_order(SimpleNamespace(**data), SimpleNamespace(**out))
    _, second = emulated_second_order.second_order(
        emulated, norm, vars(given), out, SMALL, Options()
    )
    for name, value in {**out, **gradients, **second}.items():
        if value is not None:
            assert np.isfinite(value.astype(np.float64)).all(), name
