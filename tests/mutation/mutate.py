"""Breaks the Python code in one place at a time, and says which breaks no test notices.

    python tests/mutation/mutate.py conversion/walk.py conversion/names.py --sample 20 \
        -- tests/conversion --ignore tests/conversion/test_convert_hub.py

The tests run once, to learn how long each takes and which lines it reaches. Then every
mutant is put into the functions of a forked process, where the tests that reach its
lines run, quick ones first, until one fails. Tests that start processes of their own do
not see it there. A module that runs ops when it is imported, as test_errors.py does, is
refused: a fork would have no threads for graphs.
`conversion/walk.py:39,40` stands for all mutants of these lines.
"""

import argparse
import collections
import gc
import importlib.util
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from changes import mutants
from tensorflow.python.eager import context

PACKAGE = Path(importlib.util.find_spec("fusednorm").origin).parent


def forked(work, limit=0):
    """Returns what a function returns in a process of its own, or `None` if it ends."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if not pid:
            signal.alarm(limit)
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
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
        threading.settrace(trace)
        good = passes(item)
        sys.settrace(None)
        if good:
            found[index] = time.process_time() - start, lines
    return found


class Mutation:
    """What pytest does instead of running the tests that it has found."""

    def __init__(self, options):
        self.options = options
        given = [each.partition(":")[::2] for each in options.files]
        self.files = {PACKAGE / name: lines.split(",") for name, lines in given}

    def pytest_runtestloop(self, session):
        self.items = session.items
        # Before the forks, which would copy all memory to look through it. What
        # conftest.py has frozen is not among the objects.
        gc.unfreeze()
        objects, names = gc.get_objects(), set(map(str, self.files))
        functions = [each for each in objects if isinstance(each, types.FunctionType)]
        self.functions = [f for f in functions if f.__code__.co_filename in names]
        if context.context()._initialized:
            sys.exit("one of these modules runs ops when it is imported")
        if not self.functions:
            sys.exit("no function of these files is loaded by these tests")
        gc.freeze()
        self.tests = forked(lambda: reached(self.items, self.files))
        seconds = sum(seconds for seconds, _ in self.tests.values())
        print(f"{len(self.tests)} of {len(self.items)} tests pass, {seconds:.0f} s")
        for file, lines in self.files.items():
            self.mutate(file, set(map(int, filter(None, lines))))
        return True

    def mutate(self, file, lines):
        results, found = collections.Counter(), list(mutants(file))
        random.Random(self.options.seed).shuffle(found)
        chosen = found[: self.options.sample]
        if lines:
            chosen = [each for each in found if lines & set(each.lines)]
        for each in sorted(chosen, key=lambda each: each.lines.start):
            result, by = self.result(each)
            results[result] += 1
            if lines or result != "caught":
                print(f"{file.name}:{each.lines.start} {result} by {by}: {each.text}")
        print(f"{file.name}: {len(chosen)} of {len(found)}, {dict(results)}")

    def result(self, mutant):
        """Returns what became of a mutant, and by what."""
        places = {(str(mutant.file), line) for line in mutant.lines}
        reach = [index for index, (_, lines) in self.tests.items() if places & lines]
        reach.sort(key=lambda index: self.tests[index][0])
        those = [self.items[index] for index in reach[: self.options.most]]
        if not those:
            return "not reached", "any test"
        failure = forked(lambda: self.failure(mutant, those), self.options.limit)
        if failure is None:
            return "caught", "the end of its process"
        return ("caught", failure) if failure else ("SURVIVED", f"{len(those)} tests")

    def failure(self, mutant, items):
        """Returns the name of the first test that fails with a mutant, or nothing."""
        for each in self.functions:
            old = each.__code__
            each.__code__ = mutant.codes.get((old.co_name, old.co_firstlineno), old)
        return next((each.nodeid for each in items if not passes(each)), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", help="in the package")
    parser.add_argument("--sample", type=int, default=20, help="mutants of each file")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--most", type=int, default=40, help="tests for one mutant")
    parser.add_argument("--limit", type=int, default=120, help="seconds for one mutant")
    sys.stdout.reconfigure(line_buffering=True)
    end = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:end])
    arguments = ["-q", "-s", "-p", "no:cacheprovider", *sys.argv[end + 1 :]]
    sys.exit(pytest.main(arguments, [Mutation(options)]))


if __name__ == "__main__":
    main()
