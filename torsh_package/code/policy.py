"""What happens to each module that packaged code imports: intern, extern, mock or deny."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.schema import Fields

from .globs import ModuleGlob

_MAX_RULES = 4_096
# Imported by torch.package archives without being declared; reached by every torch model.
_IMPLICIT = frozenset({"torch"})
# Part of the interpreter, but no business of a model.
_NEVER_IMPLICIT = frozenset({"ctypes", "subprocess", "socket", "multiprocessing", "pickle"})


class Action(StrEnum):
    """What to do with a module."""

    INTERN = "intern"  # its source is in the package
    EXTERN = "extern"  # it is imported from the machine that runs the package
    MOCK = "mock"  # importing it works, using it fails
    DENY = "deny"  # importing it is an error


@dataclass(frozen=True)
class Rule:
    """One action for the modules that match.

    Args:
        action: What to do.
        modules: Which modules.
        allow_empty: Whether it is fine that no module matched.
    """

    action: Action
    modules: ModuleGlob
    allow_empty: bool = True

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "action": str(self.action),
            "include": list(self.modules.include),
            "exclude": list(self.modules.exclude),
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "Rule":
        """Reads the JSON form."""
        action = fields.choice("action", frozenset(Action))
        glob = ModuleGlob(
            fields.strings("include", _MAX_RULES), fields.strings("exclude", _MAX_RULES)
        )
        fields.end()
        return cls(Action(action), glob)


@dataclass(frozen=True)
class CodePolicy:
    """Rules in order; the first that matches decides, as in `torch.package`.

        CodePolicy().intern("net.**").extern(["numpy", "torch.**"]).mock("wandb.**").deny("**")

    Modules that no rule names are extern if they belong to the standard library (but for those
    that run programs, reach the network or unpickle), and an error otherwise.

    Args:
        rules: The rules.
    """

    rules: tuple[Rule, ...] = ()

    def _with(
        self,
        action: Action,
        include: str | Iterable[str],
        exclude: str | Iterable[str],
        allow_empty: bool,
    ) -> "CodePolicy":
        rule = Rule(action, ModuleGlob.of(include, exclude), allow_empty)
        return CodePolicy((*self.rules, rule))

    def intern(
        self,
        include: str | Iterable[str],
        *,
        exclude: str | Iterable[str] = (),
        allow_empty: bool = True,
    ) -> "CodePolicy":
        """The same policy where matching modules are put into the package."""
        return self._with(Action.INTERN, include, exclude, allow_empty)

    def extern(
        self,
        include: str | Iterable[str],
        *,
        exclude: str | Iterable[str] = (),
        allow_empty: bool = True,
    ) -> "CodePolicy":
        """The same policy where matching modules come from the machine that runs the package."""
        return self._with(Action.EXTERN, include, exclude, allow_empty)

    def mock(
        self,
        include: str | Iterable[str],
        *,
        exclude: str | Iterable[str] = (),
        allow_empty: bool = True,
    ) -> "CodePolicy":
        """The same policy where matching modules can be imported but not used."""
        return self._with(Action.MOCK, include, exclude, allow_empty)

    def deny(
        self, include: str | Iterable[str], *, exclude: str | Iterable[str] = ()
    ) -> "CodePolicy":
        """The same policy where importing matching modules is an error."""
        return self._with(Action.DENY, include, exclude, True)

    def rule_for(self, module: str) -> Rule | None:
        """The first rule that matches `module`."""
        return next((rule for rule in self.rules if rule.modules.matches(module)), None)

    def action(self, module: str) -> Action | None:
        """What to do with `module`; None when nothing says so."""
        rule = self.rule_for(module)
        if rule is not None:
            return rule.action
        return Action.EXTERN if module.split(".", 1)[0] in implicit_externs() else None

    def to_json(self) -> list[JsonValue]:
        """The JSON form."""
        return [rule.to_json() for rule in self.rules]


def implicit_externs() -> frozenset[str]:
    """Top-level modules that are extern when no rule names them."""
    return (sys.stdlib_module_names - _NEVER_IMPLICIT) | _IMPLICIT
