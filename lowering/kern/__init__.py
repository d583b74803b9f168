"""The `kern` dialect: loops and lanes between tensors and LLVM IR text."""
