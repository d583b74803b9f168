"""The host's side of the ABI: one thread pool a process, shared by all programs."""

import ctypes
import os
import sys
import threading
from typing import NoReturn

from lowering.runtime.link import LinkedCode, libc_address
from lowering.runtime.pool_ir import HOST_CODEGEN, HOST_IMPORTS, host_text

_SYMBOLS = (
    "torsh_parallel",
    "torsh_parallel_profiled",
    "torsh_call",
    "torsh_use_gomp",
    "torsh_after_fork",
    "torsh_pool_workers",
)

TORCH_LOADED = "torch._C"
"""The module whose presence says that torch's libraries are loaded, libgomp among them."""


class NativeHost:
    """The compiled pool and call wrapper. One a process, never freed: threads run in its code.

    Attributes:
        parallel: Address of the host table's `parallel`.
        parallel_profiled: The same, noting the time of each kernel.
        call: Native `torsh_call`; takes the address of a frame {run, host, call}.
        gomp_settled: Whether looking for libgomp again would be in vain.
        uses_gomp: Whether parallel work goes to libgomp.
    """

    def __init__(self, data: bytes):
        imports = {name: libc_address(name) for name in HOST_IMPORTS}
        self._code = LinkedCode([data], _SYMBOLS, imports)
        # The pool's threads outlive the interpreter, so their code must: it is never unmapped.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._code))
        self.parallel = self._code.address("torsh_parallel")
        self.parallel_profiled = self._code.address("torsh_parallel_profiled")
        self.call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(
            self._code.address("torsh_call")
        )
        self._use_gomp = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(
            self._code.address("torsh_use_gomp")
        )
        self._after_fork = ctypes.CFUNCTYPE(None)(self._code.address("torsh_after_fork"))
        self._workers = ctypes.CFUNCTYPE(ctypes.c_int32)(self._code.address("torsh_pool_workers"))
        self.gomp_settled = _is_forked()
        self.uses_gomp = False
        os.register_at_fork(after_in_child=self._in_child)

    def find_gomp(self) -> None:
        """Use the threads of a libgomp that the process has loaded, from now on.

        Two pools of spinning threads on the same cores were 100 times slower than one. A forked
        child must not enter libgomp, whose threads did not survive the fork: it would hang.
        """
        if self.gomp_settled:
            return
        try:
            library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            self.gomp_settled = TORCH_LOADED in sys.modules  # that torch has no libgomp
            return
        self.gomp_settled = True
        self._use_gomp(ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value)
        self.uses_gomp = True

    def workers(self) -> int:
        """How many threads our own pool has made so far."""
        return int(self._workers())

    def _in_child(self) -> None:
        self._after_fork()
        self.gomp_settled = True
        self.uses_gomp = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("the native host belongs to one process and cannot be pickled")


_made: list[NativeHost] = []
_making = threading.Lock()
_forks: list[int] = []


def _in_child() -> None:
    global _making
    _making = threading.Lock()  # the child may have got it locked
    _forks.append(os.getpid())


os.register_at_fork(after_in_child=_in_child)


def _is_forked() -> bool:
    """Whether this process may have got a libgomp without its threads from a parent.

    Certain for forks since this module was imported. For a child of multiprocessing that imports
    it only now, the start method `spawn` shows in the command line.
    """
    module = sys.modules.get("multiprocessing.process")
    parent = module.parent_process() if module else None
    return bool(_forks) or (parent is not None and "--multiprocessing-fork" not in sys.orig_argv)


def native_host(data: bytes = b"") -> NativeHost:
    """The host of the running process, made by whoever asks first.

    Args:
        data: Object of `pool_ir.host_text` for this machine; where it is empty, llvmlite is loaded
            to make it. (The text is ours, fixed and small: it cannot crash LLVM.)

    Raises:
        UnsupportedError: There is no pool for this kind of machine.
    """
    with _making:
        if not _made:
            _made.append(NativeHost(data or _generate()))
        return _made[0]


def _generate() -> bytes:
    from llvmlite import binding as llvm

    from lowering import worker

    worker.initialize_llvm()
    triple = llvm.get_process_triple()
    return worker.generate(worker.Request("host", triple, codegen=HOST_CODEGEN), host_text(triple))
