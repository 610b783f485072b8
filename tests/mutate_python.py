"""Breaks the Python code in one place at a time, and says which breaks no test notices.

    python tests/mutate_python.py --sample 20 conversion/walk.py conversion/names.py \
        -- tests/conversion --ignore tests/conversion/test_convert_hub.py

The tests run once, to learn how long each takes and which lines it reaches. Then every
mutant is put into the functions of a forked process, where the tests that reach its
lines run, quick ones first, until one fails. Only code within functions is mutated, and
tests that start processes of their own do not see it.
"""

import argparse
import ast
import collections
import functools
import gc
import os
import pickle
import random
import signal
import sys
import tempfile
import time
import types
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

PACKAGE = Path(__file__).parents[1] / "python" / "fusednorm"
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
# What a function does not compute when it is called.
SKIPPED = ("annotation", "returns", "decorator_list")


def changes(node):
    """Yields what may stand in the place of a node."""
    match node:
        case ast.Compare(ops=[op]):
            for other in COMPARISONS[type(op)]:
                yield ast.Compare(node.left, [other()], node.comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for index in range(len(values)):
                rest = values[:index] + values[index + 1 :]
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield ast.BinOp(node.left, ARITHMETIC[type(op)](), node.right)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.If() | ast.IfExp() if isinstance(node.test, ast.Name | ast.Call):
            test = ast.UnaryOp(ast.Not(), node.test)
            yield type(node)(test, node.body, node.orelse)
        case ast.comprehension(ifs=[_, *_]):
            yield ast.comprehension(node.target, node.iter, [], node.is_async)
        case ast.Call(args=[first, second, *rest]):
            yield ast.Call(node.func, [second, first, *rest], node.keywords)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Return(value=None):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.With():
            yield ast.If(ast.Constant(True), node.body, [])


Mutant = collections.namedtuple("Mutant", "file lines code text")


def head(statement):
    """Returns the lines of a statement, without those of statements within it."""
    within = getattr(statement, "body", None)
    end = within[0].lineno if within else statement.end_lineno + 1
    return range(statement.lineno, max(end, statement.lineno + 1))


def functions(code):
    """Yields the codes of functions; those within one are part of it."""
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            # The body of a class has no fast locals.
            within = each.co_flags & 2
            yield from [each] if within else functions(each)


def mutants(file):
    """Yields the mutants of a file."""
    tree = ast.parse(file.read_text())

    def visit(holder, inside, lines):
        for name, value in ast.iter_fields(holder):
            if name in SKIPPED or isinstance(holder, ast.arguments):
                continue
            whole = value if isinstance(value, list) else [value]
            for index, node in enumerate(whole):
                if not isinstance(node, ast.AST):
                    continue
                here = head(node) if isinstance(node, ast.stmt) else lines
                for new in changes(node) if inside else ():
                    ast.copy_location(new, node)
                    changed = [*whole[:index], new, *whole[index + 1 :]]
                    setattr(holder, name, changed if whole is value else new)
                    ast.fix_missing_locations(tree)
                    code = compile(tree, str(file), "exec")
                    setattr(holder, name, value)
                    text = f"{ast.unparse(node)}  ->  {ast.unparse(new)}"
                    yield Mutant(file, here, code, " ".join(text.split())[:150])
                within = inside or isinstance(node, ast.FunctionDef)
                yield from visit(node, within, here)

    yield from visit(tree, False, range(1))


def forked(work, limit=0):
    """Returns what a function returns in a process of its own, or `None` if it ends."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if not pid:
            signal.alarm(limit)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            pickle.dump(work(), file)
            file.flush()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        file.seek(0)
        return pickle.load(file) if status == 0 else None


def passes(item):
    reports = runtestprotocol(item, log=False, nextitem=None)
    return not any(each.failed for each in reports)


def reached(items, files):
    """Returns the seconds of each test that passes, and the lines that it reaches."""
    names, found = set(map(str, files)), {}

    def trace(frame, event, _):
        if frame.f_code.co_filename not in names:
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    for index, item in enumerate(items):
        lines, start = set(), time.process_time()
        sys.settrace(trace)
        good = passes(item)
        sys.settrace(None)
        if good:
            found[index] = time.process_time() - start, lines
    return found


class Plugin:
    """Takes the place of pytest's loop over the tests."""

    def __init__(self, options):
        self.options = options
        self.files = [PACKAGE / each for each in options.files]

    def pytest_runtestloop(self, session):
        self.items = session.items
        # Before the forks, which would copy all memory to look through it.
        objects, names = gc.get_objects(), set(map(str, self.files))
        functions = [each for each in objects if isinstance(each, types.FunctionType)]
        self.functions = [f for f in functions if f.__code__.co_filename in names]
        caches = [c for c in objects if isinstance(c, functools._lru_cache_wrapper)]
        self.caches = [c for c in caches if c.__module__.startswith("fusednorm")]
        del objects, functions, caches
        gc.freeze()
        self.tests = forked(lambda: reached(self.items, self.files))
        seconds = sum(seconds for seconds, _ in self.tests.values())
        print(f"{len(self.tests)} of {len(self.items)} tests pass, {seconds:.0f} s")
        for file in self.files:
            self.mutate(file)
        return True

    def mutate(self, file):
        options, results = self.options, collections.Counter()
        found = list(mutants(file))
        random.Random(options.seed).shuffle(found)
        chosen = found[: options.sample]
        if options.lines:
            chosen = [each for each in found if set(each.lines) & set(options.lines)]
        for each in sorted(chosen, key=lambda each: each.lines.start):
            result = self.result(each)
            results[result.split(" by ")[0]] += 1
            if options.lines or not result.startswith("caught"):
                print(
                    f"{file.name}:{each.lines.start} {result}: {each.text}", flush=True
                )
        print(
            f"{file.name}: {len(chosen)} of {len(found)}, {dict(results)}", flush=True
        )

    def result(self, mutant):
        places = {(str(mutant.file), line) for line in mutant.lines}
        reach = [index for index, (_, lines) in self.tests.items() if places & lines]
        reach.sort(key=lambda index: self.tests[index][0])
        those = [self.items[index] for index in reach[: self.options.most]]
        if not those:
            return "not reached"
        failure = forked(lambda: self.failure(mutant, those), self.options.limit)
        if failure is None:
            return "caught by its end"
        return f"caught by {failure}" if failure else f"SURVIVED by {len(those)} tests"

    def failure(self, mutant, items):
        """Returns the name of the first test that fails with a mutant."""
        codes = {(f.co_name, f.co_firstlineno): f for f in functions(mutant.code)}
        for each in self.functions:
            old = each.__code__
            each.__code__ = codes.get((old.co_name, old.co_firstlineno), old)
        for each in self.caches:
            each.cache_clear()
        return next((each.nodeid for each in items if not passes(each)), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", help="below python/fusednorm")
    parser.add_argument("--sample", type=int, default=20, help="mutants of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--lines", type=int, nargs="*", help="all mutants of these lines"
    )
    parser.add_argument("--most", type=int, default=40, help="tests for one mutant")
    parser.add_argument("--limit", type=int, default=120, help="seconds for one mutant")
    end = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:end])
    args = ["-q", "-s", "-p", "no:cacheprovider", *sys.argv[end + 1 :]]
    sys.exit(pytest.main(args, [Plugin(options)]))


if __name__ == "__main__":
    main()
