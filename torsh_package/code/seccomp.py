"""A seccomp filter, assembled here: the system calls that pure computation needs.

Everything else fails with EPERM. Source of the encoding: linux/bpf_common.h, linux/seccomp.h; of
the numbers: asm/unistd_64.h (x86-64) and asm-generic/unistd.h (64-bit ARM).
"""

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_X32_BIT = 0x40000000
_NR, _ARCH = 0, 4

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class Architecture:
    """How one processor's kernel names system calls.

    Args:
        audit: AUDIT_ARCH value that the kernel gives the filter (linux/audit.h).
        allowed: Calls that pass whatever their arguments are, by name.
        judged: Calls that pass for some arguments.
        x32: Whether numbers with the x32 bit are another calling convention.
    """

    audit: int
    allowed: Mapping[str, int]
    judged: Mapping[str, int]
    x32: bool = False


# No call here names a process, a socket or another credential.
X86_64 = Architecture(0xC000003E, {
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
}, {
    "open": 2, "mmap": 9, "mprotect": 10, "ioctl": 16, "clone": 56, "fcntl": 72, "openat": 257,
    "prlimit64": 302, "clone3": 435,
}, x32=True)  # fmt: skip

# The calls of x86-64 that are old names of newer ones do not exist here; poll is ppoll.
AARCH64 = Architecture(0xC00000B7, {
    "getcwd": 17, "dup": 23, "faccessat": 48, "close": 57, "getdents64": 61, "lseek": 62,
    "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "ppoll": 73,
    "readlinkat": 78, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94,
    "set_tid_address": 96, "futex": 98, "set_robust_list": 99, "nanosleep": 101,
    "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123,
    "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160, "getrlimit": 163,
    "getrusage": 165, "getcpu": 168, "gettimeofday": 169, "getpid": 172, "getppid": 173,
    "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179,
    "brk": 214, "munmap": 215, "mremap": 216, "madvise": 233, "getrandom": 278, "statx": 291,
    "rseq": 293, "faccessat2": 439,
}, {
    "fcntl": 25, "ioctl": 29, "openat": 56, "clone": 220, "mmap": 222, "mprotect": 226,
    "prlimit64": 261, "clone3": 435,
})  # fmt: skip

ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64}
"""By the name that `platform.machine()` gives."""

# The same numbers on both (asm-generic/fcntl.h, mman-common.h, ioctls.h).
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


def _rules() -> dict[str, list[Instruction]]:
    """What is done with the calls whose arguments count."""
    # No page that is or was writable may hold code; libraries are mapped from files.
    executable = [
        _argument(2), (_JSET, 1, 0, _PROT_EXEC), _PASS,
        (_JSET, 0, 1, _PROT_WRITE), _DENY, *_unless_bits(3, _MAP_ANONYMOUS),
    ]  # fmt: skip
    # Reading limits is fine, setting them is not: the pointer to new ones must be null.
    reading = [
        _argument(2), (_JEQ, 1, 0, 0), _DENY,
        _argument(2, high=True), (_JEQ, 0, 1, 0), _PASS, _DENY,
    ]  # fmt: skip
    return {
        "open": _unless_bits(1, _WRITING, errno.EACCES),
        "openat": _unless_bits(2, _WRITING, errno.EACCES),
        "mprotect": _unless_bits(2, _PROT_EXEC),
        "mmap": executable,
        "ioctl": _one_of(1, _TERMINAL_QUERIES),
        "fcntl": _one_of(1, _DESCRIPTOR_FLAGS),
        "clone": [_argument(0), (_JSET, 0, 1, _CLONE_THREAD), _PASS, _DENY],
        # Its flags lie in memory, where no filter can look: glibc falls back to clone.
        "clone3": [_fail(errno.ENOSYS)],
        "prlimit64": reading,
    }


def instructions(architecture: Architecture) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, operand)."""
    program: list[Instruction] = [
        (_LD_ABS, 0, 0, _ARCH),
        (_JEQ, 1, 0, architecture.audit),
        (_RET, 0, 0, _KILL),
        (_LD_ABS, 0, 0, _NR),
    ]
    if architecture.x32:
        program += [(_JGE, 0, 1, _X32_BIT), (_RET, 0, 0, _KILL)]
    for number in sorted(architecture.allowed.values()):
        program += _on(number, [_PASS])
    rules = _rules()
    for name, number in architecture.judged.items():
        program += _on(number, rules[name])
    return [*program, _DENY]


def assemble(machine: str) -> bytes:
    """The filter of a machine in `ARCHITECTURES`, as an array of `struct sock_filter`."""
    program = instructions(ARCHITECTURES[machine])
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
