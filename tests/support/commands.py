"""Python programs in processes of their own, and what they print."""

import os
import subprocess
import sys

# To Python, a module that is None is one that is not installed.
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None\n"


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def output(*arguments, **environment):
    """Returns what a Python process that must succeed prints."""
    done = python(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
