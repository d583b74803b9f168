"""The engines that are compared: each turns a zoo model into a function without arguments.

Inputs and outputs are bound before timing. Peers run in float32, with telemetry off, on the given
number of threads. Every engine's first result is checked against torch eager.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from zoo import Model

Call = Callable[[], Sequence[np.ndarray]]
"""Runs the model once; returns its outputs."""


@dataclass
class Prepared:
    """An engine with a model loaded.

    Attributes:
        call: Runs the model once.
        facts: What else is known, e.g. executed FLOPs.
    """

    call: Call
    facts: dict[str, float] = field(default_factory=dict)


def torsh(model: Model, path: str, threads: int) -> Prepared:
    """Ours, from the ONNX file."""
    from physics import executed

    import torsh_fx.compiler as compiler

    compiled = compiler.compile(path, threads=threads)
    inputs = [np.ascontiguousarray(x.numpy()) for x in model.inputs]
    outputs = [np.empty_like(y) for y in compiled.run(inputs)]
    bound = compiled.executable.bind(inputs, outputs)

    def call() -> Sequence[np.ndarray]:
        bound()
        return outputs

    flops, size = executed(compiled)
    return Prepared(call, {"flops": flops, "weight_bytes": size, **compiled.report.seconds})


def onnxruntime(model: Model, path: str, threads: int) -> Prepared:
    """ONNX Runtime, all optimisations, IO binding."""
    import onnxruntime as ort

    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for spec, x in zip(session.get_inputs(), model.inputs, strict=True):
        binding.bind_cpu_input(spec.name, np.ascontiguousarray(x.numpy()))
    for spec in session.get_outputs():
        binding.bind_output(spec.name)

    session.run_with_iobinding(binding)
    first = binding.copy_outputs_to_cpu()

    def call() -> Sequence[np.ndarray]:
        session.run_with_iobinding(binding)
        return first

    return Prepared(call)


def openvino(model: Model, path: str, threads: int) -> Prepared:
    """OpenVINO with the latency hint, in float32."""
    import openvino as ov

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = ov.Core().compile_model(path, "CPU", config)
    request = compiled.create_infer_request()
    for place, x in enumerate(model.inputs):
        request.set_input_tensor(
            place, ov.Tensor(np.ascontiguousarray(x.numpy()), shared_memory=True)
        )

    def call() -> Sequence[np.ndarray]:
        request.infer()
        return [request.get_output_tensor(n).data for n in range(len(compiled.outputs))]

    return Prepared(call)


def eager(model: Model, path: str, threads: int) -> Prepared:
    """PyTorch eager."""

    def call() -> Sequence[np.ndarray]:
        with torch.inference_mode():
            y = model.module(*model.inputs)
        return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]

    return Prepared(call)


def inductor(model: Model, path: str, threads: int) -> Prepared:
    """torch.compile with freezing."""
    import torch._inductor.config as config

    config.freezing = True
    compiled = torch.compile(model.module)

    def call() -> Sequence[np.ndarray]:
        with torch.no_grad():
            y = compiled(*model.inputs)
        return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]

    return Prepared(call)


ENGINES: dict[str, Callable[[Model, str, int], Prepared]] = {
    "torsh": torsh,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torch": eager,
    "inductor": inductor,
}


def limit_threads(threads: int) -> None:
    """Before anything is loaded: the environment that all engines read, and torch's setting."""
    os.environ.update(OMP_NUM_THREADS=str(threads), OPENVINO_TELEMETRY="0", DO_NOT_TRACK="1")
    torch.set_num_threads(threads)
