"""Whether this machine can run code for a target: checked before linking, since SIGILL is no error.

Feature names are those of the `flags` (x86-64) and `Features` (AArch64) lines of `/proc/cpuinfo`.
The levels are those of the x86-64 psABI, section 3.1.1.
"""

from functools import cache
from pathlib import Path

from torsh_dialect.errors import ExecutionError

_V2 = frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
NEEDED_FLAGS: dict[str, frozenset[str]] = {
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v3-vnni": _V3 | {"avx_vnni"},
    "x86-64-v4": _V4,
    "x86-64-v4-vnni": _V4 | {"avx512_vnni"},
    "znver3": _V3
    | {"sse4a", "clzero", "fsgsbase", "rdseed", "adx", "sha_ni", "vaes", "vpclmulqdq"},
    "aarch64": frozenset({"asimd"}),
}
"""CPU features that code for a target may use, by name of the target."""


@cache
def machine_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The features of the first core; none where the system does not tell."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def check_machine(target: str, flags: frozenset[str]) -> None:
    """Refuse code for a target that a machine with `flags` cannot run.

    Raises:
        ExecutionError: The target is unknown, or features are missing; the message lists them.
    """
    if target not in NEEDED_FLAGS:
        known = ", ".join(sorted(NEEDED_FLAGS))
        raise ExecutionError(f"the program is for the unknown target {target!r}; known: {known}")
    missing = NEEDED_FLAGS[target] - flags
    if missing:
        raise ExecutionError(
            f"the program was compiled for {target!r}, but this machine lacks "
            f"{', '.join(sorted(missing))}; compile it for another target"
        )
