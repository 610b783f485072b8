"""Where tests stand, and what they take from one another."""

import ast
import collections
from pathlib import Path

TESTS = Path(__file__).parents[1]
MODULES = sorted(TESTS.rglob("*.py"))


def imported(path):
    """Returns the dotted names of all that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{each.name}" for each in node.names)


def test_no_module_imports_a_test_module():
    tests = {path.stem for path in MODULES if path.stem.startswith("test_")}
    assert tests
    wrong = [
        f"{path.relative_to(TESTS)} imports {name}"
        for path in MODULES
        for name in imported(path)
        if tests & set(name.split("."))
    ]
    assert not wrong


def test_every_test_module_has_a_name_of_its_own():
    # pytest imports them by name alone, since their folders are no packages.
    count = collections.Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert {name for name, times in count.items() if times > 1} == set()
