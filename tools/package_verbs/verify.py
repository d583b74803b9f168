"""Checks every byte of a package, and with --trust whether its signatures satisfy a trust store.

torsh-package verify m.torshpkg --trust trust.json

With --replay the golden cases of its entry points are run here and compared. Without a key an
encrypted package is checked up to its ciphertext.
"""

import argparse
from dataclasses import replace

from torsh_package.canonical_json import JsonObject
from torsh_package.container.crc32 import crc32
from torsh_package.errors import IntegrityError, InvalidArgumentError
from torsh_package.package import Package
from torsh_package.reading import Loaded, LoadOptions, read_archive
from torsh_package.replaying import ReplayResult, replay
from torsh_package.small_files import read_file
from torsh_package.trust import TrustStore, UntrustedError, WithDetached
from torsh_package.trust.dsse import MAX_SIGNATURES_BYTES
from torsh_package.unbound import verify_contents

from . import FAILED, OK, Output, ProgressBar, add_load_arguments, load_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("--signature", metavar="FILE", help="detached signatures, for --trust")
    parser.add_argument(
        "--replay", action="store_true", help="run all golden cases and compare their outputs"
    )
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Checks the package."""
    options = _with_detached(load_options(args), args.signature)
    keyless = options.password is None and not options.identities
    try:
        loaded = read_archive(args.package, replace(options, keyless=keyless, verify="lazy"))
    except UntrustedError as error:
        if not out.as_json:
            raise
        out.result({"trust": error.report.to_json()}, "")
        return FAILED
    with ProgressBar(out, "verifying") as progress:
        verify_contents(loaded, progress)
    decoded = _check_content(loaded, keyless)
    manifest = loaded.manifest
    value: JsonObject = {
        "name": manifest.name,
        "version": manifest.version,
        "integrity": "ok",
        "decoded": decoded,
        "canonical": loaded.canonical,
        "signed": loaded.signatures is not None,
        "trust": None if loaded.trust is None else loaded.trust.to_json(),
        "entries": len(loaded.contents),
    }
    lines = [
        f"{manifest.name} {manifest.version}: integrity ok, {len(loaded.contents)} entries",
        f"content: {'decoded completely' if decoded else 'encrypted, ciphertext is intact'}",
        f"container: {'canonical' if loaded.canonical else 'non-canonical'}",
    ]
    if loaded.trust is None:
        signed = "signed" if loaded.signatures else "not signed"
        lines.append(f"origin: {signed}; not checked (give --trust STORE)")
    else:
        lines.append("origin: trusted")
    wrong = False
    if args.replay:
        results = replay(Package.from_loaded(loaded))
        wrong = any(result.problem for result in results)
        value["replay"] = [result.to_json() for result in results]
        lines += [_replay_line(result) for result in results]
    (out.result if wrong else out.done)(value, "\n".join(lines))
    return FAILED if wrong else OK


def _replay_line(result: ReplayResult) -> str:
    outcome = result.problem or f"as expected (largest error {result.max_error:.3g})"
    return f"replay: {result.entrypoint} case {result.case}, {result.output}: {outcome}"


def _with_detached(options: LoadOptions, path: str | None) -> LoadOptions:
    """The options with a trust store that sees detached signatures too."""
    if path is None:
        return options
    if not isinstance(options.trust, TrustStore):
        raise InvalidArgumentError("--signature is judged by a trust store; give --trust STORE")
    signatures = read_file(path, MAX_SIGNATURES_BYTES)
    return replace(options, trust=WithDetached(options.trust, signatures))


def _check_content(loaded: Loaded, keyless: bool) -> bool:
    """CRC-32 of every entry, and decoding of all that can be decoded."""
    decoded = True
    for content in loaded.contents:
        entry = content.form.entry
        if crc32(content.form.data) != entry.crc32:
            raise IntegrityError("CRC-32 in the ZIP headers is wrong", entry=entry.path)
        if entry.encryption is not None and keyless:
            decoded = False
            continue
        for _ in content.pieces():
            pass
    return decoded
