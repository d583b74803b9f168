"""GPUs: `kern` functions as kernels of the `gpu` dialect, NVPTX text, PTX, and their execution."""
