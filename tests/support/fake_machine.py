"""A machine for the benchmark, without a machine's settings."""

from fusednorm.bench import (
    machines,
    timing,
)

CACHE = 2**14


class FakeMachine:
    """A processor that leaves the settings of this process alone."""

    is_gpu = False
    threads = 1
    tensorflow_device = "/CPU:0"
    torch_device = "cpu"
    data_device = None
    cache_bytes = CACHE
    keeps_freed_memory = False

    def __init__(self, available=2**40):
        self._available = available

    def environment(self):
        return {"device": "Some CPU", "threads": 1}

    def synchronize(self):
        pass

    def available_bytes(self):
        return self._available

    def release(self):
        pass

    def kernel_task(self, key, call, sets, estimate, moved):
        return timing.Task(key, call, sets, estimate)

    def copies(self, moved, sets):
        return lambda i: None

    def measure_copy(self):
        return machines.measured_copy(self)
