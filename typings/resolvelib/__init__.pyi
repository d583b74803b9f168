# The part of resolvelib that torsh_package uses; its own types lose parameters in exceptions.

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

_RT = TypeVar("_RT")
_CT = TypeVar("_CT")
_KT = TypeVar("_KT")

class AbstractProvider(Generic[_RT, _CT, _KT]):
    def identify(self, requirement_or_candidate: _RT | _CT) -> _KT: ...
    def get_preference(
        self,
        identifier: _KT,
        resolutions: Mapping[_KT, _CT],
        candidates: Mapping[_KT, Iterator[_CT]],
        information: Mapping[_KT, Iterator[Any]],
        backtrack_causes: Sequence[Any],
    ) -> Any: ...
    def find_matches(
        self,
        identifier: _KT,
        requirements: Mapping[_KT, Iterator[_RT]],
        incompatibilities: Mapping[_KT, Iterator[_CT]],
    ) -> Iterable[_CT]: ...
    def is_satisfied_by(self, requirement: _RT, candidate: _CT) -> bool: ...
    def get_dependencies(self, candidate: _CT) -> Iterable[_RT]: ...

class BaseReporter: ...

class Result(Generic[_RT, _CT, _KT]):
    mapping: Mapping[_KT, _CT]

class Resolver(Generic[_RT, _CT, _KT]):
    def __init__(
        self, provider: AbstractProvider[_RT, _CT, _KT], reporter: BaseReporter
    ) -> None: ...
    def resolve(
        self, requirements: Iterable[_RT], max_rounds: int = ...
    ) -> Result[_RT, _CT, _KT]: ...

class ResolutionImpossible(Exception):  # noqa: N818
    causes: Sequence[Any]

class ResolutionTooDeep(Exception): ...  # noqa: N818
