"""Signs a package; every byte of it is verified first, and no key of its content is needed.

torsh-package sign m.torshpkg --key alice

Signatures that are there are kept. With --detached the package file stays as it is.
"""

import argparse
import datetime as dt
from pathlib import Path

from torsh_package.small_files import replace_file
from torsh_package.trust.keys import PrivateKey
from torsh_package.trust.model_signing import export_model_signing
from torsh_package.trust.package_files import detached_path, sign_file
from torsh_package.trust.signer import PackageSigner

from ..arguments import whole
from . import OK, Output, ProgressBar, read_password

LONGEST = 36500
"""Days that a signature may count: a hundred years."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("--key", metavar="FILE", required=True, help="private key")
    parser.add_argument("--passphrase-file", metavar="FILE", help="opens the private key")
    parser.add_argument(
        "--detached", metavar="FILE", nargs="?", const="", help="default: PACKAGE.sig"
    )
    parser.add_argument(
        "--expires-days", metavar="N", type=whole(1, LONGEST), help="how long it counts"
    )
    parser.add_argument("--sequence", metavar="N", type=whole(), help="number of the release")
    parser.add_argument(
        "--model-signing", metavar="FILE", help="write an OpenSSF bundle instead (ecdsa-p256)"
    )


def run(args: argparse.Namespace, out: Output) -> int:
    """Signs the package."""
    passphrase = read_password(args.passphrase_file) if args.passphrase_file else None
    key = PrivateKey.load(args.key, passphrase)
    key_id = key.public_key.key_id
    out.noted.details["keyid"] = key_id
    if args.model_signing:
        replace_file(args.model_signing, export_model_signing(args.package, key))
        target = args.model_signing
    else:
        with ProgressBar(out, "verifying") as progress:
            target = _sign(args, key, progress)
    out.done(
        {"package": args.package, "signature": target, "keyid": key_id},
        f"{args.package}: signed by {key_id[:16]} in {target}",
    )
    return OK


def _sign(args: argparse.Namespace, key: PrivateKey, progress: ProgressBar) -> str:
    after = None if args.expires_days is None else dt.timedelta(days=args.expires_days)
    signer = PackageSigner(key.public_key.algorithm, key, expires_after=after)
    detached: Path | None = None
    if args.detached is not None:
        detached = Path(args.detached) if args.detached else detached_path(args.package)
    sign_file(args.package, signer, detached=detached, sequence=args.sequence, progress=progress)
    return args.package if detached is None else str(detached)
