"""The program of the jailed child: confine this process, then run the code of packages.

Run as `python -I -S -B jail_child.py`. Standard input holds a header and raw blobs; the results
go to the pipe whose descriptor the header names. What the code prints goes to standard output.
"""

import importlib.util
import io
import json
import os
import re
import resource
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, cast

_HERE = os.path.dirname(os.path.abspath(__file__))
_REFUSED = 97  # exit status: this kernel did not give what was required


def _sibling(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, os.path.join(_HERE, f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read_job() -> tuple[dict[str, Any], list[bytes]]:
    stream = sys.stdin.buffer
    (size,) = struct.unpack("<Q", stream.read(8))
    header = json.loads(stream.read(size))
    blobs = [stream.read(length) for length in header["blobs"]]
    return header, blobs


def _confine(job: dict[str, Any], filter_program: bytes) -> dict[str, Any]:
    """Apply every layer that is asked for; the first that fails ends the process."""
    applied: dict[str, Any] = {"rlimits": sorted(job["rlimits"])}
    for name, value in job["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if job["strict"]:
        linux = _sibling("linux")
        if os.geteuid() == 0:
            linux.drop_capabilities()
        linux.no_new_privileges()
        applied["landlock"] = linux.restrict_files(job["readable"])
        linux.install_filter(filter_program)
        applied["seccomp"] = True
    return applied


def _decode(value: Any, blobs: list[bytes], arrays: bool) -> Any:
    """An argument: arrays as numpy arrays, or as memoryviews where numpy is not allowed."""
    if isinstance(value, list):
        return [_decode(item, blobs, arrays) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if "$bytes" in fields:
        return blobs[int(fields["$bytes"])]
    if "$tuple" in fields:
        return tuple(_decode(item, blobs, arrays) for item in fields["$tuple"])
    if "$array" in fields:
        return _decode_array(fields, blobs[int(fields["$array"])], arrays)
    return {key: _decode(item, blobs, arrays) for key, item in fields.items()}


def _decode_array(fields: dict[str, Any], raw: bytes, arrays: bool) -> Any:
    shape: list[int] = fields["shape"]
    if arrays:
        import numpy

        array = numpy.frombuffer(bytearray(raw), numpy.dtype(str(fields["dtype"])))
        return numpy.reshape(array, shape)
    flat = cast("Any", memoryview(bytearray(raw)))  # its element type depends on the data
    return flat.cast(fields["code"], shape) if raw else flat.cast(fields["code"])


def _encode(value: Any, blobs: list[bytes], depth: int = 0) -> Any:
    """The JSON form of a result; arrays and bytes become blobs."""
    if depth > 32:
        raise TypeError("the result is nested deeper than 32")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (bytes, bytearray):
        blobs.append(bytes(value))
        return {"$bytes": len(blobs) - 1}
    if type(value) in (list, tuple):
        items = [_encode(item, blobs, depth + 1) for item in cast("list[Any]", value)]
        return items if type(value) is list else {"$tuple": items}
    if type(value) is dict:
        pairs = cast("dict[Any, Any]", value)
        if not all(type(key) is str and not key.startswith("$") for key in pairs):
            raise TypeError("a dict in the result has a key that is no plain text")
        return {key: _encode(item, blobs, depth + 1) for key, item in pairs.items()}
    if hasattr(value, "__array_interface__"):
        import numpy

        array = numpy.asarray(value)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"an array of {array.dtype} cannot leave the sandbox")
        blobs.append(numpy.ascontiguousarray(array).tobytes())
        row = {"dtype": array.dtype.newbyteorder("<").str, "shape": list(array.shape)}
        return {"$array": len(blobs) - 1, **row}
    raise TypeError(f"a {type(value).__name__} cannot leave the sandbox")


def _send(descriptor: int, header: dict[str, Any], blobs: list[bytes]) -> None:
    raw = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    with io.FileIO(descriptor, "w", closefd=False) as pipe:
        for piece in (struct.pack("<Q", len(raw)), raw, *blobs):
            view = memoryview(piece)
            while view:
                view = view[pipe.write(view) :]


def _call(call: dict[str, Any], packages: list[Any], blobs: list[bytes], arrays: bool) -> Any:
    module_name, _, attribute = call["entry"].partition(":")
    found: Any = packages[call["package"]].import_module(module_name)
    for part in attribute.split("."):
        found = getattr(found, part)
    arguments = _decode(call["args"], blobs, arrays)
    keywords = _decode(call["kwargs"], blobs, arrays)
    return found(*arguments, **keywords)


def _extern_test(rules: list[Any], implicit: list[str]) -> Callable[[str], bool]:
    """Whether a module comes from this machine: the first rule that matches decides."""
    compiled = [
        (action == "extern", *([re.compile(p) for p in patterns] for patterns in both))
        for action, *both in rules
    ]
    names = frozenset(implicit)

    def test(module: str) -> bool:
        dotted = "." + module
        for is_extern, include, exclude in compiled:
            if any(p.fullmatch(dotted) for p in include) and not any(
                p.fullmatch(dotted) for p in exclude
            ):
                return is_extern
        return module.partition(".")[0] in names

    return test


def main() -> None:
    """Read the job, confine, run, answer."""
    job, blobs = _read_job()
    importer = _sibling("importer")
    # Loaded while files can still be read; package code gets them from here.
    for name in job["preload"]:
        importlib.import_module(name)
    sys.path += job["path"]
    answer = job["answer"]
    try:
        applied = _confine(job, blobs[-1])
    except (OSError, ValueError, AttributeError) as error:
        _send(answer, {"refused": f"{type(error).__name__}: {error}"}, [])
        os._exit(_REFUSED)
    _send(answer, {"applied": applied}, [])
    results: list[Any] = []
    out: list[bytes] = []
    try:
        packages = [
            importer.PackageCode(
                index,
                {name: (source, is_package) for name, source, is_package in row["sources"]},
                _extern_test(row["rules"], row["implicit"]),
                row["mocks"],
            )
            for index, row in enumerate(job["packages"])
        ]
        for call in job["calls"]:
            results.append(_encode(_call(call, packages, blobs, job["arrays"]), out))
        header: dict[str, Any] = {"results": results}
    except BaseException as error:  # whatever the code raises is its result
        header, out = {"raised": type(error).__name__, "message": str(error)[:2000]}, []
    sys.stdout.flush()
    _send(answer, header, out)
    os._exit(0)


if __name__ == "__main__":
    main()
