"""Reading the files that a migration starts from (guide B, "Complete Migration")."""

import io
import json
import os
import zipfile
from pathlib import Path

from torsh_package.errors import ConversionError, StorageError


def load_numpy_weights(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an `.npz` file, after every array in it has been read without pickle.

    Args:
        path: File written by `numpy.savez` or `numpy.savez_compressed`.

    Returns:
        The file's bytes, for `Package.add_resource(..., ResourceType.ModelWeights)`.

    Raises:
        StorageError: The file cannot be read.
        ConversionError: It is no `.npz` file, or holds pickled objects.
    """
    import numpy

    data = _read(path)
    try:
        with numpy.load(io.BytesIO(data), allow_pickle=False) as archive:
            for name in archive.files:
                archive[name]
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ConversionError(
            f"is not an .npz file of plain arrays: {error}"[:300], entry=os.fspath(path)
        ) from None
    return data


def load_json_config(path: str | os.PathLike[str]) -> str:
    """The text of a JSON file.

    Raises:
        StorageError: The file cannot be read.
        ConversionError: It is not JSON in UTF-8.
    """
    data = _read(path)
    try:
        text = data.decode("utf-8")
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"is not JSON: {error}"[:300], entry=os.fspath(path)) from None
    return text


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", entry=os.fspath(path)) from None
