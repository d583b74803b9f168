"""Times as the package writes them: RFC 3339, UTC, whole seconds, `2026-01-31T12:00:00Z`."""

import datetime as dt
import os
import re

from torsh_package.errors import InvalidArgumentError

_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def now() -> dt.datetime:
    """The clock: what expiry is judged by."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def build_time() -> dt.datetime:
    """The time to write into a record: `SOURCE_DATE_EPOCH` of a reproducible build, or the clock.

    Never use it to judge an expiry: the environment is not the clock.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return now()
    if not epoch.isascii() or not epoch.isdigit() or len(epoch) > 11:
        raise InvalidArgumentError(f"SOURCE_DATE_EPOCH is {epoch[:40]!r}, not a number of seconds")
    return dt.datetime.fromtimestamp(int(epoch), dt.UTC)


def format_time(time: dt.datetime) -> str:
    """The text of a time.

    Raises:
        InvalidArgumentError: The time has no time zone: nobody can tell which moment it is.
    """
    if time.tzinfo is None:
        raise InvalidArgumentError(f"{time.isoformat()} has no time zone; give it in UTC")
    return time.astimezone(dt.UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> dt.datetime:
    """The time of a text; `InvalidArgumentError` if it is not in the one accepted form."""
    try:
        if _FORM.fullmatch(text):
            return dt.datetime.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidArgumentError(f"time {text[:40]!r}: write it as 2026-01-31T12:00:00Z")
