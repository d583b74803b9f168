"""`torsh-package`: make, look at, check, sign, encrypt and convert packages.

Exit codes: 0 success (and "equal", "trusted"), 1 failure, difference or refusal, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence

from torsh_package.errors import PackageError

from .package_verbs import FAILED, VERBS, Output
from .verbs import verb_parser

PROGRAM = "torsh-package"


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; with the name of a verb, only that one is loaded, which is faster."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON value")
    shared.add_argument("--quiet", action="store_true", help="print errors only")
    shared.add_argument("--debug", action="store_true", help="show where an error came from")
    return verb_parser(PROGRAM, __doc__, shared, f"{__package__}.package_verbs", VERBS, only)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv[0] if argv else None).parse_args(argv)
    try:
        return args.run(args, Output(args.json, args.quiet))
    except PackageError as error:
        if args.debug:
            raise
        print(f"{PROGRAM}: {error.code}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
