"""What a Python source imports, read from its syntax tree. Nothing is executed."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from torsh_package.errors import CodePolicyError, LimitError

MAX_SOURCE = 16 << 20
_MAX_NODES = 2_000_000
_DYNAMIC = {"__import__", "import_module"}


@dataclass(frozen=True)
class Import:
    """One imported module.

    Args:
        module: Absolute dotted name.
        names: Names taken from it by `from module import names`; each may be a sub-module.
        line: Line in the source.
        dynamic: By `__import__("...")` or `importlib.import_module("...")` with a constant.
    """

    module: str
    names: tuple[str, ...]
    line: int
    dynamic: bool = False


@dataclass(frozen=True)
class SourceScan:
    """What a source does with other modules.

    Args:
        imports: Imports in source order.
        computed: Lines of imports whose module is not a constant, so that no scan can follow.
        early: Names of imported modules (as bound) to the lines where they are used while the
            source itself is imported: base classes, decorators, calls outside functions.
        bound: Local name to the absolute module (or `module.name`) that it was bound to.
    """

    imports: tuple[Import, ...]
    computed: tuple[int, ...]
    early: dict[str, int]
    bound: dict[str, str]


def parse_source(source: str, label: str) -> ast.Module:
    """The syntax tree of `source`.

    Raises:
        CodePolicyError: when it is no Python of this version.
        LimitError: when it is over 16 MiB.
    """
    if len(source) > MAX_SOURCE:
        raise LimitError(f"{len(source)} characters; the limit is {MAX_SOURCE}", entry=label)
    try:
        return ast.parse(source, label)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CodePolicyError(f"is no valid Python: {str(error)[:200]}", entry=label) from error


def scan_imports(source: str, module: str, *, is_package: bool = False) -> SourceScan:
    """Everything that the source of `module` imports, at any depth.

    Args:
        source: Python text.
        module: Its absolute dotted name, to resolve relative imports.
        is_package: Whether it is an `__init__.py`.

    Raises:
        CodePolicyError: when it is malformed or a relative import leaves the top package.
    """
    tree = parse_source(source, module)
    package = module if is_package else module.rpartition(".")[0]
    imports: list[Import] = []
    computed: list[int] = []
    bound: dict[str, str] = {}
    for count, node in enumerate(ast.walk(tree)):
        if count > _MAX_NODES:
            raise LimitError(f"over {_MAX_NODES} syntax nodes", entry=module)
        if isinstance(node, ast.Import):
            for alias in node.names:
                imports.append(Import(alias.name, (), node.lineno))
                top = alias.name.split(".", 1)[0]
                bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            target = _absolute(node, package, module)
            names = tuple(alias.name for alias in node.names)
            imports.append(Import(target, names, node.lineno))
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{target}.{alias.name}"
        elif isinstance(node, ast.Call) and _called_name(node.func) in _DYNAMIC:
            _dynamic(node, package, imports, computed)
    imports.sort(key=lambda found: found.line)
    return SourceScan(tuple(imports), tuple(computed), dict(_early_uses(tree, bound)), bound)


def _absolute(node: ast.ImportFrom, package: str, module: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    if node.level > len(parts):
        raise CodePolicyError(
            f"line {node.lineno}: a relative import leaves the top package", entry=module
        )
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _called_name(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def _dynamic(node: ast.Call, package: str, imports: list[Import], computed: list[int]) -> None:
    first = node.args[0] if node.args else None
    name = first.value if isinstance(first, ast.Constant) else None
    if not isinstance(name, str) or (name.startswith(".") and not package):
        computed.append(node.lineno)
    elif name.startswith("."):
        depth = len(name) - len(name.lstrip("."))
        parts = package.split(".")
        if depth > len(parts):
            computed.append(node.lineno)
            return
        base = parts[: len(parts) - depth + 1]
        rest = name.lstrip(".")
        imports.append(Import(".".join([*base, rest] if rest else base), (), node.lineno, True))
    else:
        imports.append(Import(name, (), node.lineno, True))


def _early_uses(tree: ast.Module, bound: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Imported names that are read while the module body runs (first line of each)."""
    seen: set[str] = set()
    stack: list[ast.AST] = list(reversed(tree.body))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and node.id in bound and node.id not in seen:
            seen.add(node.id)
            yield node.id, node.lineno
        children: list[ast.AST] = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            annotations = [a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg)]
            defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d]
            outer = [*annotations, node.returns]
            children = [*node.decorator_list, *defaults, *(n for n in outer if n is not None)]
        elif isinstance(node, ast.Lambda):
            children = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d]
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            children = list(node.orelse)
        stack += reversed(children)


def _is_type_checking(test: ast.expr) -> bool:
    return _called_name(test) == "TYPE_CHECKING"
