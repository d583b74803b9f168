"""The weight store: arrays beside a module, by name, with digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.types import AnyTensor, tensor


def digest_of(array: Array) -> str:
    """SHA-256 over dtype name, shape and row-major bytes: `sha256:<hex>`."""
    data = np.ascontiguousarray(array)
    sha = hashlib.sha256(f"{dtype_of_numpy(data.dtype).name}{list(data.shape)}".encode())
    sha.update(data.reshape(-1).view(np.uint8).data)
    return f"sha256:{sha.hexdigest()}"


@dataclass
class WeightStore(Mapping[str, Array]):
    """Names and their arrays (numpy or memory-mapped). Arrays are never copied or changed."""

    arrays: dict[str, Array] = field(default_factory=dict[str, Array])

    def __getitem__(self, name: str) -> Array:
        try:
            return self.arrays[name]
        except KeyError:
            raise InvalidArgumentError(f"there is no weight named {name!r}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def add(self, name: str, array: Array) -> str:
        """Add `array` under `name`, or under `name.1`, `name.2`, ... when that is taken.

        Returns:
            The name it got. The same array object under the same name is added once.
        """
        free, number = name, 0
        while free in self.arrays and self.arrays[free] is not array:
            number += 1
            free = f"{name}.{number}"
        self.arrays[free] = array
        return free

    def type_of(self, name: str) -> AnyTensor:
        """The tensor type of the weight `name`."""
        array = self[name]
        return tensor(dtype_of_numpy(array.dtype).element, array.shape)
