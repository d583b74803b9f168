"""Constants that live in the IR, and weights that live in the store beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute
from xdsl.irdl import opt_prop_def, prop_def, result_def, traits_def
from xdsl.traits import ConstantLike, Pure

from torsh_dialect.attributes import Array, LiteralAttr
from torsh_dialect.declare import op
from torsh_dialect.dtypes import dtype_named
from torsh_dialect.errors import TorshError
from torsh_dialect.kinds import Contents, TensorOp
from torsh_dialect.types import tensor


@op
class ConstantOp(TensorOp):
    """A small constant. Large arrays are weights.

    %c = torsh.constant {value = #torsh.literal<"f32", [2], [1.0, 2.0]>} : () -> tensor<2xf32>
    """

    name = "torsh.constant"
    value = prop_def(LiteralAttr)
    y = result_def()
    traits = traits_def(Pure(), ConstantLike())

    def infer(self) -> Sequence[Attribute]:
        literal = self.value.data
        return (tensor(dtype_named(literal.dtype).element, literal.shape),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (self.value.data.array(),)

    def contents(self) -> Contents | None:
        array = self.value.data.array()
        if array.dtype.kind not in "iu" or array.size > 1024:
            return None
        return tuple(int(v) for v in array.reshape(-1).astype(np.int64))


@op
class WeightOp(TensorOp):
    """An entry of the weight store: the text shows its name and digest, never its data.

    %w = torsh.weight {id = "fc.weight", type = tensor<10x784xf32>} : () -> tensor<10x784xf32>
    """

    name = "torsh.weight"
    id = prop_def(StringAttr)
    type = prop_def(Attribute)
    digest = opt_prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        return (self.type,)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        raise TorshError(f"the weight {self.id.data!r} has no data here; give a WeightStore")
