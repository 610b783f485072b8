"""Importing this makes the references of the tests importable: say them once."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
for _folder in (ROOT / "tests", ROOT / "tests" / "gpu"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))
