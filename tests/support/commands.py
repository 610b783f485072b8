"""Python programs in processes of their own, and what they print.

support/forks.py runs them without importing TensorFlow anew, which is most of the time.
"""

import os
import subprocess
import sys

# To Python, a module that is None is one that is not installed.
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None\n"


def changed_environment(changes):
    """Returns the environment with the changes; None takes a variable out."""
    changed = {**os.environ, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def python(*arguments, timeout=None, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env=changed_environment(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def printed(done):
    """Returns what a process has printed, which must have succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def output(*arguments, **environment):
    """Returns what a Python process that must succeed prints."""
    return printed(python(*arguments, **environment))
