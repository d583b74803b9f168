"""Native calls under seccomp's strict mode, for scripts that run in a process of their own."""

import ctypes

import numpy as np

from lowering.codegen import CodeGenerator, CodegenUnit
from lowering.cpu.host import host_target
from lowering.runtime.executable import BoundCall
from lowering.runtime.host import native_host
from lowering.runtime.link import LinkedCode, libc_address

TEXT = """
declare i32 @prctl(i32, i64, i64, i64, i64)
declare i64 @syscall(i64, ...)
define void @sealed(ptr %call, ptr %frame, i64 %count, ptr %y, ptr %right, i64 %bytes) nounwind {
entry:
  %bad = call i32 @prctl(i32 22, i64 1, i64 0, i64 0, i64 0)
  br label %again
again:
  %i = phi i64 [ 0, %entry ], [ %next, %again ]
  %failed = phi i32 [ %bad, %entry ], [ %either, %again ]
  %status = call i32 %call(ptr %frame)
  %either = or i32 %failed, %status
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %again, label %compare
compare:
  %j = phi i64 [ 0, %again ], [ %j2, %compare ]
  %differ = phi i32 [ %either, %again ], [ %differ2, %compare ]
  %py = getelementptr i8, ptr %y, i64 %j
  %pr = getelementptr i8, ptr %right, i64 %j
  %cy = load i8, ptr %py
  %cr = load i8, ptr %pr
  %ne = icmp ne i8 %cy, %cr
  %ne32 = zext i1 %ne to i32
  %differ2 = or i32 %differ, %ne32
  %j2 = add i64 %j, 1
  %rest = icmp ult i64 %j2, %bytes
  br i1 %rest, label %compare, label %done
done:
  %code = zext i32 %differ2 to i64
  %never = call i64 (i64, ...) @syscall(i64 60, i64 %code)
  ret void
}
"""
NATIVE_CALL = "%status = call i32 %call(ptr %frame)"
GETPID = "%pid = call i64 (i64, ...) @syscall(i64 39)\n  %status = trunc i64 %pid to i32"


def call_sealed(
    call: BoundCall, y: np.ndarray, right: np.ndarray, *, count: int = 10_000, leak: bool = False
) -> None:
    """Call many times where any system call but read, write and exit kills; ends the process.

    The exit code is 0 if every call succeeded and the last one wrote the right bytes.

    Args:
        call: Bound, and called once before.
        y: What it writes; is spoilt first.
        right: What it must write.
        count: How many calls.
        leak: Make a system call in place of each native call: a control.
    """
    text = TEXT.replace(NATIVE_CALL, GETPID) if leak else TEXT
    assert leak == (text != TEXT)
    names = ("prctl", "syscall")
    tool = CodeGenerator()
    (data,) = tool.compile([CodegenUnit("sealed", text, host_target(), host_symbols=names)])
    tool.close()
    code = LinkedCode([data], ["sealed"], {name: libc_address(name) for name in names})
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    sealed = ctypes.CFUNCTYPE(None, pointer, pointer, number, pointer, pointer, number)
    address = ctypes.cast(native_host().call, pointer).value
    y.view(np.uint8)[...] = 0xA5
    function = sealed(code.address("sealed"))
    function(address, call.frame_address, count, y.ctypes.data, right.ctypes.data, y.nbytes)
