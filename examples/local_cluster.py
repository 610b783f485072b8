"""Runs a command as the workers of a cluster, all of them on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

LAST_LINES = 20


class WorkerError(RuntimeError):
    """A worker failed, or did not end in time; the message has its last output."""


def run_workers(command: list[str], count: int, timeout: float) -> None:
    """Runs `command` once per worker, each with its `TF_CONFIG`, until all have ended.

    The first worker's output appears as it comes. Whatever happens, no worker is left
    running.

    Args:
        command: What every worker runs.
        count: How many workers.
        timeout: Seconds that all of them have together.

    Raises:
        WorkerError: If a worker fails, or time is up.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        logs = [Path(folder, f"worker{index}") for index in range(count)]
        workers = []
        for index, log in enumerate(logs):
            config = {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
            output = stack.enter_context(log.open("w"))
            worker = subprocess.Popen(
                command,
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stdin=subprocess.DEVNULL,
                stdout=None if index == 0 else output,
                stderr=output,
            )
            stack.callback(end, worker)
            workers.append(worker)

        def last_output(index: int) -> str:
            lines = logs[index].read_text(errors="replace").splitlines()
            return "\n".join(lines[-LAST_LINES:])

        while True:
            codes = [worker.poll() for worker in workers]
            for index, code in enumerate(codes):
                if code:
                    raise WorkerError(
                        f"worker {index} of {count} ended with exit code {code}:\n"
                        f"{last_output(index)}"
                    )
            running = [index for index, code in enumerate(codes) if code is None]
            if not running:
                return
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"workers {running} of {count} did not end within {timeout:g} s; "
                    f"worker {running[0]} said:\n{last_output(running[0])}"
                )
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        # All are held until the last is found, so that they differ.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def end(worker: subprocess.Popen) -> None:
    """Ends a worker that may be waiting for another for ever."""
    worker.kill()
    worker.wait()
