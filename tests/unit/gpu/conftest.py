"""Make the programs of this folder, the op samples and the GPU benchmark importable."""

import sys
from pathlib import Path

import pytest
from xdsl.parser import Parser

from torsh_dialect.context import Context
from torsh_fx.pipeline import gpu_stages

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "dialect"), str(HERE.parents[2] / "benchmarks")]


@pytest.fixture
def compiled_module():
    """The module of a text after the passes of a GPU compilation, or after some of them."""

    def run(text, *, until=None):
        ctx = Context()
        module = Parser(ctx, text).parse_module()
        for one in gpu_stages(ctx):
            one.apply(ctx, module)
            if one.name == until:
                break
        module.verify()
        return module

    return run
