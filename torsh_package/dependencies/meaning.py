"""What a `DependencySpec` means: which versions satisfy it, and on which machines it is needed."""

import platform as host
import re
import sys

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion
from packaging.version import Version as PipVersion

from torsh_package.errors import DependencyError
from torsh_package.requirement_syntax import DependencySpec

from .semver import Requirement, Version

AnyVersion = Version | PipVersion
_PATTERN = re.compile(r"[a-z0-9_*]+(?:-[a-z0-9_*]+)*", re.ASCII)


def check_spec(spec: DependencySpec) -> DependencySpec:
    """Returns `spec`, or raises `DependencyError` when any part of it means nothing."""
    spec.check()
    _specifier(spec)
    applies_to(spec, current_platform())
    return spec


def spec_key(spec: DependencySpec) -> str:
    """Identity for resolving: kind and normalised name."""
    return f"{spec.kind}:{normalize_name(spec.name)}"


def normalize_name(name: str) -> str:
    """PEP 503 normal form: lower case, runs of `-`, `_`, `.` become one `-`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_version(kind: str, text: str) -> AnyVersion:
    """The sortable version of a candidate: semantic for torsh, PEP 440 for pip.

    Raises:
        DependencyError: when `text` is malformed.
    """
    if kind == "torsh":
        return Version.parse(text)
    try:
        return PipVersion(text)
    except InvalidVersion as error:
        raise DependencyError(f"{text[:80]!r} is no PEP 440 version") from error


def is_before(kind: str, left: str, right: str) -> bool:
    """Whether version `left` comes before `right`; DependencyError when one is malformed."""
    first, second = parse_version(kind, left), parse_version(kind, right)
    if isinstance(first, Version) and isinstance(second, Version):
        return first < second
    return isinstance(first, PipVersion) and isinstance(second, PipVersion) and first < second


def satisfies(spec: DependencySpec, version: str) -> bool:
    """Whether `version` is one of those that `spec` admits.

    Raises:
        DependencyError: when the requirement or the version is malformed.
    """
    specifier, parsed = _specifier(spec), parse_version(spec.kind, version)
    if isinstance(specifier, Requirement) and isinstance(parsed, Version):
        return specifier.matches(parsed)
    if not isinstance(specifier, SpecifierSet):
        return False
    # Stated, because the default for pre-releases differs between versions of `packaging`.
    return specifier.contains(str(parsed), prereleases=bool(specifier.prereleases))


def _specifier(spec: DependencySpec) -> Requirement | SpecifierSet:
    if spec.kind == "torsh":
        return Requirement.parse(spec.version_req)
    try:
        return SpecifierSet("" if spec.version_req.strip() == "*" else spec.version_req)
    except InvalidSpecifier as error:
        raise DependencyError(
            f"{spec.name}: {spec.version_req[:80]!r} is no PEP 440 requirement; "
            "write one such as >=2.0,<3"
        ) from error


def current_platform() -> str:
    """The running machine as patterns spell it: `linux-x86_64`, `darwin-arm64`, `win32-amd64`."""
    return f"{sys.platform}-{host.machine().lower()}"


def applies_to(spec: DependencySpec, platform: str) -> bool:
    """Whether `spec` is needed on `platform` (`os-machine`).

    `spec.platform` is None (everywhere), a pattern (`linux`, `linux-x86_64`, `*-arm64`), or a
    PEP 508 marker (`python_version < "3.12"`), which is judged for the running interpreter.

    Raises:
        DependencyError: when it is none of these.
    """
    if spec.platform is None:
        return True
    if _PATTERN.fullmatch(spec.platform):
        wanted, actual = spec.platform.split("-"), platform.split("-")
        pairs = zip(wanted, actual, strict=False)
        return len(wanted) <= len(actual) and all(w in ("*", a) for w, a in pairs)
    try:
        return Marker(spec.platform).evaluate({"extra": ""})
    except InvalidMarker as error:
        raise DependencyError(
            f"{spec.name}: platform {spec.platform[:80]!r} must look like linux-x86_64 "
            "or be a PEP 508 marker"
        ) from error


def describe(spec: DependencySpec) -> str:
    """`name[features] requirement`, for messages."""
    features = f"[{','.join(spec.features)}]" if spec.features else ""
    return f"{spec.name}{features} {spec.version_req or '*'}"
