"""What a package needs: requirements, resolving, lock files."""

from .semver import Requirement, Version
from .spec import DependencyKind, DependencySpec

__all__ = ["DependencyKind", "DependencySpec", "Requirement", "Version"]
