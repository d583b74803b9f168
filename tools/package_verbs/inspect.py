"""Shows what a package says about itself, without reading its content.

torsh-package inspect m.torshpkg --tensors

Works on encrypted packages without a key. Structure, manifest and digest tables are checked;
content is not (see `verify`).
"""

import argparse
from dataclasses import replace

from torsh_package.canonical_json import JsonObject
from torsh_package.manifest import Manifest, ResourceEntry
from torsh_package.reading import Loaded, read_archive

from ..tables import size_text, table
from . import OK, Output, add_load_arguments, load_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Shows the manifest."""
    options = replace(load_options(args, lazy=True), keyless=True)
    loaded = read_archive(args.package, options)
    value: JsonObject = {
        "manifest": loaded.manifest.to_json(),
        "canonical": loaded.canonical,
        "signed": loaded.signatures is not None,
        "encrypted": loaded.encryption is not None,
    }
    out.result(value, lambda: _text(loaded, args.tensors))
    return OK


def _text(loaded: Loaded, tensors: bool) -> str:
    manifest = loaded.manifest
    lines = [f"{manifest.name} {manifest.version}"]
    if manifest.description:
        lines.append(manifest.description)
    major, minor = manifest.schema
    state = "" if loaded.canonical else ", not canonical (zipped again)"
    facts = [
        ("format", f"torshpkg {major}.{minor}{state}"),
        ("authors", ", ".join(manifest.authors)),
        ("license", manifest.license or ""),
        ("created", manifest.created or ""),
        ("signatures", "present, not checked" if loaded.signatures else "none"),
        ("encryption", "yes" if loaded.encryption else "none"),
        ("digests", f"{manifest.digest.algorithm}, leaves of {manifest.digest.leaf_bytes} bytes"),
        *manifest.metadata.items(),
    ]
    lines.append(table([(f"  {key}", text) for key, text in facts if text]))
    lines += _resources(manifest, tensors)
    for point in manifest.entrypoints:
        inputs = ", ".join(f"{i.name}: {i.dtype}{list(i.shape)}" for i in point.inputs)
        outputs = ", ".join(f"{o.name}: {o.dtype}{list(o.shape)}" for o in point.outputs)
        machines = dict.fromkeys(o.cpu or o.triple for o in point.objects)
        targets = ", ".join(machines) or "none"
        lines.append(f"entry point {point.name}({inputs}) -> ({outputs}); compiled for: {targets}")
    for spec in manifest.dependencies:
        extra = " optional" if spec.optional else ""
        lines.append(f"needs {spec.kind} {spec.name} {spec.version_req}{extra}")
    return "\n".join(line for line in lines if line)


def _resources(manifest: Manifest, tensors: bool) -> list[str]:
    lines = ["resources:" if manifest.resources else "no resources"]
    lines.append(table([_row(entry) for entry in manifest.entries()]))
    if not tensors:
        return lines
    for entry in manifest.resources:
        rows = [
            (f"    {t.name}", t.dtype, str(list(t.shape)), f"= {t.alias_of}" if t.alias_of else "")
            for t in entry.tensors or ()
        ]
        if rows:
            lines += [f"  tensors of {entry.name}:", table(rows)]
    return lines


def _row(entry: ResourceEntry) -> tuple[str, ...]:
    codec = "stored" if entry.codec is None else entry.codec.id
    if entry.encryption is not None:
        codec += ", encrypted"
    count = None if entry.tensors is None else len(entry.tensors)
    tensors = "" if count is None else f"{count} tensor{'s'[: count != 1]}"
    return (f"  {entry.name}", entry.type.value, size_text(entry.plain_size), codec, tensors)
