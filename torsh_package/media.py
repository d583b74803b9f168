"""Media types and file extensions of resources."""

import json
import re
from typing import TYPE_CHECKING

from torsh_package.errors import InvalidArgumentError
from torsh_package.manifest import ResourceType

if TYPE_CHECKING:
    from torsh_package.content import Content

TENSORS = "application/vnd.torsh.tensors"
JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"
_TEXT_TYPES = frozenset(
    {ResourceType.Text, ResourceType.Documentation, ResourceType.License, ResourceType.Source}
)
_SNIFFED_BYTES = 16 << 20

SOURCE_MEDIA_TYPES = {
    "python": "text/x-python",
    "rust": "text/x-rust",
    "c": "text/x-c",
    "cpp": "text/x-c++",
    "cuda": "text/x-cuda",
    "mlir": "text/x-mlir",
    "text": TEXT,
}
_SOURCE_EXTENSIONS = {
    "python": ".py",
    "rust": ".rs",
    "c": ".c",
    "cpp": ".cpp",
    "cuda": ".cu",
    "mlir": ".mlir",
    "text": ".txt",
}
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def classify(
    name: str, type: ResourceType, content: "Content", has_table: bool, media_type: str | None
) -> tuple[str, str]:
    """Media type and extension (`.json` or empty) of a new resource."""
    if media_type is None:
        media_type = _guess(type, content, has_table)
    named = "." in name.rsplit("/", 1)[-1]
    extension = ".json" if media_type == JSON and type is ResourceType.Config and not named else ""
    return media_type, extension


def _guess(type: ResourceType, content: "Content", has_table: bool) -> str:
    if has_table:
        return TENSORS
    if type in _TEXT_TYPES:
        return TEXT
    if type is ResourceType.Config and content.size <= _SNIFFED_BYTES:
        try:
            json.loads(bytes(content.view(0, content.size)))
        except (ValueError, RecursionError):
            return TEXT
        return JSON
    return BINARY


def source_name(name: str, language: str) -> str:
    """Where source code called `name` lies below `code/`: `a.b` of Python becomes `a/b.py`.

    Raises:
        InvalidArgumentError: The language is unknown.
    """
    extension = _SOURCE_EXTENSIONS.get(language)
    if extension is None:
        known = ", ".join(_SOURCE_EXTENSIONS)
        raise InvalidArgumentError(f"language {language[:40]!r} is unknown; known: {known}")
    if name.endswith(extension):
        return name
    if language == "python" and _MODULE.fullmatch(name):
        return name.replace(".", "/") + extension
    last = name.rsplit("/", 1)[-1]
    return name if "." in last else name + extension
