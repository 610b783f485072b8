"""A process that runs emulated kernels for emulator.py, until one of them is wrong.

Usage: worker.py LIBRARY. Requests and answers are pickles on stdin and stdout. An error
that the emulation or a sanitizer finds ends the process with a message on stderr.
"""

import ctypes
import pickle
import sys

I32, I64 = ctypes.c_int32, ctypes.c_int64


class Request(ctypes.Structure):
    """As in emulate.cc."""

    _fields_ = [
        *((name, I64) for name in ("n", "p", "g", "k", "q")),
        *((name, I64) for name in ("param_sets", "mask_n", "mask_q")),
        ("epsilon", ctypes.c_double),
        *((name, I32) for name in ("reduces_q", "centred", "data", "param")),
        *((name, I32) for name in ("activation", "has_gamma", "has_beta")),
        *((name, I32) for name in ("has_residual", "zero_centered")),
        *((name, I32) for name in ("per_position", "has_mask")),
        *((name, I32) for name in ("pass", "order", "resident", "candidate")),
        ("offset", I64),
        *((name, I32) for name in ("multiprocessors", "max_cluster")),
        ("max_threads_per_multiprocessor", I64),
        ("shared_bytes_per_multiprocessor", I64),
        ("shared_bytes_per_block", I64),
        ("l2_bytes", I64),
    ]


class Array(ctypes.Structure):
    """As in emulate.cc."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        *((name, I64) for name in ("bytes", "element_bytes", "place")),
    ]


class Answer(ctypes.Structure):
    """As in emulate.cc."""

    _fields_ = [
        ("scheme", ctypes.c_char * 32),
        ("kernels", (ctypes.c_char * 32) * 3),
        *((name, I32) for name in ("candidates", "cluster", "num_launches")),
        ("num_numbers", I32),
        ("numbers", I64 * 16),
        ("names", ctypes.c_char * 256),
        ("workspace_bytes", I64),
        ("error", ctypes.c_char * 512),
    ]

    def to_dict(self):
        """Returns the plan as Python has it: the geometry's numbers by their names."""
        kernels = [kernel.value.decode() for kernel in self.kernels]
        return {
            "scheme": self.scheme.decode(),
            "kernels": kernels[: self.num_launches],
            "candidates": self.candidates,
            "cluster": self.cluster,
            "geometry": dict(
                zip(self.names.decode().split(), self.numbers, strict=False)
            ),
            "workspace_bytes": self.workspace_bytes,
            "error": self.error.decode(),
        }


def emulate(library, fields, arrays):
    """Runs a problem on arrays.

    Each is None or (bytes, bytes of a shifted element, place of the array whose buffer
    it takes or -1).

    No arrays: only the plan. Returns the answer and what is in the arrays after.
    """
    buffers = [None if a is None else bytearray(a[0]) for a in arrays]
    entries = (Array * max(1, len(arrays)))()
    for entry, array, buffer in zip(entries, arrays, buffers, strict=False):
        if array is None:
            continue
        # An empty array has an address too: it is not an absent one.
        memory = (ctypes.c_char * len(buffer)).from_buffer(buffer) if buffer else entry
        entry.data = ctypes.addressof(memory)
        entry.bytes = len(buffer)
        entry.element_bytes, entry.place = array[1:]
    answer = Answer()
    request = Request(**fields)
    library.fusednorm_emulate(
        ctypes.byref(request), entries if arrays else None, ctypes.byref(answer)
    )
    return answer.to_dict(), [None if b is None else bytes(b) for b in buffers]


def most_workspace(library, fields):
    """Returns the bytes that XLA sets aside for a problem."""
    library.fusednorm_most_workspace.restype = I64
    return library.fusednorm_most_workspace(ctypes.byref(Request(**fields)))


def toy(library, name, order, resident=4):
    """Runs a kernel of toys.cc; returns its number."""
    library.fusednorm_toy.restype = ctypes.c_double
    return library.fusednorm_toy(name.encode(), order, resident)


def main():
    """Answers requests until stdin ends."""
    library = ctypes.CDLL(sys.argv[1])
    functions = {"emulate": emulate, "most_workspace": most_workspace, "toy": toy}
    while True:
        try:
            name, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(functions[name](library, *arguments), sys.stdout.buffer)
        sys.stdout.buffer.flush()


main()
