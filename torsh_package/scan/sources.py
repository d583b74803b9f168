"""Python sources: weak cryptography, code execution, unsafe loading. Read as syntax trees."""

import ast
from collections.abc import Iterator

from torsh_package.code.imports import parse_source
from torsh_package.errors import PackageError

from .findings import Finding, Severity

_Rule = tuple[str, Severity, str]

# Called name (as imported, last two components) -> rule.
_CALLS: dict[str, _Rule] = {
    **{f"hashlib.{n}": ("crypto-weak-hash", Severity.MEDIUM, f"{n} is broken; use sha256")
       for n in ("md5", "sha1", "md4")},
    **{f"hashes.{n}": ("crypto-weak-hash", Severity.MEDIUM, f"{n} is broken; use SHA256")
       for n in ("MD5", "SHA1")},
    **{f"algorithms.{n}": ("crypto-weak-cipher", Severity.HIGH, f"{n} is weak; use AES-GCM")
       for n in ("ARC4", "TripleDES", "Blowfish", "IDEA", "CAST5", "SEED", "RC2")},
    **{f"{n}.new": ("crypto-weak-cipher", Severity.HIGH, f"{n} is weak; use AES-GCM")
       for n in ("DES", "DES3", "ARC4", "ARC2", "Blowfish", "CAST")},
    "modes.ECB": ("crypto-ecb", Severity.HIGH, "ECB shows equal blocks; use GCM"),
    "ssl._create_unverified_context": ("tls-unverified", Severity.HIGH, "certificates unchecked"),
    **{f"{m}.{n}": ("code-unpickle", Severity.HIGH, f"{m}.{n} runs what the data says")
       for m in ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve")
       for n in ("load", "loads", "Unpickler")},
    "pandas.read_pickle": ("code-unpickle", Severity.HIGH, "read_pickle runs what the data says"),
    "marshal.loads": ("code-unpickle", Severity.HIGH, "marshal is not safe for foreign data"),
    "yaml.unsafe_load": ("code-unsafe-yaml", Severity.HIGH, "use yaml.safe_load"),
    "os.system": ("code-command", Severity.HIGH, "runs a shell command"),
    "os.popen": ("code-command", Severity.HIGH, "runs a shell command"),
    "os.execv": ("code-command", Severity.HIGH, "runs a program"),
    "pty.spawn": ("code-command", Severity.HIGH, "runs a program"),
    **{f"subprocess.{n}": ("code-command", Severity.HIGH, "runs a program")
       for n in ("run", "call", "check_call", "check_output", "Popen", "getoutput")},
    "ctypes.CDLL": ("code-native", Severity.HIGH, "loads native code"),
    "importlib.import_module": ("code-dynamic-import", Severity.LOW, "imports by computed name"),
    "socket.socket": ("code-network", Severity.MEDIUM, "opens a socket"),
    "urllib.request.urlopen": ("code-network", Severity.MEDIUM, "opens a URL"),
    "request.urlopen": ("code-network", Severity.MEDIUM, "opens a URL"),
    **{f"requests.{n}": ("code-network", Severity.MEDIUM, "opens a URL")
       for n in ("get", "post", "put", "request")},
    "hub.load": ("code-network", Severity.HIGH, "torch.hub runs code from the network"),
}  # fmt: skip
_BUILTINS: dict[str, _Rule] = {
    "eval": ("code-eval", Severity.HIGH, "eval runs text as code"),
    "exec": ("code-eval", Severity.HIGH, "exec runs text as code"),
    "compile": ("code-eval", Severity.MEDIUM, "compiles text to code"),
    "__import__": ("code-dynamic-import", Severity.LOW, "imports by computed name"),
}
_RANDOM = {
    "random.random",
    "random.randint",
    "random.choice",
    "random.getrandbits",
    "random.randbytes",
}
_SECRET_WORDS = ("password", "token", "secret", "nonce", "salt", "key")


def scan_source(text: str, where: str) -> Iterator[Finding]:
    """Findings in a Python source."""
    try:
        tree = parse_source(text, where)
    except PackageError as error:
        yield Finding("source-malformed", Severity.MEDIUM, where, error.message[:300])
        return
    names = _imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for rule, severity, message in _judge_call(node, names):
                yield Finding(rule, severity, where, message, node.lineno)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _judge_random(node, names, where)


def _imported_names(tree: ast.AST) -> dict[str, str]:
    """Local name to the dotted name that it was imported as."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
    return found


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """`a.b.c` with the first name resolved through the imports; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _keyword(node: ast.Call, name: str) -> object:
    for keyword in node.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            return keyword.value.value
    return None


def _judge_call(node: ast.Call, names: dict[str, str]) -> Iterator[_Rule]:
    dotted = _dotted(node.func, names)
    if not dotted:
        return
    tail = ".".join(dotted.split(".")[-2:])
    if isinstance(node.func, ast.Name) and dotted in _BUILTINS and not _is_constant(node):
        yield _BUILTINS[dotted]
    found = _CALLS.get(dotted) or _CALLS.get(tail)
    if found is not None and not (found[0] == "crypto-weak-hash" and _not_for_security(node)):
        yield found
    if _keyword(node, "verify") is False:
        yield ("tls-unverified", Severity.HIGH, "verify=False: certificates are not checked")
    if _keyword(node, "shell") is True:
        yield ("code-shell", Severity.HIGH, "shell=True runs text as a shell command")
    for test in (_torch_load, _numpy_load, _yaml_load, _hash_by_name):
        rule = test(node, tail)
        if rule is not None:
            yield rule


def _is_constant(node: ast.Call) -> bool:
    return bool(node.args) and isinstance(node.args[0], ast.Constant)


def _not_for_security(node: ast.Call) -> bool:
    return _keyword(node, "usedforsecurity") is False


def _torch_load(node: ast.Call, tail: str) -> _Rule | None:
    if tail == "torch.load" and _keyword(node, "weights_only") is not True:
        return ("code-unpickle", Severity.HIGH, "torch.load without weights_only=True")
    return None


def _numpy_load(node: ast.Call, tail: str) -> _Rule | None:
    if tail in ("numpy.load", "np.load") and _keyword(node, "allow_pickle") is True:
        return ("code-unpickle", Severity.HIGH, "numpy.load with allow_pickle=True")
    return None


def _yaml_load(node: ast.Call, tail: str) -> _Rule | None:
    if tail != "yaml.load":
        return None
    loaders = [k.value for k in node.keywords if k.arg == "Loader"] + node.args[1:2]
    safe = any("Safe" in ast.unparse(loader) for loader in loaders)
    return None if safe else ("code-unsafe-yaml", Severity.HIGH, "yaml.load without SafeLoader")


def _hash_by_name(node: ast.Call, tail: str) -> _Rule | None:
    first = node.args[0] if node.args else None
    name = first.value if isinstance(first, ast.Constant) else None
    weak = isinstance(name, str) and name.lower().replace("-", "") in ("md5", "sha1", "md4")
    if tail == "hashlib.new" and weak and not _not_for_security(node):
        return ("crypto-weak-hash", Severity.MEDIUM, f"{name} is broken; use sha256")
    return None


def _judge_random(
    node: ast.Assign | ast.AnnAssign, names: dict[str, str], where: str
) -> Iterator[Finding]:
    """`token = random...`: predictable where it must not be."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    labels = [ast.unparse(target).lower() for target in targets]
    if node.value is None or not any(w in label for label in labels for w in _SECRET_WORDS):
        return
    for call in ast.walk(node.value):
        if isinstance(call, ast.Call) and _dotted(call.func, names) in _RANDOM:
            message = "random is predictable; use secrets"
            yield Finding("crypto-weak-random", Severity.MEDIUM, where, message, call.lineno)
            return
