"""The CUDA kernels on a device, from PyTorch."""
