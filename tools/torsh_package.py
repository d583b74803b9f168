"""`torsh-package`: make, look at, check, sign, encrypt and convert packages.

Results go to standard output, progress and messages to standard error. With --quiet, progress,
remarks and confirmations are left out; what was asked for and errors never are.
Exit codes: 0 success (and "equal", "trusted"), 1 failure, difference or refusal, 2 wrong usage,
130 interrupted.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from torsh_package.errors import PackageError
from torsh_package.observing import Observer, observed

from .package_verbs import FAILED, VERBS, Output
from .verbs import shared_options, verb_parser

PROGRAM = "torsh-package"
_SUBJECTS = ("package", "source", "first", "output", "store", "file", "log")
"""Arguments that name what a verb works on, the most telling first."""


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; with the name of a verb, only that one is loaded, which is faster."""
    shared = shared_options()
    shared.add_argument("--audit", metavar="LOG", help="record this in an audit log")
    return verb_parser(PROGRAM, __doc__, shared, f"{__package__}.package_verbs", VERBS, only)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv[0] if argv else None).parse_args(argv)
    try:
        return _run(args)
    except PackageError as error:
        if args.debug:
            raise
        print(f"{PROGRAM}: {error.code}: {error}", file=sys.stderr)
        if args.json:
            print(json.dumps({"error": {"code": error.code, "message": str(error)}}, indent=2))
        return FAILED
    except MemoryError as error:
        if args.debug:
            raise
        print(f"{PROGRAM}: memory: there is not enough: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    """The verb, recorded in the log of `--audit` with its outcome, also when it is refused."""
    logs: list[Observer] = []
    if args.audit:
        from torsh_package.governance.audit import AuditLog

        logs.append(AuditLog(args.audit))
    subject = next((vars(args)[key] for key in _SUBJECTS if vars(args).get(key)), "")
    with observed(logs, args.verb, str(subject)) as noted:
        code = args.run(args, Output(args.json, args.quiet, noted))
        if code:
            noted.details["exit"] = str(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
