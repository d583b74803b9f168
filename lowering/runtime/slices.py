"""A host's `parallel` that runs kernels slice by slice, with something of the caller's in between.

Kernels' units are whole and independent, so neither slices nor their number change a bit.
"""

import ctypes
from collections.abc import Callable

PARALLEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)
"""`parallel` of `TorshHost`."""

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)

SLICES = 16
"""Into how many slices a kernel's range is cut at most."""


class SlicedParallel:
    """Runs every kernel on the calling thread, and `between` after each slice.

    Attributes:
        address: For a host table's `parallel`; valid while this object lives.
        error: What `between` raised, if it did; kernels go on without it then.
    """

    def __init__(self, between: Callable[[], None]):
        self._between: Callable[[], None] | None = between
        self._function = PARALLEL(self._run)
        self.address = int(ctypes.cast(self._function, ctypes.c_void_p).value or 0)
        self.error: BaseException | None = None

    def _run(self, host: int, kernel: int, args: int, n: int, grain: int) -> None:
        call = KERNEL(kernel)
        step = max(1, grain, -(-n // SLICES))
        for start in range(0, n, step):
            call(args, start, min(n, start + step), 0)
            self._pause()

    def _pause(self) -> None:
        if self._between is None:
            return
        try:
            self._between()
        except BaseException as error:  # must not cross native frames: the caller looks at it
            self.error, self._between = error, None
