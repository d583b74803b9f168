"""Bessel functions of orders 0 and 1 and the Airy function, element-wise."""

from __future__ import annotations

from typing import Any, ClassVar

from torsh_dialect.declare import Spelled, op
from torsh_dialect.ops import special_reference as ref
from torsh_dialect.ops.special import Special


def i0(x: Any) -> Any:
    """Modified Bessel function of order 0."""
    return ref.bessel_i(0, x, scaled=False)


def i0e(x: Any) -> Any:
    """Modified Bessel function of order 0 times exp(-|x|)."""
    return ref.bessel_i(0, x, scaled=True)


def i1(x: Any) -> Any:
    """Modified Bessel function of order 1."""
    return ref.bessel_i(1, x, scaled=False)


def i1e(x: Any) -> Any:
    """Modified Bessel function of order 1 times exp(-|x|)."""
    return ref.bessel_i(1, x, scaled=True)


def j0(x: Any) -> Any:
    """Bessel function of the first kind, order 0."""
    return ref.bessel_j(0, x)


def j1(x: Any) -> Any:
    """Bessel function of the first kind, order 1."""
    return ref.bessel_j(1, x)


def y0(x: Any) -> Any:
    """Bessel function of the second kind, order 0."""
    return ref.bessel_y(0, x)


def y1(x: Any) -> Any:
    """Bessel function of the second kind, order 1."""
    return ref.bessel_y(1, x)


def k0(x: Any) -> Any:
    """Modified Bessel function of the second kind, order 0."""
    return ref.bessel_k(0, x, scaled=False)


def k0e(x: Any) -> Any:
    """Modified Bessel function of the second kind, order 0, times exp(x)."""
    return ref.bessel_k(0, x, scaled=True)


def k1(x: Any) -> Any:
    """Modified Bessel function of the second kind, order 1."""
    return ref.bessel_k(1, x, scaled=False)


def k1e(x: Any) -> Any:
    """Modified Bessel function of the second kind, order 1, times exp(x)."""
    return ref.bessel_k(1, x, scaled=True)


@op
class I0Op(Special):
    """The modified Bessel function of the first kind of order 0.

    %r = torsh.i0 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.i0"
    FUNCTION: ClassVar = "i0"
    REFERENCE: ClassVar = staticmethod(i0)
    SPELLED: ClassVar = Spelled(
        torch=("aten.i0.default", "aten.special_modified_bessel_i0.default")
    )


@op
class I0EOp(Special):
    """exp(-|x|) times the modified Bessel function of the first kind of order 0.

    %r = torsh.i0e %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.i0e"
    FUNCTION: ClassVar = "i0e"
    REFERENCE: ClassVar = staticmethod(i0e)
    SPELLED: ClassVar = Spelled(torch=("aten.special_i0e.default",))


@op
class I1Op(Special):
    """The modified Bessel function of the first kind of order 1.

    %r = torsh.i1 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.i1"
    FUNCTION: ClassVar = "i1"
    REFERENCE: ClassVar = staticmethod(i1)
    SPELLED: ClassVar = Spelled(
        torch=("aten.special_i1.default", "aten.special_modified_bessel_i1.default")
    )


@op
class I1EOp(Special):
    """exp(-|x|) times the modified Bessel function of the first kind of order 1.

    %r = torsh.i1e %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.i1e"
    FUNCTION: ClassVar = "i1e"
    REFERENCE: ClassVar = staticmethod(i1e)
    SPELLED: ClassVar = Spelled(torch=("aten.special_i1e.default",))


@op
class J0Op(Special):
    """The Bessel function of the first kind of order 0.

    %r = torsh.j0 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.j0"
    FUNCTION: ClassVar = "j0"
    REFERENCE: ClassVar = staticmethod(j0)
    SPELLED: ClassVar = Spelled(torch=("aten.special_bessel_j0.default",))


@op
class J1Op(Special):
    """The Bessel function of the first kind of order 1.

    %r = torsh.j1 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.j1"
    FUNCTION: ClassVar = "j1"
    REFERENCE: ClassVar = staticmethod(j1)
    SPELLED: ClassVar = Spelled(torch=("aten.special_bessel_j1.default",))


@op
class Y0Op(Special):
    """The Bessel function of the second kind of order 0.

    %r = torsh.y0 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.y0"
    FUNCTION: ClassVar = "y0"
    REFERENCE: ClassVar = staticmethod(y0)
    SPELLED: ClassVar = Spelled(torch=("aten.special_bessel_y0.default",))


@op
class Y1Op(Special):
    """The Bessel function of the second kind of order 1.

    %r = torsh.y1 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.y1"
    FUNCTION: ClassVar = "y1"
    REFERENCE: ClassVar = staticmethod(y1)
    SPELLED: ClassVar = Spelled(torch=("aten.special_bessel_y1.default",))


@op
class K0Op(Special):
    """The modified Bessel function of the second kind of order 0.

    %r = torsh.k0 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.k0"
    FUNCTION: ClassVar = "k0"
    REFERENCE: ClassVar = staticmethod(k0)
    SPELLED: ClassVar = Spelled(torch=("aten.special_modified_bessel_k0.default",))


@op
class K0EOp(Special):
    """exp(x) times the modified Bessel function of the second kind of order 0.

    %r = torsh.k0e %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.k0e"
    FUNCTION: ClassVar = "k0e"
    REFERENCE: ClassVar = staticmethod(k0e)
    SPELLED: ClassVar = Spelled(torch=("aten.special_scaled_modified_bessel_k0.default",))


@op
class K1Op(Special):
    """The modified Bessel function of the second kind of order 1.

    %r = torsh.k1 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.k1"
    FUNCTION: ClassVar = "k1"
    REFERENCE: ClassVar = staticmethod(k1)
    SPELLED: ClassVar = Spelled(torch=("aten.special_modified_bessel_k1.default",))


@op
class K1EOp(Special):
    """exp(x) times the modified Bessel function of the second kind of order 1.

    %r = torsh.k1e %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.k1e"
    FUNCTION: ClassVar = "k1e"
    REFERENCE: ClassVar = staticmethod(k1e)
    SPELLED: ClassVar = Spelled(torch=("aten.special_scaled_modified_bessel_k1.default",))


@op
class AiryOp(Special):
    """The Airy function Ai; 0 at both infinities.

    %r = torsh.airy_ai %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.airy_ai"
    FUNCTION: ClassVar = "airy_ai"
    REFERENCE: ClassVar = staticmethod(ref.airy_ai)
