"""What a package needs: requirements, resolving, lock files."""

from torsh_package.requirement_syntax import DependencySpec

from .index import Candidate, Index, ListIndex
from .meaning import applies_to, check_spec, current_platform, satisfies
from .resolver import Resolution, resolve
from .semver import Requirement, Version

__all__ = [
    "Candidate",
    "DependencySpec",
    "Index",
    "ListIndex",
    "Requirement",
    "Resolution",
    "Version",
    "applies_to",
    "check_spec",
    "current_platform",
    "resolve",
    "satisfies",
]
