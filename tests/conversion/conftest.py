"""What only the tests of the conversion need."""

import numpy as np
import pytest
from support.folding import SHAPE


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, *SHAPE), np.float32)
