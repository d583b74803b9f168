"""The filter of each processor: its numbers against the kernel's headers, its verdicts one by one.

The filter is run by an interpreter of classic BPF written here after linux/filter.h and the
manual page seccomp(2), so both processors are judged on any machine.
"""

import errno
import re
import struct
from pathlib import Path

import pytest

from torsh_package.code import linux
from torsh_package.code.seccomp import ARCHITECTURES, assemble

HEADERS = {
    "x86_64": ("x86_64-linux-gnu/asm/unistd_64.h", 0xC000003E),
    "aarch64": ("asm-generic/unistd.h", 0xC00000B7),
}
# Other names of the same call in the generic header (64-bit: __NR3264_x is x, newfstatat).
OTHER_NAMES = {"newfstatat": "3264_fstatat"}
ALLOW, KILL = "allow", "kill"
HIGH = 1 << 32


def header_numbers(machine: str) -> dict[str, int]:
    path = Path("/usr/include") / HEADERS[machine][0]
    if not path.exists():
        pytest.skip(f"the kernel header {path} is not installed")
    found = re.findall(r"#define __NR(_|3264_)(\w+)\s+(\d+)\n", path.read_text())
    numbers = {name: int(number) for _, name, number in found}
    return numbers | {("3264_" if p == "3264_" else "") + n: int(v) for p, n, v in found}


def verdict(machine: str, name_or_number: str | int, *arguments: int, audit: int = 0) -> str | int:
    """What the filter says of one call: allow, kill, or an errno."""
    table = ARCHITECTURES[machine]
    number = name_or_number
    if isinstance(number, str):
        number = {**table.allowed, **table.judged}[number]
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, audit or HEADERS[machine][1], 0, *padded)
    program = [*struct.iter_unpack("<HBBI", assemble(machine))]
    at = accumulator = 0
    while True:
        code, true, false, operand = program[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:  # BPF_RET | BPF_K
            kinds = {0x7FFF0000: ALLOW, 0x80000000: KILL, 0x00050000: operand & 0xFFFF}
            return kinds[operand & 0xFFFF0000]
        else:  # BPF_JMP | BPF_JEQ, BPF_JGE, BPF_JSET | BPF_K
            taken = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }
            at += true if taken[code] else false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    numbers = header_numbers(machine)
    table = ARCHITECTURES[machine]
    for name, number in {**table.allowed, **table.judged}.items():
        key = OTHER_NAMES.get(name, name) if machine == "aarch64" else name
        assert numbers.get(key, numbers.get(name)) == number, name
    assert numbers["seccomp"] == linux._SECCOMP[machine]
    assert numbers["capset"] == linux._CAPSET[machine]


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_only_what_is_named_passes(machine: str) -> None:
    table = ARCHITECTURES[machine]
    named = {*table.allowed.values(), *table.judged.values()}
    for number in range(600):
        found = verdict(machine, number, audit=0)
        if number in table.allowed.values():
            assert found == ALLOW
        elif number not in named:
            assert found == errno.EPERM, number


# Calls that reach other processes, the network or the kernel's young parts.
DANGEROUS = (
    "socket", "connect", "bind", "sendto", "execve", "execveat", "kill", "tgkill", "ptrace",
    "process_vm_readv", "memfd_create", "io_uring_setup", "io_uring_enter", "unshare", "setns",
    "mount", "openat2", "unlinkat", "renameat2", "mkdirat", "fchmodat", "symlinkat", "linkat",
    "bpf", "userfaultfd", "perf_event_open", "add_key", "keyctl", "setuid", "capset", "seccomp",
    "prctl", "pidfd_open", "pwrite64", "ftruncate", "fallocate", "splice",
)  # fmt: skip


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("name", DANGEROUS)
def test_dangerous_calls_fail(machine: str, name: str) -> None:
    numbers = header_numbers(machine)
    if name in numbers:
        assert verdict(machine, numbers[name]) == errno.EPERM


ARGUMENTS = [
    ("openat", (0, 0, 0o2000000), ALLOW),  # O_CLOEXEC
    ("openat", (0, 0, 1), errno.EACCES),
    ("openat", (0, 0, 2), errno.EACCES),
    ("openat", (0, 0, 0o100), errno.EACCES),
    ("openat", (0, 0, 0o1000), errno.EACCES),
    ("mprotect", (0, 0, 3), ALLOW),
    ("mprotect", (0, 0, 5), errno.EPERM),
    ("mmap", (0, 0, 3, 0x22), ALLOW),
    ("mmap", (0, 0, 5, 0x02), ALLOW),  # a library, mapped from its file
    ("mmap", (0, 0, 5, 0x22), errno.EPERM),
    ("mmap", (0, 0, 7, 0x02), errno.EPERM),
    ("ioctl", (0, 0x5401), ALLOW),
    ("ioctl", (0, 0x5412), errno.EPERM),  # TIOCSTI types into the terminal
    ("fcntl", (0, 3), ALLOW),
    ("fcntl", (0, 8), errno.EPERM),  # F_SETOWN sends signals
    ("clone", (0x3D0F00,), ALLOW),  # what glibc gives for a thread
    ("clone", (17,), errno.EPERM),  # fork
    ("clone3", (0,), errno.ENOSYS),
    ("prlimit64", (0, 0, 0), ALLOW),
    ("prlimit64", (0, 0, 1), errno.EPERM),
    ("prlimit64", (0, 0, HIGH), errno.EPERM),
]


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize(("name", "arguments", "expected"), ARGUMENTS)
def test_arguments_count(
    machine: str, name: str, arguments: tuple[int, ...], expected: str | int
) -> None:
    assert verdict(machine, name, *arguments) == expected


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_other_calling_conventions_are_killed(machine: str) -> None:
    for audit in (0x40000003, 0x40000028, *(a for _, a in HEADERS.values())):  # i386, 32-bit ARM
        if audit != HEADERS[machine][1]:
            assert verdict(machine, "read", audit=audit) == KILL
    assert verdict("x86_64", 0x40000000 | 1) == KILL
