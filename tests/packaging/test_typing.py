"""The installed package is typed, the compiled module by a stub that matches it."""

import ast
import types
from pathlib import Path

import fusednorm
import pytest
from fusednorm import _native

PACKAGE = Path(fusednorm.__file__).parent
STUB = PACKAGE / "_native.pyi"


def arguments(function: ast.FunctionDef) -> list[str]:
    """Returns the arguments by name, with what says how they are given."""
    listed = function.args
    positional = [each.arg for each in (*listed.posonlyargs, *listed.args)]
    optional = positional[len(positional) - len(listed.defaults) :]
    named = [each.arg for each in listed.kwonlyargs]
    has_default = [default is not None for default in listed.kw_defaults]
    return [
        *(f"{name}=" if name in optional else name for name in positional),
        *(["*"] if named else []),
        *(
            f"{name}=" if default else name
            for name, default in zip(named, has_default, strict=True)
        ),
    ]


def signature(function) -> list[str]:
    """Returns the same of a function of the module: of its docstring's first line."""
    line = function.__doc__.splitlines()[0]
    return arguments(ast.parse(f"def {line}: ...").body[0])


def in_module(scope, prefix: str = "") -> dict[str, list[str] | None]:
    """Returns the public names of the module; for functions with their arguments."""
    found = {}
    for name, value in vars(scope).items():
        if isinstance(value, type):
            # What every class has, and pybind11's own.
            members = {
                each: getattr(value, each)
                for each in vars(value)
                if each in ("__init__", "__dlpack__", "__dlpack_device__")
                or not each.startswith("_")
            }
            found |= in_module(types.SimpleNamespace(**members), f"{prefix}{name}.")
        elif isinstance(value, types.ModuleType):
            found |= in_module(value, f"{prefix}{name}.")
        elif isinstance(value, property):
            found[prefix + name] = None
        elif callable(value) and (not name.startswith("_") or prefix):
            found[prefix + name] = signature(value)
    return found


def in_stub(scope: ast.Module | ast.ClassDef, prefix: str = "") -> dict:
    """Returns the same of the stub."""
    found = {}
    for node in scope.body:
        if isinstance(node, ast.ClassDef):
            found |= in_stub(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            decorators = [each.id for each in node.decorator_list]
            is_property = decorators == ["property"]
            found[prefix + node.name] = None if is_property else arguments(node)
    return found


def test_stub_has_the_functions_and_arguments_of_the_module():
    assert in_stub(ast.parse(STUB.read_text())) == in_module(_native)


@pytest.mark.parametrize("name", ["py.typed", STUB.name])
def test_installed_package_is_typed(name):
    assert (PACKAGE / name).is_file()
