"""Which fused regions a template computes, and the kernels that call it."""
