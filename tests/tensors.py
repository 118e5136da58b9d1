"""All tensors inside nested values, to compare states before and after."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch


def tensors_in(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Give every tensor in dataclasses, mappings, lists and tuples, with the way to it."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors_in(item, f"{path}[{index}]")


def copies_in(value: Any) -> dict[str, torch.Tensor]:
    """Copy every tensor in a value: way to it -> copy."""
    return {path: tensor.clone() for path, tensor in tensors_in(value)}


def assert_same_tensors(value: Any, copies: Mapping[str, torch.Tensor]) -> None:
    """Check that a value holds exactly the tensors that were copied."""
    found = dict(tensors_in(value))
    assert found.keys() == copies.keys()
    for path, tensor in found.items():
        torch.testing.assert_close(
            tensor, copies[path], rtol=0, atol=0, equal_nan=True, msg=f"{path} changed"
        )
