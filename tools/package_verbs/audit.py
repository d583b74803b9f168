"""Shows and verifies an audit log, and signs checkpoints of it. Exit code 1 if it was changed.

torsh-package audit LOG                                       verify and show
torsh-package audit LOG --make-checkpoint C --key KEY         sign what it holds now
torsh-package audit LOG --checkpoint C --public-key KEY.pub   nothing was cut off since

Every other verb records itself, and how it ended, with --audit LOG.
"""

import argparse

from torsh_package.errors import InvalidArgumentError
from torsh_package.governance.audit import AuditLog, AuditRecord
from torsh_package.small_files import read_file, replace_file
from torsh_package.trust.dsse import MAX_SIGNATURES_BYTES
from torsh_package.trust.keys import PrivateKey, PublicKey

from ..arguments import whole
from ..tables import table
from . import OK, Output, read_password


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("log")
    parser.add_argument("--checkpoint", metavar="FILE", help="the log must still hold this")
    parser.add_argument(
        "--public-key", metavar="FILE.pub", action="append", default=[], help="of the checkpoint"
    )
    parser.add_argument("--make-checkpoint", metavar="FILE", help="sign what the log holds now")
    parser.add_argument("--key", metavar="FILE", help="private key for --make-checkpoint")
    parser.add_argument("--passphrase-file", metavar="FILE", help="opens the private key")
    parser.add_argument("--tail", metavar="N", type=whole(), default=20, help="records to show")


def run(args: argparse.Namespace, out: Output) -> int:
    """Verifies the log."""
    log = AuditLog(args.log, read_only=True)
    checkpoint = read_file(args.checkpoint, MAX_SIGNATURES_BYTES) if args.checkpoint else None
    head = log.verify(checkpoint, [PublicKey.load(path) for path in args.public_key])
    if args.make_checkpoint:
        if not args.key:
            raise InvalidArgumentError("--make-checkpoint needs --key")
        passphrase = read_password(args.passphrase_file) if args.passphrase_file else None
        key = PrivateKey.load(args.key, passphrase)
        replace_file(args.make_checkpoint, log.checkpoint(key))
    shown = list(log.records())[-args.tail :] if args.tail else []
    out.result(
        {
            "records": head.count,
            "hash": head.hash,
            "tail": [{**record.body(), "hash": record.hash} for record in shown],
        },
        lambda: _text(shown, head.count, head.hash),
    )
    return OK


def _text(shown: list[AuditRecord], count: int, head: str) -> str:
    rows = [(str(r.sequence), r.time, r.event, r.outcome, r.subject, _details(r)) for r in shown]
    return "\n".join([table(rows), f"{count} records, intact; last hash {head}"]).strip()


def _details(record: AuditRecord) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(record.details.items()))
