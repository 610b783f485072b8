"""The list of mutants keeps up with the kernels."""

import mutate
import pytest

CUDA = mutate.compiling.ROOT / "cuda"
TESTS = {path.name for path in mutate.TESTS}


@pytest.mark.parametrize("mutant", mutate.MUTANTS, ids=str)
def test_the_text_of_a_mutant_is_there(mutant):
    text = (CUDA / mutant.file).read_text()
    assert text.count(mutant.old) > mutant.which
    assert mutant.old != mutant.new
    assert not mutant.by or mutant.by in TESTS
