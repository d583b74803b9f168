"""Complex numbers: making them and taking them apart. Arithmetic is that of the ordinary ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.irdl import operand_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import broadcast_shapes, conflict
from torsh_dialect.dtypes import Element, is_complex
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.types import AnyTensor, dims_of, element_type, tensor

PART: dict[Element, Element] = {dtypes.c64: dtypes.f32, dtypes.c128: dtypes.f64}
WHOLE: dict[Element, Element] = {part: whole for whole, part in PART.items()}


class OfComplex(TensorOp):
    """One complex tensor in, one of the same extents out."""

    x = operand_def()
    y = result_def()

    def checked(self) -> Element:
        """The operand's element type.

        Raises:
            ShapeError: It is not complex.
        """
        element = element_type(self.x)
        if not is_complex(element):
            raise ShapeError(f"C1: {element} is not complex")
        return element

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(PART[self.checked()], dims_of(self.x)),)


@op
class ComplexOp(TensorOp):
    """The complex numbers with real parts a and imaginary parts b, under broadcasting.

    C1: both are f32 or both f64.

    %r = torsh.complex %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xcomplex<f32>>
    """

    name = "torsh.complex"
    a = operand_def()
    b = operand_def()
    y = result_def()
    SPELLED: ClassVar = Spelled(torch=("aten.complex.default",), tensorflow=("Complex",))

    def infer(self) -> Sequence[AnyTensor]:
        element = element_type(self.a)
        if element != element_type(self.b) or element not in WHOLE:
            raise ShapeError(f"C1: {element} and {element_type(self.b)} make no complex number")
        dims = broadcast_shapes(dims_of(self.a), dims_of(self.b))
        return (tensor(WHOLE[element], dims),)

    def evaluate(self, *args: Any) -> Sequence[Array]:
        a, b = np.broadcast_arrays(*args)
        result = np.empty(a.shape, np.complex64 if a.dtype == np.float32 else np.complex128)
        result.real, result.imag = a, b
        return (result,)


@op
class RealOp(OfComplex):
    """The real part.

    C1: x is complex.

    %r = torsh.real %x : (tensor<3xcomplex<f32>>) -> tensor<3xf32>
    """

    name = "torsh.real"
    SPELLED: ClassVar = Spelled(torch=("aten.real.default",), tensorflow=("Real",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.real(args[0]),)


@op
class ImagOp(OfComplex):
    """The imaginary part.

    C1: x is complex.

    %r = torsh.imag %x : (tensor<3xcomplex<f32>>) -> tensor<3xf32>
    """

    name = "torsh.imag"
    SPELLED: ClassVar = Spelled(torch=("aten.imag.default",), tensorflow=("Imag",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.imag(args[0]),)


@op
class ConjOp(OfComplex):
    """The same real part, the negative of the imaginary part.

    C1: x is complex.

    %r = torsh.conj %x : (tensor<3xcomplex<f32>>) -> tensor<3xcomplex<f32>>
    """

    name = "torsh.conj"
    SPELLED: ClassVar = Spelled(
        torch=("aten._conj.default", "aten.conj_physical.default"), tensorflow=("Conj",)
    )

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(self.checked(), dims_of(self.x)),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.conjugate(args[0]),)


@op
class ComplexAbsOp(OfComplex):
    """The magnitude, without overflow on the way.

    C1: x is complex.

    %r = torsh.complex_abs %x : (tensor<3xcomplex<f32>>) -> tensor<3xf32>
    """

    name = "torsh.complex_abs"
    SPELLED: ClassVar = Spelled(tensorflow=("ComplexAbs",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.abs(args[0]),)


@op
class AngleOp(OfComplex):
    """The angle in -pi..pi to the positive real axis.

    C1: x is complex.

    %r = torsh.angle %x : (tensor<3xcomplex<f32>>) -> tensor<3xf32>
    """

    name = "torsh.angle"
    SPELLED: ClassVar = Spelled(tensorflow=("Angle",))

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        return (np.angle(args[0]),)


@op
class ViewAsRealOp(OfComplex):
    """Real and imaginary parts in a new last axis of extent 2; the same bytes.

    C1: x is complex.

    %r = torsh.view_as_real %x : (tensor<3xcomplex<f32>>) -> tensor<3x2xf32>
    """

    name = "torsh.view_as_real"
    SPELLED: ClassVar = Spelled(torch=("aten.view_as_real.default",))

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(PART[self.checked()], (*dims_of(self.x), 2)),)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        return (np.stack([args[0].real, args[0].imag], -1),)


@op
class ViewAsComplexOp(TensorOp):
    """Pairs in the last axis as complex numbers; the same bytes.

    C1: x is f32 or f64 with a last axis of extent 2.

    %r = torsh.view_as_complex %x : (tensor<3x2xf32>) -> tensor<3xcomplex<f32>>
    """

    name = "torsh.view_as_complex"
    x = operand_def()
    y = result_def()
    SPELLED: ClassVar = Spelled(torch=("aten.view_as_complex.default",))

    def infer(self) -> Sequence[AnyTensor]:
        dims = dims_of(self.x)
        if element_type(self.x) not in WHOLE or not dims or conflict(dims[-1], 2):
            raise ShapeError(f"C1: {self.x.type} holds no pairs of f32 or f64")
        return (tensor(WHOLE[element_type(self.x)], dims[:-1]),)

    def evaluate(self, *args: Any) -> Sequence[Array]:
        whole = np.complex64 if args[0].dtype == np.float32 else np.complex128
        return (np.ascontiguousarray(args[0]).view(whole).reshape(args[0].shape[:-1]),)
