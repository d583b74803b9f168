"""Random words of compiled programs: known answers, numpy's twister, the same with any threads."""

import numpy as np
import pytest
from xdsl.parser import Parser

from lowering.codegen import CodegenSettings, shared_generator
from lowering.cpu.host import host_target
from lowering.program.build import lower_module
from lowering.runtime.executable import Executable, Program, RunOptions
from torsh_dialect.context import Context
from torsh_dialect.ops.random import MT_STATE, MT_WORDS, philox_block
from torsh_fx.pipeline import optimise
from torsh_fx.random import first_state

KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip
"""Counter, key and words of philox4x32-10 in `kat_vectors` of the Random123 library."""


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def program(text: str, threads: int = 1) -> Executable:
    """A compiled `@main`."""
    ctx = Context(target=host_target())
    module = Parser(ctx, text).parse_module()
    optimise(module, ctx)
    main, _ = lower_module(module, ctx.target)
    objects = shared_generator(CodegenSettings()).compile(main.units)
    return Executable(Program(main.spec, objects), options=RunOptions(threads=threads))


def philox_program(count: int, threads: int = 1) -> Executable:
    type, state = f"tensor<{count}xui32>", "tensor<2xui64>"
    draws = "\n".join(
        f"  %w{n} = torsh.philox %s {{skip = #torsh.dims<[0]>, target = #torsh.dims<[{count}]>, "
        f"word = {n} : i64}} : ({state}) -> {type}"
        for n in range(4)
    )
    types = ", ".join([type] * 4)
    return program(
        f"func.func @main(%s: {state}) -> ({types}) {{\n{draws}\n"
        f"  func.return %w0, %w1, %w2, %w3 : {types}\n}}",
        threads,
    )


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_reference_gives_the_known_answers(counter: str, key: str, expected: str) -> None:
    k0, k1 = words(key)
    assert [int(word) for word in philox_block(words(counter), (k0, k1))] == words(expected)


def test_compiled_philox_gives_the_known_answer_and_the_reference() -> None:
    run = philox_program(1000)
    found = np.stack(run.run([np.zeros(2, np.uint64)]), 1)
    assert found[0].tolist() == words(KNOWN_ANSWERS[0][2])
    key, start = 0x299F31D0A4093822, 2**64 - 500  # the counter's lower half wraps
    found = np.stack(run.run([np.array([key, start], np.uint64)]), 1)
    number = np.arange(1000, dtype=np.uint64) + np.uint64(start)
    counter = (number & np.uint64(2**32 - 1), number >> np.uint64(32), 0 * number, 0 * number)
    expected = np.stack(philox_block(counter, (0xA4093822, 0x299F31D0)), 1)
    np.testing.assert_array_equal(found, expected)


def test_philox_is_the_same_with_any_threads() -> None:
    state = np.array([7, 2**40], np.uint64)
    once, *others = (philox_program(300_001, threads).run([state]) for threads in (1, 2, 4))
    for other in others:
        for a, b in zip(once, other, strict=True):
            assert a.tobytes() == b.tobytes()


TWISTER = f"""
func.func @main(%s: tensor<{MT_STATE}xui32>, %n: tensor<i64>)
    -> (tensor<2000xui32>, tensor<{MT_STATE}xui32>) {{
  %w, %t = torsh.mt19937 %s, %n {{target = #torsh.dims<[2000]>}}
      : (tensor<{MT_STATE}xui32>, tensor<i64>) -> (tensor<2000xui32>, tensor<{MT_STATE}xui32>)
  func.return %w, %t : tensor<2000xui32>, tensor<{MT_STATE}xui32>
}}
"""


def test_compiled_twister_is_numpys() -> None:
    """Draws of many lengths in a row, each from the state that the one before left."""
    run, state = program(TWISTER), first_state("mt19937", 5489)
    oracle = np.random.RandomState(5489)
    for count in (1, 0, 622, 1, 1, 623, 624, 625, 2000, 3):
        drawn, state = run.run([state, np.array(count, np.int64)])
        expected = oracle.randint(0, 2**32, count, np.uint32)
        np.testing.assert_array_equal(drawn[:count], expected)
        assert not drawn[count:].any()


def test_first_state_is_numpys_seeding() -> None:
    for seed in (0, 1, 67280421310721 % 2**32, 2**32 - 1):
        key = np.random.RandomState(seed).get_state(legacy=False)["state"]["key"]
        np.testing.assert_array_equal(first_state("mt19937", seed)[:MT_WORDS], key)


def test_a_state_past_its_end_and_wild_counts_are_limited() -> None:
    run, state = program(TWISTER), first_state("mt19937", 3)
    expected, _ = run.run([state, np.array(2000, np.int64)])
    state[MT_WORDS] = 2**32 - 1
    drawn, after = run.run([state, np.array(2**62, np.int64)])
    np.testing.assert_array_equal(drawn, expected)
    assert after[MT_WORDS] <= MT_WORDS
    drawn, after = run.run([state, np.array(-5, np.int64)])
    assert not drawn.any()
