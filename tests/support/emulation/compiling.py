"""Compiles the kernels and the emulator to shared libraries, again only what changed.

An object is kept under a hash of all that went into it, so that going back to an older
source costs nothing: that is what mutate.py does all the time.

Usage: compiling.py. Compiles what tests/emulation runs, so that tests need not.
"""

import fcntl
import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "build" / "emulation"
COMPILER = os.environ.get("CXX", "g++")
JOBS = 2

# Checks that call a function, instead of code at each access, compile in half the time.
ADDRESS = ("-fsanitize=address", "--param=asan-instrumentation-with-call-threshold=0")
# Left out: what finds accesses through wrong pointers, as AddressSanitizer does, and
# what is for virtual functions.
UNDEFINED = (
    "-fsanitize=undefined",
    "-fno-sanitize=null,object-size,pointer-overflow,vptr",
    "-fno-sanitize-recover=all",
)
SANITIZE = (*ADDRESS, *UNDEFINED)
# Kernels of each data type are those of float but for sizes and conversions. What is
# undefined in any of them is so in float; addresses depend on the size, and that of
# Bfloat16 is the size of Half.
SANITIZE_TYPE = {"Half": ADDRESS, "double": ADDRESS, "Bfloat16": ()}
# No contraction: a multiply and an add round twice, as in the reference of the CPU. The
# assertions of the standard library find what sanitizers do not see inside of arrays.
FLAGS = (
    "-std=c++17",
    "-O1",
    "-g1",
    "-fPIC",
    "-ffp-contract=off",
    "-DFUSEDNORM_EMULATE",
    "-D_GLIBCXX_ASSERTIONS",
)
MACHINE = tuple(f"tests/emulation/{name}.cc" for name in ("fiber", "grid", "messages"))
KERNELS = (
    "cuda/instance.cu",
    "cuda/api/norm.cu",
    "cuda/plan/*.cc",
    "csrc/core/*.cc",
    "tests/emulation/emulate.cc",
    *MACHINE,
)
TOYS = ("tests/emulation/toys.cc", *MACHINE)
# What schedules threads and keeps the shadows takes most of the time of kernels, and
# touches none of their memory. Under sanitizers it runs with the toys alone.
UNSANITIZED = ("tests/emulation/grid.cc", "tests/emulation/messages.cc")


# cuda/instance.cu is compiled for each line of this list and each of its data types.
INSTANCE = "cuda/instance.cu"
INSTANCES = "cuda/instances.txt"


class CompileError(RuntimeError):
    """What the compiler said."""


@contextmanager
def locked(path):
    """One process at a time: those of a parallel test run share the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command):
    """Runs a compiler, for its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def hashed(command, paths, root):
    """Names a result by the command and the contents of what it reads."""
    digest = hashlib.sha256(" ".join(command).encode())
    for path in paths:
        digest.update(str(path).encode())
        digest.update((root / path).read_bytes())
    return digest.hexdigest()[:24]


def compiled(source, root, flags, folder):
    """Returns the object of a source: the one that is there, or a new one."""
    includes = [f"-I{root / part}" for part in ("csrc", "", "tests")]
    options = [*FLAGS, *flags, "-x", "c++"]
    listed = run([COMPILER, *options, *includes, "-MM", str(root / source)])
    reads = sorted(
        {
            str(Path(word).resolve().relative_to(root.resolve()))
            for word in listed.replace("\\\n", " ").split()[1:]
        }
    )
    made = folder / f"{hashed([COMPILER, *options], reads, root)}.o"
    if not made.exists():
        # Not the name it is found by until it is whole.
        partial = made.with_suffix(".partial")
        run([COMPILER, *options, *includes, "-c", str(root / source), "-o", partial])
        partial.rename(made)
    return made


def definitions(source, root):
    """Returns the macros of each compilation of a source."""
    if source != INSTANCE:
        return [()]
    lines = [
        line.split()
        for line in (root / INSTANCES).read_text().splitlines()
        if not line.startswith("#")
    ]
    return [
        (
            f"-DFUSEDNORM_SCHEME={scheme}",
            f"-DFUSEDNORM_ARGS={args}",
            f"-DFUSEDNORM_DATA={data}",
        )
        for scheme, args, *types in lines
        for data in types
    ]


def library(patterns, root=ROOT, flags=SANITIZE, folder=FOLDER, data=None):
    """Returns a shared library of the sources that match the patterns.

    `data`: kernels of other data types than this one are those of ROOT.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        sources = sorted(
            {
                str(p.relative_to(root))
                for pattern in patterns
                for p in root.glob(pattern)
            }
        )
        pairs = [(s, defined) for s in sources for defined in definitions(s, root)]

        def object_of(pair):
            source, defined = pair
            other = defined and data and f"-DFUSEDNORM_DATA={data}" not in defined
            if source in UNSANITIZED and patterns == KERNELS:
                chosen = ("-O2",)
            elif flags == SANITIZE and defined:
                data_type = defined[-1].partition("=")[2]
                chosen = (*SANITIZE_TYPE.get(data_type, SANITIZE), *defined)
            else:
                chosen = (*flags, *defined)
            return compiled(source, ROOT if other else root, chosen, folder)

        with ThreadPoolExecutor(JOBS) as pool:
            objects = list(pool.map(object_of, pairs))
        names = hashlib.sha256(" ".join(o.name for o in objects).encode()).hexdigest()
        made = folder / f"{names[:24]}.so"
        if not made.exists():
            partial = made.with_suffix(".partial")
            run([COMPILER, "-shared", *flags, "-o", partial, *objects])
            partial.rename(made)
        return made


def preload():
    """What a process must load first to run sanitized code in a library."""
    path = run([COMPILER, "-print-file-name=libasan.so"]).strip()
    return path if os.path.isabs(path) else ""


if __name__ == "__main__":
    for wanted in (KERNELS, TOYS):
        print(library(wanted))
