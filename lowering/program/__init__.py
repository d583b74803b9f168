"""From fused regions to a program: memory plan, native entries, kernels, specification."""
