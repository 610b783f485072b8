"""Python programs in forks of a process that has imported TensorFlow and Keras.

Importing them takes five seconds of CPU time, and many tests need a process whose
TensorFlow is as it was just after the import: with other devices, threads or flags, or
without fusednorm. Here one process per pytest process imports them, at the first use,
and each program runs in a fork of it.

In a fork all is as in a process of its own but what is decided before or while
TensorFlow is imported. Use support/commands.py where a test is about

- importing TensorFlow or Keras, their absence, the order of imports, or how they are
  imported by the command `fusednorm`;
- variables that are read then, such as TF_USE_LEGACY_KERAS, KERAS_BACKEND,
  TF_CPP_MIN_LOG_LEVEL, and those of Python, such as PYTHONHASHSEED;
- what differs by chance between processes: all forks have the same addresses in memory
  and the same hashes of strings.

The forks are safe as long as the process has no threads that hold locks: importing
starts none but those of OpenBLAS, which it ends before a fork. So never import
fusednorm or run an op in that process; test_forks.py counts its threads.
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from support.commands import changed_environment, printed

SERVER = Path(__file__).with_name("fork_server.py")


@functools.cache
def _server():
    server = subprocess.Popen(
        [sys.executable, SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)
    return server


def python(*arguments, timeout=None, **environment):
    """Does what support.commands.python does."""
    server = _server()
    arguments = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder, name) for name in ("stdout", "stderr")}
        for path in outputs.values():
            path.touch()
        program = {
            "arguments": arguments,
            "environment": changed_environment(environment),
            "folder": os.getcwd(),
            "timeout": timeout or 0,  # what signal.alarm takes for none
            **{name: str(path) for name, path in outputs.items()},
        }
        print(json.dumps(program), file=server.stdin, flush=True)
        code = server.stdout.readline()
        if not code:
            raise RuntimeError("the process that forks has ended; its error is above")
        said = {name: path.read_text() for name, path in outputs.items()}
    code = int(code)
    if timeout and code == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(arguments, timeout, *said.values())
    return subprocess.CompletedProcess(arguments, code, **said)


def output(*arguments, **environment):
    """Returns what a Python program that must succeed prints."""
    return printed(python(*arguments, **environment))
