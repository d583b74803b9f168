"""Parsing a module from text that may be anything."""

from __future__ import annotations

import re
from dataclasses import replace

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError
from xdsl.utils.lexer import Input, Span

STRINGS = re.compile(r'//[^\n]*|"(?:[^"\\\n\v\f]|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*+"|"')
"""Comments, whole string literals, and quotes that begin none."""


def parse_module(ctx: Context, text: str, name: str = "-", lines_before: int = 0) -> ModuleOp:
    """Parse a module.

    Args:
        ctx: Knows the dialects.
        text: MLIR text.
        name: What errors call the file.
        lines_before: Lines of the file before `text`; errors count them.

    Raises:
        ParseError: The text is no module of known dialects.
    """
    try:
        refuse_nothing(text, name)
        refuse_open_strings(text, name)
        return Parser(ctx, text, name).parse_module()
    except ParseError as error:
        error.span = replace(error.span, line_offset=lines_before)
        raise
    except RecursionError:
        span = Span(0, 0, Input(text, name), line_offset=lines_before)
        raise ParseError(span, "the text is nested too deeply") from None


def refuse_nothing(text: str, name: str) -> None:
    """Refuse an empty text, of which xDSL says that it cannot parse all of it.

    Raises:
        ParseError: There is nothing to parse.
    """
    if not text.strip():
        raise ParseError(Span(0, 0, Input(text, name)), "the text is empty")


def refuse_open_strings(text: str, name: str) -> None:
    """Refuse a quote that begins no string: xDSL's lexer takes exponential time to see that.

    Raises:
        ParseError: At the first such quote.
    """
    for match in STRINGS.finditer(text):
        if match.group() == '"':
            span = Span(match.start(), match.end(), Input(text, name))
            raise ParseError(span, "the string is not closed on its line, or has a bad escape")
