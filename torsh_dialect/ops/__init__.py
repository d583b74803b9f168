"""All op files; importing this module fills `torsh_dialect.declare.OPS`."""

from importlib import import_module
from pkgutil import iter_modules

NAMES = sorted(module.name for module in iter_modules(__path__))

for _name in NAMES:
    import_module(f"{__name__}.{_name}")
