"""What a package needs: requirements, resolving, lock files."""

from torsh_package.requirement_syntax import DependencySpec

from .index import Candidate, Index, ListIndex
from .meaning import applies_to, check_spec, current_platform, satisfies
from .requirements_file import RequirementsFile, parse_requirements, read_requirements
from .resolver import Resolution, resolve
from .semver import Requirement, Version

__all__ = [
    "Candidate",
    "DependencySpec",
    "Index",
    "ListIndex",
    "Requirement",
    "RequirementsFile",
    "Resolution",
    "Version",
    "applies_to",
    "check_spec",
    "current_platform",
    "parse_requirements",
    "read_requirements",
    "resolve",
    "satisfies",
]
