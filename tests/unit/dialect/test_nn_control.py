"""Control flow, sequences and strings: text, verification and reference values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.parser import Parser
from xdsl.utils.exceptions import VerifyException

from torsh_dialect.context import Context
from torsh_dialect.errors import InputError
from torsh_dialect.evaluate import evaluate


def parsed(text: str) -> Any:
    module = Parser(Context(), text).parse_module()
    module.verify()
    assert str(Parser(Context(), str(module)).parse_module()) == str(module)
    return module


LOOP = """
builtin.module {
  func.func @main(%n: tensor<i64>, %x: tensor<?xf32, #torsh.dims<[k]>>)
      -> (tensor<?xf32, #torsh.dims<[k]>>, tensor<?x?xf32, #torsh.dims<[u0, k]>>) {
    %t = torsh.constant {value = #torsh.literal<"bool", [], [1]>} : () -> tensor<i1>
    %r, %s = torsh.loop %n, %t, %x {scans = 1 : i64, symbols = ["u0"]} {
    ^bb0(%i: tensor<i64>, %a: tensor<?xf32, #torsh.dims<[k]>>):
      %b = torsh.add %a, %x : (tensor<?xf32, #torsh.dims<[k]>>, tensor<?xf32, #torsh.dims<[k]>>)
        -> tensor<?xf32, #torsh.dims<[k]>>
      torsh.yield %t, %b, %a : (tensor<i1>, tensor<?xf32, #torsh.dims<[k]>>,
        tensor<?xf32, #torsh.dims<[k]>>) -> ()
    } : (tensor<i64>, tensor<i1>, tensor<?xf32, #torsh.dims<[k]>>)
      -> (tensor<?xf32, #torsh.dims<[k]>>, tensor<?x?xf32, #torsh.dims<[u0, k]>>)
    func.return %r, %s : tensor<?xf32, #torsh.dims<[k]>>, tensor<?x?xf32, #torsh.dims<[u0, k]>>
  }
}
"""


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_loop_carries_and_stacks(trips: int):
    x = np.arange(3, dtype=np.float32)
    last, stack = evaluate(parsed(LOOP), [np.array(trips), x])
    np.testing.assert_array_equal(last, x * (trips + 1))
    np.testing.assert_array_equal(stack, np.outer(np.arange(1, trips + 1), x))


def test_a_loop_must_keep_its_types():
    wrong = LOOP.replace("torsh.yield %t, %b, %a", "torsh.yield %t, %t, %a").replace(
        "(tensor<i1>, tensor<?xf32, #torsh.dims<[k]>>,\n", "(tensor<i1>, tensor<i1>,\n"
    )
    with pytest.raises(VerifyException, match="C2"):
        parsed(wrong)


COND = """
builtin.module {
  func.func @main(%c: tensor<i1>, %a: tensor<2xf32>, %b: tensor<3xf32>)
      -> tensor<?xf32, #torsh.dims<[u]>> {
    %r = torsh.cond %c {symbols = ["u"]} {
      torsh.yield %a : (tensor<2xf32>) -> ()
    } {
      torsh.yield %b : (tensor<3xf32>) -> ()
    } : (tensor<i1>) -> tensor<?xf32, #torsh.dims<[u]>>
    func.return %r : tensor<?xf32, #torsh.dims<[u]>>
  }
}
"""


def test_cond_picks_a_branch_and_names_the_extent():
    module = parsed(COND)
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    (first,) = evaluate(module, [np.array(True), a, b])
    (second,) = evaluate(module, [np.array(False), a, b])
    np.testing.assert_array_equal(first, a)
    np.testing.assert_array_equal(second, b)
    with pytest.raises(InputError):
        evaluate(module, [np.array(True), b, b])


def test_cond_needs_a_name_for_an_extent_that_differs():
    with pytest.raises(VerifyException, match="symbols"):
        parsed(COND.replace('{symbols = ["u"]} ', ""))


def test_sequences_hold_tensors_of_different_extents():
    module = parsed("""
    builtin.module {
      func.func @main(%a: tensor<2xf32>, %b: tensor<3xf32>, %p: tensor<i64>)
          -> tensor<?xf32, #torsh.dims<[u]>> {
        %s = torsh.sequence_construct %a, %b : (tensor<2xf32>, tensor<3xf32>)
          -> !torsh.seq<tensor<?xf32, #torsh.dims<[any]>>>
        %r = torsh.sequence_at %s, %p {symbols = ["u"]}
          : (!torsh.seq<tensor<?xf32, #torsh.dims<[any]>>>, tensor<i64>)
          -> tensor<?xf32, #torsh.dims<[u]>>
        func.return %r : tensor<?xf32, #torsh.dims<[u]>>
      }
    }
    """)
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    for place, expected in ((0, a), (1, b), (-1, b)):
        (actual,) = evaluate(module, [a, b, np.array(place)])
        np.testing.assert_array_equal(actual, expected)
