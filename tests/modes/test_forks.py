"""Programs run in forks as they run in processes of their own."""

import signal
import subprocess

import pytest
from support import commands, forks

SHOW = """
import os, sys
print(__name__, sys.argv, sys.path[0], os.getcwd(), 'json' in dir())
print("said", file=sys.stderr)
"""
PROGRAMS = {
    "code": ["-c", SHOW, "one", "--two=2 3"],
    "module": ["-m", "shown", "one", "--two"],
    "file": ["shown.py", "one", "--two"],
    "exit code": ["-c", "import sys; sys.exit(3)"],
    "exit text": ["-c", "import sys; sys.exit('no')"],
    "exception": [
        "-c",
        "import sys; sys.stdout.write('before')\nraise ValueError('no')",
    ],
    "signal": ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"],
    "functions of atexit": ["-c", "import atexit; atexit.register(print, 'end')"],
    "a thread at the end": [
        "-c",
        "import threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('end'))).start()",
    ],
    "environment": [
        "-c",
        "import os; print([os.environ.get(name) for name in "
        "('FUSEDNORM_ISA', 'FUSEDNORM_TUNED', 'PATH')])\n"
        "os.system('echo $FUSEDNORM_ISA, $FUSEDNORM_TUNED.')",
    ],
    "modules of PYTHONPATH": ["-c", "import elsewhere"],
}


@pytest.mark.parametrize("arguments", PROGRAMS.values(), ids=PROGRAMS)
def test_forks_do_what_processes_do(arguments, tmp_path, monkeypatch):
    (tmp_path / "shown.py").write_text(SHOW)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "elsewhere.py").write_text("print('found')")
    monkeypatch.chdir(tmp_path)
    expected, got = (
        run(
            *arguments,
            FUSEDNORM_ISA="any",
            FUSEDNORM_TUNED=None,
            PYTHONPATH=str(tmp_path / "path"),
        )
        for run in (commands.python, forks.python)
    )
    assert (got.returncode, got.stdout) == (expected.returncode, expected.stdout)
    # Above it, a traceback has the functions that called the program.
    assert got.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]


def test_paths_of_the_tests_are_not_those_of_other_programs(tmp_path):
    path = ["-c", "import sys; print(sys.path)"]
    expected = commands.output(*path, PYTHONPATH=str(tmp_path))
    assert forks.output(*path, PYTHONPATH=str(tmp_path)) == expected


def test_tensorflow_is_imported_and_nothing_else_done():
    code = (
        "import os, sys\n"
        "names = {'tensorflow', 'keras', 'fusednorm', 'support'}\n"
        "print(*sorted(names & set(sys.modules)))\n"
        "import tensorflow as tf\n"
        # An error once TensorFlow has set up its devices.
        "tf.config.threading.set_inter_op_parallelism_threads(3)\n"
        # Of the process that forks: its own thread alone.
        "print(len(os.listdir(f'/proc/{os.getppid()}/task')))"
    )
    modules, threads = forks.output("-c", code).splitlines()
    assert modules == "keras tensorflow"
    assert threads == "1"


def test_programs_that_do_not_end_are_ended():
    code = "print('before', flush=True)\nwhile True: pass"
    with pytest.raises(subprocess.TimeoutExpired) as ended:
        forks.python("-c", code, timeout=1)
    assert ended.value.stdout == "before\n"
    # Without a timeout of ours it is the program's doing.
    alarm = forks.python("-c", "import signal; signal.raise_signal(signal.SIGALRM)")
    assert alarm.returncode == -signal.SIGALRM
    assert forks.output("-c", "print('and the next runs')") == "and the next runs\n"


def test_output_is_of_programs_that_succeed():
    with pytest.raises(AssertionError, match="ValueError: no"):
        forks.output("-c", "raise ValueError('no')")
