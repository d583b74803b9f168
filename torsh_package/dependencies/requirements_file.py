"""`requirements.txt` as dependencies of kind `pip` (PEP 508 lines; pip's options are refused)."""

import re
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PipRequirement

from torsh_package.errors import DependencyError
from torsh_package.requirement_syntax import DependencySpec

from .meaning import check_spec, normalize_name

_MAX_TEXT = 1 << 20
_MAX_LINE = 4_096
_HASH = re.compile(r"\s--hash[= ]\s*(sha256|sha384|sha512):([0-9a-f]{64,128})")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


@dataclass(frozen=True)
class RequirementsFile:
    """A parsed file.

    Args:
        specs: One for each line that names a distribution.
        hashes: Normalised name to the `algorithm:hex` digests that its line admits.
        refused: Lines that say nothing this format can hold, each with the reason.
    """

    specs: tuple[DependencySpec, ...]
    hashes: dict[str, tuple[str, ...]]
    refused: tuple[tuple[str, str], ...]


def parse_requirements(text: str) -> tuple[DependencySpec, ...]:
    """All requirements of a `requirements.txt`.

    Raises:
        DependencyError: when a line is malformed or is an option, path or URL.
    """
    found = read_requirements(text)
    if found.refused:
        line, reason = found.refused[0]
        raise DependencyError(f"requirements line {line[:80]!r}: {reason}")
    return found.specs


def read_requirements(text: str) -> RequirementsFile:
    """The same, with refused lines listed instead of raised."""
    if len(text) > _MAX_TEXT:
        raise DependencyError(f"{len(text)} characters of requirements; the limit is {_MAX_TEXT}")
    specs: dict[str, DependencySpec] = {}
    hashes: dict[str, tuple[str, ...]] = {}
    refused: list[tuple[str, str]] = []
    for raw in text.removeprefix("\ufeff").replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        found = tuple(f"{m[1]}:{m[2]}" for m in _HASH.finditer(line))
        try:
            spec = _parse_line(_HASH.sub("", line).strip())
            key = normalize_name(spec.name)
            if key in specs:
                raise DependencyError(f"{spec.name} is required twice; keep one line")
        except DependencyError as error:
            refused.append((line, error.message))
            continue
        specs[key] = spec
        if found:
            hashes[key] = found
    return RequirementsFile(tuple(specs.values()), hashes, tuple(refused))


def _parse_line(line: str) -> DependencySpec:
    if len(line) > _MAX_LINE:
        raise DependencyError(f"has {len(line)} characters; the limit is {_MAX_LINE}")
    if line.startswith("-"):
        raise DependencyError("is an option of pip; write the requirements themselves")
    try:
        found = PipRequirement(line)
    except InvalidRequirement as error:
        raise DependencyError(f"is malformed: {str(error).splitlines()[0][:120]}") from error
    if found.url is not None:
        raise DependencyError("is a URL; require a version and lock its digest instead")
    return check_spec(
        DependencySpec(
            found.name,
            str(found.specifier),
            features=tuple(sorted(found.extras)),
            platform=str(found.marker) if found.marker is not None else None,
            kind="pip",
        )
    )
