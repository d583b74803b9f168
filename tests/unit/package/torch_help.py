"""Torch files, rewritten entry by entry."""

import zipfile
from pathlib import Path


def rezip(path: Path, change: dict[str, bytes]) -> None:
    """Write the archive anew with some entries replaced (correct CRCs)."""
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, data in (entries | change).items():
            target.writestr(name, data)
