"""What the Linux kernel offers to confine the calling process: Landlock, seccomp, capabilities.

Standard library only: the jailed child loads this file by its path before it confines itself.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_DUMPABLE = 38, 24, 4
_RULE_PATH_BENEATH, _VERSION_FLAG = 1, 1
_SECCOMP_SET_MODE_FILTER, _SECCOMP_GET_ACTION_AVAIL, _TSYNC = 1, 2, 1
_RET_ERRNO = 0x00050000
# Access rights that each Landlock version knows, as bit counts (linux/landlock.h).
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_NET_RIGHTS, _SCOPES = 0b11, 0b11  # TCP bind and connect; abstract sockets and signals
_CAPABILITY_VERSION = 0x20080522


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _number(table: dict[str, int]) -> int:
    """The number of a system call on this processor."""
    found = table.get(os.uname().machine)
    if found is None:
        raise OSError(errno.ENOSYS, f"system calls of {os.uname().machine} are not known")
    return found


def _syscall(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def landlock_version() -> int:
    """The kernel's Landlock ABI; 0 when there is none."""
    try:
        zero = ctypes.c_size_t(0)
        return _syscall(_CREATE_RULESET, None, zero, ctypes.c_uint32(_VERSION_FLAG))
    except (OSError, AttributeError):
        return 0


def seccomp_available() -> bool:
    """Whether the kernel takes seccomp filters that fail calls with an error number."""
    action = struct.pack("=I", _RET_ERRNO)
    try:
        _syscall(
            _number(_SECCOMP), ctypes.c_uint(_SECCOMP_GET_ACTION_AVAIL), ctypes.c_uint(0), action
        )
    except (OSError, AttributeError):
        return False
    return True


def no_new_privileges() -> None:
    """Give up gaining privileges by executing files, for ever; also core dumps and ptrace."""
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up all capabilities, so that root is bound by limits and file modes too."""
    libc = _libc()
    capability = 0
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _syscall(_number(_CAPSET), header, struct.pack("=6I", 0, 0, 0, 0, 0, 0))


def restrict_files(readable: Iterable[str]) -> int:
    """Allow reading below `readable` and no other file access; no TCP, no signals to others.

    Returns:
        The Landlock version in force.

    Raises:
        OSError: when the kernel refuses.
    """
    version = landlock_version()
    rights = (1 << _FS_RIGHTS[min(max(version, 1), 5)]) - 1
    attributes = struct.pack(
        "<QQQ", rights, _NET_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0
    )[: 8 if version < 4 else 16 if version < 6 else 24]
    size = ctypes.c_size_t(len(attributes))
    ruleset = _syscall(_CREATE_RULESET, attributes, size, ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(ruleset, path)
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rights = _READ_FILE | _READ_DIR if os.path.isdir(path) else _READ_FILE
        rule = struct.pack("<Qi", rights, descriptor)
        kind = ctypes.c_int(_RULE_PATH_BENEATH)
        _syscall(_ADD_RULE, ctypes.c_int(ruleset), kind, rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install_filter(program: bytes) -> None:
    """Install a seccomp filter (array of `struct sock_filter`) on all threads.

    Raises:
        OSError: when the kernel refuses.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.addressof(buffer))
    mode, flags = ctypes.c_uint(_SECCOMP_SET_MODE_FILTER), ctypes.c_uint(_TSYNC)
    _syscall(_number(_SECCOMP), mode, flags, ctypes.byref(header))
