"""What this machine can enforce, found out by asking the kernel; nothing is assumed."""

import functools
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass

from . import linux
from .seccomp import ARCHITECTURES

_PROBE_SECONDS = 10


@dataclass(frozen=True)
class Capabilities:
    """Layers of confinement that work here.

    Args:
        landlock: Landlock ABI version; 0 when the kernel has none.
        seccomp: Whether seccomp filters work and this machine's system calls are known.
        rlimits: Whether resource limits work.
        namespaces: `bwrap`, `unshare`, or empty: new user, process and network namespaces.
        reasons: Why each missing layer is missing.
    """

    landlock: int
    seccomp: bool
    rlimits: bool
    namespaces: str
    reasons: tuple[str, ...] = ()

    @property
    def strict(self) -> bool:
        """Whether files, network, processes, memory and time can all be confined."""
        return self.landlock >= 1 and self.seccomp and self.rlimits

    def enforced(self, strict: bool) -> dict[str, str]:
        """What would be enforced, by what, for people; an empty value means not at all."""
        files = f"Landlock {self.landlock}" if strict and self.landlock else ""
        calls = "seccomp" if strict and self.seccomp else ""
        limits = "rlimits" if self.rlimits else ""
        return {
            "file access": files,
            "writing files": calls or files,
            "network": calls or ("namespace" if self.namespaces else ""),
            "starting processes": calls,
            "signals to other processes": calls,
            "memory": limits,
            "processor time": limits,
            "wall time": "parent process",
            "own process table": self.namespaces,
        }

    def describe(self, strict: bool = True) -> str:
        """The same as lines of text."""
        rows = [f"{k}: {v or 'NOT ENFORCED'}" for k, v in self.enforced(strict).items()]
        return "\n".join([*rows, *self.reasons])


@functools.cache
def probe() -> Capabilities:
    """Find out what works on this machine (once per process)."""
    if sys.platform != "linux":
        reason = f"{sys.platform} has neither Landlock nor seccomp"
        return Capabilities(0, False, sys.platform != "win32", "", (reason,))
    reasons: list[str] = []
    landlock = linux.landlock_version()
    if not landlock:
        reasons.append("the kernel has no Landlock, or it is switched off or forbidden here")
    machine = platform.machine()
    seccomp = machine in ARCHITECTURES and linux.seccomp_available()
    if machine not in ARCHITECTURES:
        reasons.append(f"the system calls of {machine} are not in the filter's table")
    elif not seccomp:
        reasons.append("the kernel refuses seccomp filters")
    namespaces = _namespaces()
    if not namespaces:
        reasons.append("neither bubblewrap nor unshare can make namespaces here")
    return Capabilities(landlock, seccomp, True, namespaces, tuple(reasons))


def _namespaces() -> str:
    for name in ("bwrap", "unshare"):
        path = shutil.which(name)
        if path is None:
            continue
        probe_command = [*namespace_command(name, path, ["/"]), "/bin/true"]
        try:
            done = subprocess.run(
                probe_command, capture_output=True, timeout=_PROBE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return name
    return ""


def namespace_command(name: str, path: str, readable: list[str]) -> list[str]:
    """The words before a command that run it in namespaces of its own."""
    if name == "unshare":
        return [path, "--user", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    binds = [word for place in readable for word in ("--ro-bind-try", place, place)]
    # The dynamic loader is named by a path that is a link on most systems.
    for link in ("/lib", "/lib64", "/bin"):
        if os.path.islink(link) and "/" not in readable:
            binds += ["--symlink", os.readlink(link), link]
    return [
        path, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        *binds, "--dev", "/dev", "--chdir", "/",
    ]  # fmt: skip
