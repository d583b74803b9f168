"""Our linker against LLVM's on the same objects, and on damaged ones."""

import ctypes
import os
import random
import struct
from collections.abc import Callable

import numpy as np
import pytest
from runtime_programs import TARGET, add_module, generator, object_of

from lowering.codegen import CodegenUnit
from lowering.runtime.elf import read_object
from lowering.runtime.image import Image
from lowering.runtime.link import LinkedCode, Linker, libc_address
from torsh_dialect.errors import CodegenError, ExecutionError
from torsh_dialect.target import TARGETS

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="a linker for x86-64")

TABLES = """
@squares = private constant [4 x i64] [i64 0, i64 1, i64 4, i64 9], align 64
@exported = constant [2 x i64] [i64 40, i64 2]
@counter = internal global i64 5
@zeros = internal global [1000 x i64] zeroinitializer, align 128
@pointer = internal global ptr @twice
@chain = internal global ptr getelementptr (i64, ptr @exported, i64 1)
declare i64 @elsewhere(i64)
@shared = external global i64
define i64 @twice(i64 %x) nounwind {
  %y = mul i64 %x, 2
  ret i64 %y
}
define i64 @entry(i64 %x) nounwind {
entry:
  %old = load i64, ptr @counter
  %new = add i64 %old, %x
  store i64 %new, ptr @counter
  %i = urem i64 %x, 4
  %p = getelementptr i64, ptr @squares, i64 %i
  %a = load i64, ptr %p
  %q = load ptr, ptr @pointer
  %b = call i64 %q(i64 %a)
  %c = call i64 @elsewhere(i64 %b)
  %r = load ptr, ptr @chain
  %d = load i64, ptr %r
  %z = getelementptr i64, ptr @zeros, i64 %x
  %e = load i64, ptr %z
  store i64 %x, ptr %z
  %s = load i64, ptr @shared
  switch i64 %x, label %other [ i64 0, label %k0
    i64 1, label %k1
    i64 2, label %k2
    i64 3, label %k3
    i64 4, label %k4
    i64 5, label %k5 ]
k0:
  br label %join
k1:
  br label %join
k2:
  br label %join
k3:
  br label %join
k4:
  br label %join
k5:
  br label %join
other:
  br label %join
join:
  %j = phi i64 [ 100, %k0 ], [ 203, %k1 ], [ 351, %k2 ], [ 417, %k3 ], [ 502, %k4 ], [ 666, %k5 ],
               [ 999, %other ]
  %t1 = add i64 %new, %c
  %t2 = add i64 %t1, %d
  %t3 = add i64 %t2, %e
  %t4 = add i64 %t3, %s
  %t5 = add i64 %t4, %j
  ret i64 %t5
}
"""
ELSEWHERE = """
@shared = global i64 7000
@entries = constant [2 x ptr] [ptr @elsewhere, ptr @entry]
declare i64 @entry(i64)
declare i64 @labs(i64)
define i64 @elsewhere(i64 %x) nounwind {
  %n = sub i64 0, %x
  %y = call i64 @labs(i64 %n)
  %z = add i64 %y, 1
  ret i64 %z
}
"""


def objects_of(level: int) -> list[bytes]:
    units = [
        CodegenUnit("tables", TABLES, TARGET, codegen=level, host_symbols=("elsewhere", "shared")),
        CodegenUnit("elsewhere", ELSEWHERE, TARGET, codegen=level, host_symbols=("labs", "entry")),
    ]
    return generator().compile(units)


def linked(objects: list[bytes], linker: Linker) -> tuple[LinkedCode, Callable[[int], int]]:
    code = LinkedCode(objects, ["entry"], {"labs": libc_address("labs")}, linker)
    return code, ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address("entry"))


def expected(xs: list[int]) -> list[int]:
    """`entry` in Python."""
    counter, zeros, results = 5, [0] * 1000, []
    jumps = [100, 203, 351, 417, 502, 666]
    for x in xs:
        counter += x
        jump = jumps[x] if x < 6 else 999
        results.append(counter + 2 * (x % 4) ** 2 + 1 + 2 + zeros[x] + 7000 + jump)
        zeros[x] = x
    return results


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_tables_pointers_jumps_and_calls_between_objects(level: int) -> None:
    xs = [0, 1, 2, 3, 4, 5, 6, 999, 3, 999]
    objects = objects_of(level)
    for linker in Linker:
        for order in (objects, objects[::-1]):
            code, function = linked(order, linker)
            assert [function(x) for x in xs] == expected(xs), (linker, code)


def test_two_images_share_nothing() -> None:
    objects = objects_of(2)
    (_keep_1, first), (_keep_2, second) = (linked(objects, Linker.OWN) for _ in range(2))
    assert [first(1), second(1), first(1)] == [*expected([1]), *expected([1]), expected([1, 1])[1]]


def test_no_page_is_writable_and_executable() -> None:
    image = Image([read_object(one) for one in objects_of(2)], {"labs": libc_address("labs")})
    addresses = [image.symbols[name] for name in ("entry", "exported", "shared")]
    rights = []
    with open("/proc/self/maps", encoding="ascii") as file:
        rows = [line.split()[:2] for line in file]
    for address in addresses:
        for span, right in rows:
            start, end = (int(text, 16) for text in span.split("-"))
            if start <= address < end:
                rights.append(right)
    assert rights == ["r-xp", "r--p", "rw-p"]


def test_what_cannot_be_linked_is_refused() -> None:
    tables, elsewhere = objects_of(2)
    labs = {"labs": libc_address("labs")}
    with pytest.raises(CodegenError, match="imports elsewhere, shared"):
        LinkedCode([tables], ["entry"], labs)
    with pytest.raises(CodegenError, match="is defined twice"):
        LinkedCode([tables, tables, elsewhere], ["entry"], labs)
    with pytest.raises(CodegenError, match="do not define nothing"):
        LinkedCode([tables, elsewhere], ["nothing"], labs)
    text = "define void @f() nounwind {\n ret void\n}\n"
    (foreign,) = generator().compile([CodegenUnit("arm", text, TARGETS["aarch64"])])
    with pytest.raises(CodegenError, match="object 0 is for ELF machine 183"):
        LinkedCode([foreign], ["f"])
    local = "@x = thread_local global i64 1\ndefine ptr @f() nounwind {\n ret ptr @x\n}\n"
    unit = CodegenUnit("tls", local, TARGET, host_symbols=("__tls_get_addr",))
    with pytest.raises(CodegenError, match=r"section '\.tdata' is not supported"):
        LinkedCode(generator().compile([unit]), ["f"], {"__tls_get_addr": 1})


def test_far_data_is_refused_and_far_functions_are_reached() -> None:
    text = "@far = external hidden global i64\ndefine i64 @f() nounwind {\n"
    text += " %x = load i64, ptr @far\n ret i64 %x\n}\n"
    (data,) = generator().compile([CodegenUnit("far", text, TARGET, host_symbols=("far",))])
    with pytest.raises(CodegenError, match="'far' is too far away"):
        LinkedCode([data], ["f"], {"far": 16})


def test_damaged_objects_are_refused_or_link_but_never_crash_the_linker() -> None:
    whole = object_of(add_module())
    rng = random.Random(1)
    imports = {name: libc_address(name) for name in ("memcpy", "memset", "memmove")}
    outcomes = {"linked": 0, "refused": 0}
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data) - 8)
            value = rng.choice([0, 1, 0xFF, rng.randrange(256)])
            if rng.random() < 0.3:
                struct.pack_into("<Q", data, place, rng.choice([1 << 63, 1 << 40, 2**64 - 1, 64]))
            else:
                data[place] = value
        try:
            Image([read_object(bytes(data))], imports)
            outcomes["linked"] += 1
        except (CodegenError, ExecutionError):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100, outcomes


def test_linked_code_is_freed() -> None:
    objects = [read_object(object_of(add_module()))]
    imports = {name: libc_address(name) for name in ("memcpy", "memset", "memmove")}

    def mapped() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0])

    Image(objects, imports)
    before = mapped()
    for _ in range(2000):
        Image(objects, imports)
    assert mapped() - before < 2000, "2,000 images of 3 pages should all be gone"


def test_a_big_constant_is_placed_and_read() -> None:
    values = np.random.default_rng(0).integers(-(2**60), 2**60, 5000)
    listed = ", ".join(f"i64 {value}" for value in values)
    text = (
        f"@big = private constant [5000 x i64] [{listed}], align 64\n"
        "define i64 @entry(i64 %i) nounwind {\n %p = getelementptr i64, ptr @big, i64 %i\n"
        " %x = load i64, ptr %p, align 8\n ret i64 %x\n}\n"
    )
    _code, function = linked([object_of(text)], Linker.OWN)
    assert [function(i) for i in range(5000)] == values.tolist()
