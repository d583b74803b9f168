"""The thread pool and the call wrapper (`pool.ll`) for Linux on x86-64 and AArch64.

`torsh_parallel` is a host table's `parallel`; `torsh_call` runs a program under a known
floating-point mode. A parallel range is cut into chunks. The caller takes chunks from the front and
workers take them from the back, so that a core sees neighbouring rows again in the next kernel,
and a caller never waits for a worker that has not begun: it waits for taken chunks only.

One 64-bit word holds all that decides who does what: epoch (high half, also the futex that idle
workers sleep on), first chunk not taken (16 bits), and one past the last (16 bits). A chunk is
taken by compare-and-swap of the whole word. The job's other fields are written only while the word
has no chunk to take; a worker that read them too early or too late fails its compare-and-swap.
"""

from pathlib import Path
from string import Template

from lowering.runtime.abi import ABI_VERSION
from torsh_dialect.errors import UnsupportedError

SPIN_NS = 50_000
"""Nanoseconds that a thread without work spins before it sleeps."""

CHUNKS_PER_THREAD = 4
"""Into how many chunks a thread's share is cut, so that a preempted thread delays little."""

HOST_CODEGEN = 0
"""Optimisation level: 0 takes a quarter of the time and makes a call no slower."""

HOST_IMPORTS = frozenset(
    {"pthread_create", "pthread_detach", "pthread_sigmask", "syscall", "clock_gettime"}
)
"""What the pool may import from libc, besides nothing."""

_ARCHITECTURES = {
    "x86_64": {
        "futex": "202",
        "declares": (
            "declare void @llvm.x86.sse2.pause()\n"
            "declare void @llvm.x86.sse.stmxcsr(ptr)\n"
            "declare void @llvm.x86.sse.ldmxcsr(ptr)"
        ),
        "pause": "call void @llvm.x86.sse2.pause()",
        # MXCSR: all exceptions masked, round to nearest; bits 15 and 6 flush results and inputs.
        "mode": """
  %slot = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  %before = load i32, ptr %slot, align 4
  %old = zext i32 %before to i64
  %flushing = icmp ne i64 %flush, 0
  %word = select i1 %flushing, i32 40896, i32 8064
  store i32 %word, ptr %slot, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret i64 %old""",
        "restore": """
  %slot = alloca i32, align 4
  %word = trunc i64 %old to i32
  store i32 %word, ptr %slot, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret void""",
    },
    "aarch64": {
        "futex": "98",
        "declares": (
            "declare void @llvm.aarch64.hint(i32)\n"
            "declare i64 @llvm.aarch64.get.fpcr()\n"
            "declare void @llvm.aarch64.set.fpcr(i64)"
        ),
        "pause": "call void @llvm.aarch64.hint(i32 1)",
        # FPCR: default mode is 0; bit 24 flushes results and inputs.
        "mode": """
  %old = call i64 @llvm.aarch64.get.fpcr()
  %flushing = icmp ne i64 %flush, 0
  %word = select i1 %flushing, i64 16777216, i64 0
  call void @llvm.aarch64.set.fpcr(i64 %word)
  ret i64 %old""",
        "restore": """
  call void @llvm.aarch64.set.fpcr(i64 %old)
  ret void""",
    },
}


def host_text(triple: str) -> str:
    """The module of the pool and the call wrapper for an LLVM triple.

    Raises:
        UnsupportedError: The triple is not Linux on x86-64 or AArch64.
    """
    architecture = triple.split("-", 1)[0]
    if architecture not in _ARCHITECTURES or "linux" not in triple:
        raise UnsupportedError(
            f"the thread pool has no code for {triple!r}; it knows Linux on "
            f"{' and '.join(_ARCHITECTURES)}"
        )
    template = Template((Path(__file__).parent / "pool.ll").read_text())
    return template.substitute(
        **_ARCHITECTURES[architecture],
        spin_ns=SPIN_NS,
        chunks_per_thread=CHUNKS_PER_THREAD,
        abi_version=ABI_VERSION,
    )
