"""The CUDA kernels on emulated threads, from Python."""
