"""Runs Python programs in forks of this process, which has imported TensorFlow.

support/forks.py starts it and says what for. Each line of standard input is a program,
as JSON; the answer on standard output is its exit code.

This is no multiprocessing.forkserver because a program must also end as it would by
itself: with the interpreter's traceback, the functions of atexit, and the destructors
of our libraries and of TensorFlow's.
"""

import gc
import json
import os
import runpy
import signal
import sys
import types

import keras  # noqa: F401
import tensorflow  # noqa: F401


def serve():
    """Forks for every line of standard input; returns, in the fork, its program."""
    # Else every fork looks through all that was imported when it ends, for a second.
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def entries(environment):
    """Returns what PYTHONPATH adds to sys.path."""
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.abspath(path) for path in given if path]


def become(environment, folder, timeout, stdout, stderr):
    """Gives this process the surroundings of the program."""
    for descriptor, path in enumerate((os.devnull, stdout, stderr)):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    # Ends this process then, whatever it is doing.
    signal.alarm(timeout)
    of_server = entries(os.environ)
    installed = [path for path in sys.path[1:] if path not in of_server]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [*entries(environment), *installed]


def run(first, *arguments):
    """Runs what Python would with these arguments: -c CODE, -m MODULE or FILE."""
    if first == "-c":
        code, *arguments = arguments
        sys.path.insert(0, "")
        sys.argv[:] = ["-c", *arguments]
        # A module of its own, which has none of our names.
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), main.__dict__)
    elif first == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv[:] = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        sys.argv[:] = [first, *arguments]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    program = serve()
    arguments = program.pop("arguments")
    become(**program)
    run(*arguments)
