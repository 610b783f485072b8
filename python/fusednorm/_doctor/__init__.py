"""The self-check: `fusednorm doctor`, and `fusednorm.doctor()`.

Each check is a module with one function that returns a `Check`:

installation.py   what `fusednorm info` says that should not be so
gpu.py            whether GPU, driver, TensorFlow and this build fit together
plans.py          which kernels the canonical shapes get
accuracy.py       the largest errors against float64
determinism.py    the same bits from run to run
xla.py            a step compiled by XLA
kept.py           the bytes kept for the backward pass, beside Keras's layers

cases.py has the shapes and who computes them, machine.py what this machine has of
NVIDIA's, report.py runs the checks and renders what they found. All of it is imported
on first use: this package is imported with fusednorm, also where neither TensorFlow nor
NumPy is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def doctor(*, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Checks that this installation is right on this machine.

    What `python -m fusednorm doctor` prints, as plain data: versions and devices, which
    kernels a dozen shapes get, the largest errors against float64, determinism, XLA,
    and the bytes kept for the backward pass beside Keras's layers. It takes less than a
    minute, and says which checks could not run, where TensorFlow or a GPU is missing.

    Args:
        progress: Called with the name of each check before it runs.

    Returns:
        A dict with `ok`, whether all is well; `problems`, a sentence for each thing
        that is not; `info`, as `fusednorm info --json` prints it; and `checks`, with
        the rows, problems, notes and seconds of each check.

    Example:
    ```python
    report = fusednorm.doctor()
    assert report["ok"], report["problems"]
    ```
    """
    from fusednorm._doctor import report

    return report.collect(progress)
