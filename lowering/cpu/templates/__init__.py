"""Kernel templates: one frozen dataclass of parameters each, and `emit` that writes LLVM IR."""
