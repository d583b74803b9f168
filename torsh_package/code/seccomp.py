"""A seccomp filter for x86-64, assembled here: system calls that pure computation needs.

Everything else fails with EPERM. Source of the encoding: linux/bpf_common.h, linux/seccomp.h.
"""

import errno
import struct
from collections.abc import Sequence

_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_NR, _ARCH = 0, 4

Instruction = tuple[int, int, int, int]

# name -> number on x86-64. No call here names a process, a socket or another credential.
ALLOWED = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "readv": 19, "writev": 20, "access": 21, "sched_yield": 24, "mremap": 25,
    "madvise": 28, "dup": 32, "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63,
    "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98,
    "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
    "getppid": 110, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219,
    "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "set_robust_list": 273,
    "getcpu": 309, "getrandom": 318, "statx": 332, "rseq": 334, "faccessat2": 439,
}  # fmt: skip

_OPEN, _MMAP, _MPROTECT, _IOCTL, _CLONE, _FCNTL, _OPENAT, _PRLIMIT, _CLONE3 = (
    2, 9, 10, 16, 56, 72, 257, 302, 435,
)  # fmt: skip
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_PROT_WRITE, _PROT_EXEC, _MAP_ANONYMOUS, _CLONE_THREAD = 2, 4, 0x20, 0x10000
_TERMINAL_QUERIES = (0x5401, 0x5450, 0x5451, 0x541B)  # TCGETS, FIONCLEX, FIOCLEX, FIONREAD
_DESCRIPTOR_FLAGS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD ... F_SETFL, F_DUPFD_CLOEXEC


def _fail(number: int) -> Instruction:
    return (_RET, 0, 0, _ERRNO | number)


_PASS: Instruction = (_RET, 0, 0, _ALLOW)
_DENY = _fail(errno.EPERM)


def _argument(index: int, *, high: bool = False) -> Instruction:
    """Load the low or high half of a system call argument (little-endian)."""
    return (_LD_ABS, 0, 0, 16 + 8 * index + (4 if high else 0))


def _on(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """`body`, which returns on every path, for one system call; else go on after it."""
    return [(_JEQ, 0, len(body), number), *body]


def _unless_bits(index: int, bits: int, code: int = errno.EPERM) -> list[Instruction]:
    """Fail with `code` when argument `index` has any of `bits`."""
    return [_argument(index), (_JSET, 0, 1, bits), _fail(code), _PASS]


def _one_of(index: int, values: Sequence[int]) -> list[Instruction]:
    """Allow the given values of argument `index`."""
    tests = [i for value in values for i in ((_JEQ, 0, 1, value), _PASS)]
    return [_argument(index), *tests, _DENY]


def instructions() -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, operand)."""
    program: list[Instruction] = [
        (_LD_ABS, 0, 0, _ARCH),
        (_JEQ, 1, 0, _AUDIT_ARCH_X86_64),
        (_RET, 0, 0, _KILL),
        (_LD_ABS, 0, 0, _NR),
        (_JGE, 0, 1, _X32_BIT),
        (_RET, 0, 0, _KILL),
    ]
    for number in sorted(ALLOWED.values()):
        program += _on(number, [_PASS])
    program += _on(_OPEN, _unless_bits(1, _WRITING, errno.EACCES))
    program += _on(_OPENAT, _unless_bits(2, _WRITING, errno.EACCES))
    # No page that is or was writable may hold code; libraries are mapped from files.
    program += _on(_MPROTECT, _unless_bits(2, _PROT_EXEC))
    executable = [
        _argument(2), (_JSET, 1, 0, _PROT_EXEC), _PASS,
        (_JSET, 0, 1, _PROT_WRITE), _DENY, *_unless_bits(3, _MAP_ANONYMOUS),
    ]  # fmt: skip
    program += _on(_MMAP, executable)
    program += _on(_IOCTL, _one_of(1, _TERMINAL_QUERIES))
    program += _on(_FCNTL, _one_of(1, _DESCRIPTOR_FLAGS))
    threads = [_argument(0), (_JSET, 0, 1, _CLONE_THREAD), _PASS, _DENY]
    program += _on(_CLONE, threads)
    # Its flags lie in memory, where no filter can look: glibc falls back to clone.
    program += _on(_CLONE3, [_fail(errno.ENOSYS)])
    # Reading limits is fine, setting them is not: the pointer to new ones must be null.
    reading = [
        _argument(2), (_JEQ, 1, 0, 0), _DENY,
        _argument(2, high=True), (_JEQ, 0, 1, 0), _PASS, _DENY,
    ]  # fmt: skip
    program += _on(_PRLIMIT, reading)
    return [*program, _DENY]


def assemble() -> bytes:
    """The filter as an array of `struct sock_filter`."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions())
