"""Element-wise ops and reductions on simulated threads give what their numpy reference gives."""

import numpy as np
import pytest
import samples_basic
import samples_nn
from op_sweep import close, leaves, module_of
from xdsl.dialects.gpu import ModuleOp

from lowering.gpu.emit import llvm_text
from lowering.gpu.program import GpuProgram
from lowering.gpu.ptx import GPU_TARGETS, gpu_module
from lowering.gpu.simulator import Simulator
from torsh_dialect.context import Context
from torsh_dialect.evaluate import evaluate
from torsh_dialect.kinds import Elementwise, Reduce
from torsh_fx.pipeline import gpu_stages

SAMPLES = {
    sample.op: sample
    for sample in samples_basic.SAMPLES + samples_nn.SAMPLES
    if issubclass(sample.op, Elementwise | Reduce) and all(a.size for a in leaves(sample))
}
"""The last sample of each op that has elements; every other one has symbolic extents here."""


@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=[op.name for op in SAMPLES])
def test_the_op_on_threads_is_its_reference(number):
    op = list(SAMPLES)[number]
    module, _ = module_of(SAMPLES[op], dynamic=number % 2 == 1)
    arrays = [np.asarray(a, order="C") for a in leaves(SAMPLES[op])]
    with np.errstate(all="ignore"):
        expected = evaluate(module, arrays)
    ctx = Context()
    for one in gpu_stages(ctx):
        one.apply(ctx, module)
    module.verify()
    assert any(isinstance(inner, ModuleOp) for inner in module.ops)
    simulator = Simulator(llvm_text(gpu_module(module), GPU_TARGETS["sm_80"]))
    results = GpuProgram(module, simulator)(*arrays)
    for result, reference in zip(results, expected, strict=True):
        close(result, np.asarray(reference))
