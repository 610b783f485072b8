"""Emulated kernels, in a process of their own that an error may end."""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from support.emulation import compiling

WORKER = Path(__file__).with_name("worker.py")


class EmulationError(RuntimeError):
    """What the emulation or a sanitizer has found wrong with a kernel."""


class Emulator:
    """Runs requests in a worker, a new one after each error."""

    def __init__(self, library):
        self._library = library
        self._process = None
        self._said = None

    def _start(self):
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the worker
        environment = dict(os.environ)
        environment["LD_PRELOAD"] = compiling.preload()
        # Python does not free everything at its end. A leak there is not ours.
        environment["ASAN_OPTIONS"] = "detect_leaks=0:allocator_may_return_null=1"
        environment["UBSAN_OPTIONS"] = "print_stacktrace=1"
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER), str(self._library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
        )

    def ask(self, *request):
        """Returns a function's result in the worker; EmulationError if it ends."""
        if self._process is None:
            self._start()
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._process.wait()
            self._said.seek(0)
            said = self._said.read().decode(errors="replace")
            self.close()
            raise EmulationError(said[:6000] or "the worker ended silently") from None

    def close(self):
        """Ends the worker."""
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()
        self._said.close()
        self._process = None
