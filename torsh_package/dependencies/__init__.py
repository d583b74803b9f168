"""What a package needs: requirements, resolving, lock files, what is here. No network."""

from torsh_package.requirement_syntax import DependencySpec

from .index import Candidate, Index, ListIndex
from .local import Availability, FolderIndex, check_available, installed_index
from .lock import LOCK_DOCUMENT, LockedPackage, LockFile
from .meaning import applies_to, check_spec, current_platform, satisfies
from .requirements_file import RequirementsFile, parse_requirements, read_requirements
from .resolver import Resolution, resolve
from .semver import Requirement, Version

__all__ = [
    "LOCK_DOCUMENT",
    "Availability",
    "Candidate",
    "DependencySpec",
    "FolderIndex",
    "Index",
    "ListIndex",
    "LockFile",
    "LockedPackage",
    "Requirement",
    "RequirementsFile",
    "Resolution",
    "Version",
    "applies_to",
    "check_available",
    "check_spec",
    "current_platform",
    "installed_index",
    "parse_requirements",
    "read_requirements",
    "resolve",
    "satisfies",
]
