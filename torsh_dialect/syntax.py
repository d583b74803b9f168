"""The one text form of torsh ops: `%r = torsh.name %a, %b {axis = 1 : i64} : (types) -> types`."""

from __future__ import annotations

import re
from typing import Self

from xdsl.dialects.builtin import FunctionType
from xdsl.irdl import IRDLOperation
from xdsl.parser import Parser
from xdsl.printer import Printer

DICTIONARY = re.compile(r'\{\s*(\}|("[^"]*"|[\w.$]+)\s*[=,}])')
"""How a dictionary of properties begins, as a region (`{ %y = ...`, `{ ^bb0(...`) does not."""


def _dictionary_follows(parser: Parser) -> bool:
    return DICTIONARY.match(parser.lexer.input.content, parser.pos) is not None


class UniformSyntax(IRDLOperation):
    """Prints and parses an op by its operands, one dictionary of properties and its types."""

    def print(self, printer: Printer) -> None:
        if self.operands:
            printer.print_string(" ")
            printer.print_list(self.operands, printer.print_ssa_value)
        entries = {**self.properties, **self.attributes}
        if entries:
            printer.print_string(" ")
            printer.print_attr_dict(dict(sorted(entries.items())))
        for region in self.regions:
            printer.print_string(" ")
            printer.print_region(region)
        printer.print_string(" : ")
        printer.print_attribute(
            FunctionType.from_lists(
                [operand.type for operand in self.operands], [r.type for r in self.results]
            )
        )

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        unresolved = parser.parse_optional_undelimited_comma_separated_list(
            parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
        )
        entries = parser.parse_optional_attr_dict() if _dictionary_follows(parser) else {}
        regions = [parser.parse_region() for _ in cls.get_irdl_definition().regions]
        parser.parse_punctuation(":")
        position = parser.pos
        type = parser.parse_type()
        if not isinstance(type, FunctionType):
            parser.raise_error("expected `(operand types) -> result types`", position)
        operands = parser.resolve_operands(unresolved or (), type.inputs.data, position)
        known = cls.get_irdl_definition().properties
        segmented = {"operandSegmentSizes", "resultSegmentSizes"}
        properties = {k: v for k, v in entries.items() if k in known or k in segmented}
        attributes = {k: v for k, v in entries.items() if k not in properties}
        return cls.create(
            operands=operands,
            result_types=type.outputs.data,
            properties=properties,
            attributes=attributes,
            regions=regions,
        )
