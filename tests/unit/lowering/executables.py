"""Executables of modules that are written as text."""

from functools import cache

from xdsl.parser import Parser

from lowering.codegen import CodegenSettings, shared_generator
from lowering.cpu.host import host_target
from lowering.program.build import lower_module
from lowering.runtime.executable import Executable, Program
from torsh_dialect.context import Context
from torsh_fx.pipeline import optimise


@cache
def compiled(text: str) -> Executable:
    """The executable of a module without weights."""
    ctx = Context(target=host_target())
    module = Parser(ctx, text).parse_module()
    module.verify()
    optimise(module, ctx)
    main, prepare = lower_module(module, ctx.target)
    assert prepare is None
    objects = shared_generator(CodegenSettings()).compile(main.units)
    return Executable(Program(main.spec, objects, main.constants))
