"""Kernel templates: from frozen parameters to LLVM IR text.

Each template file has a frozen dataclass of parameters, whose docstring lists the argument
words, and the same functions beside it:

    emit(module, name, params, target)       writes the kernel
    parallel_extent(params, target)          independent units of its parallel range
    flops / bytes_moved(params, ...)         what it executes and touches, for benchmarks
    scratch_bytes(params, ...)               per worker, where it needs any (64-byte aligned)
    packed_dims, emit_pack or `pack`         layout of weights, and the kernel that makes it

How a kernel is cut into units, blocks, tiles and tails never changes a bit of the result: the
order of an element's sums is fixed in `microkernel` by K, N, element and target alone. What
follows the sums (bias, residual, activation, whatever fusion found) is an `Epilogue`.

    microkernel    rows of A by pointer x panels of packed B; blocks of K
    tiling         results cut into units and register tiles; stores
    schedule       register tiles by target, block sizes, and why
    window         geometry of windows, static and dynamic
"""
