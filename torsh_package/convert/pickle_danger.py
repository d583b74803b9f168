"""Which names in a pickle would do harm if somebody unpickled the file.

Nothing here is ever called by the converters. A file that names one of these was made to attack
whoever loads it, so it is refused as a whole rather than quietly stripped.
"""

from collections.abc import Iterable

from torsh_package.errors import UnsafePickleError

from .pickle_reader import GlobalUse
from .pickle_values import GlobalName

# Whole modules with which commands, code, files or the network are reached.
_MODULES = frozenset({
    "os", "posix", "nt", "sys", "subprocess", "_posixsubprocess", "shutil", "socket", "_socket",
    "ssl", "pty", "fcntl", "ctypes", "_ctypes", "cffi", "mmap", "importlib", "_imp", "imp",
    "pkgutil", "zipimport", "runpy", "codeop", "marshal", "pickle", "_pickle", "cPickle",
    "shelve", "webbrowser", "urllib", "urllib2", "requests", "http", "httplib",
    "ftplib", "smtplib", "telnetlib", "xmlrpc", "asyncio", "tempfile", "fileinput", "bdb", "pdb",
    "timeit", "cProfile", "doctest", "idlelib", "lib2to3", "pip", "ensurepip", "venv", "pydoc",
    "atexit", "sqlite3", "tarfile", "zipfile", "winreg", "_winapi", "msvcrt", "commands",
    "popen2", "aiohttp", "httpx", "paramiko",
})  # fmt: skip

_BUILTINS = frozenset({
    "eval", "exec", "execfile", "compile", "open", "file", "__import__", "input", "raw_input",
    "breakpoint", "globals", "locals", "vars", "setattr", "delattr", "apply", "exit", "quit",
    "help", "reload", "map", "filter",
})  # fmt: skip

# Single names of modules that honest checkpoints use too: they load code or run what they get.
_FUNCTIONS = frozenset({
    "operator.attrgetter", "operator.methodcaller", "_operator.attrgetter",
    "_operator.methodcaller", "functools.reduce", "_functools.reduce", "io.open", "_io.open",
    "io.open_code", "_io.open_code", "io.FileIO", "_io.FileIO", "code.interact",
    "code.InteractiveInterpreter", "code.InteractiveConsole", "types.FunctionType",
    "types.CodeType", "platform.popen", "profile.run", "trace.Trace", "joblib.load",
    "multiprocessing.Process", "multiprocessing.context.Process", "threading.Thread",
    "_thread.start_new_thread", "distutils.spawn.spawn", "setuptools.setup", "glob.glob",
    "torch.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load",
    "torch.serialization.load", "torch.utils.cpp_extension.load",
    "torch.utils.cpp_extension.load_inline", "torch.storage._load_from_file",
    "torch.utils._config_module.ConfigModule.load_config", "numpy.load", "numpy.memmap",
    "numpy.fromfile", "numpy.ctypeslib.load_library", "numpy.testing._private.utils.runstring",
    "cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads", "dill._dill.load",
    "dill._dill.loads", "pandas.read_pickle", "pandas.eval", "site.addsitedir",
    "logging.config.fileConfig",
    "logging.config.listen", "nltk.data.load", "uuid._get_command_stdout", "cgitb.lookup",
})  # fmt: skip

# Serializers that put code objects into the pickle; read over by converters, named by scans.
CODE_CARRIERS = frozenset({"cloudpickle", "dill", "torch.fx.graph_module"})

# Walking attributes by a dotted name (STACK_GLOBAL splits at dots) reaches other modules.
_STEPS = frozenset({"sys", "os", "modules", "system", "popen", "builtins"})


def is_dangerous(name: GlobalName) -> bool:
    """Whether unpickling something that calls `name` could run commands, code or do I/O."""
    module, parts = name.module, name.name.split(".")
    if module.split(".", 1)[0] in _MODULES or module.startswith("test.support"):
        return True
    if any(part.startswith("__") and part.endswith("__") for part in parts):
        return module not in ("copyreg", "copy_reg") or len(parts) > 1
    if len(parts) > 1 and not _STEPS.isdisjoint(parts):
        return True
    if module in ("builtins", "__builtin__", "__builtins__"):
        return parts[0] in _BUILTINS
    return name.dotted in _FUNCTIONS


def refuse_dangerous(uses: Iterable[GlobalUse], *, entry: str | None) -> None:
    """Raise when any of `uses` is dangerous.

    Raises:
        UnsafePickleError: listing each such name with its opcode and offset.
    """
    found = [use for use in uses if is_dangerous(use.name)]
    if not found:
        return
    labels = tuple(f"{use.name.dotted}@{use.offset}" for use in found[:64])
    listed = ", ".join(
        f"{use.name.dotted[:100]} ({use.opcode} at byte {use.offset})" for use in found[:8]
    )
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    raise UnsafePickleError(
        f"the pickle names {listed}{more}: unpickling it would run that. Nothing was executed; "
        "do not load this file with pickle or torch.load(weights_only=False)",
        found=labels,
        entry=entry,
    )
