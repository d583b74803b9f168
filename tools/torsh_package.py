"""`torsh-package`: make, look at, check, sign, encrypt and convert packages.

Exit codes: 0 success (and "equal", "trusted"), 1 failure, difference or refusal, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence

from torsh_package.errors import PackageError

from . import package_verbs
from .package_verbs import FAILED, Output


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; if `argv` names a verb, only that one is loaded, which is faster."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON value")
    shared.add_argument("--quiet", action="store_true", help="print errors only")
    shared.add_argument("--debug", action="store_true", help="show where an error came from")
    parser = argparse.ArgumentParser(prog="torsh-package", description=__doc__)
    choices = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in package_verbs.verbs(*argv[:1]).items():
        text = (verb.__doc__ or "").strip()
        sub = choices.add_parser(
            name,
            parents=[shared],
            help=text.splitlines()[0] if text else "",
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.configure(sub)
        sub.set_defaults(run=verb.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv).parse_args(argv)
    try:
        return args.run(args, Output(args.json, args.quiet))
    except PackageError as error:
        if args.debug:
            raise
        print(f"torsh-package: {error.code}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        print("torsh-package: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
