"""The feature cache: tensors in a temporary file, for frames that are gone over backwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from tempfile import TemporaryFile, gettempdir
from typing import Self

import torch

from propagate.errors import OutputError

VALUE_BYTES = 2  # float16
LARGEST = torch.finfo(torch.float16).max


def frame_bytes(
    channels: int, grid: tuple[int, int], objects: int, labels_per_cell: int = 1
) -> int:
    """Bytes that one frame takes in the cache: its features, and the labels of both passes."""
    labels = 2 * (objects + 1) * labels_per_cell
    return grid[0] * grid[1] * (channels + labels) * VALUE_BYTES


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in the cache: byte offset and shape, and the device it came from."""

    offset: int
    shape: tuple[int, ...]
    device: torch.device


class FeatureCache:
    """Tensors in a temporary file, as float16. Use it in a `with` block.

    Where the system allows it (Linux, macOS), the file has no name, so that even a killed process
    leaves nothing behind.
    """

    def __init__(self) -> None:
        """Make the file, in the system's folder for temporary files."""
        with _writing():
            self._file = TemporaryFile(prefix="propagate-")  # noqa: SIM115

    def put(self, tensor: torch.Tensor) -> Place:
        """Write a tensor at the end.

        Raises:
            OutputError: There is no space.
        """
        # Clamped, so that no number becomes infinite in half precision.
        values = tensor.clamp(-LARGEST, LARGEST).half().cpu().contiguous().numpy()
        with _writing():
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(values.data)
            # Without this, a failed write would show up in some later call.
            self._file.flush()
        return Place(offset, tuple(tensor.shape), tensor.device)

    def get(self, place: Place) -> torch.Tensor:
        """Read a tensor back to the device it came from, as float32."""
        buffer = bytearray(prod(place.shape) * VALUE_BYTES)
        self._file.seek(place.offset)
        self._file.readinto(buffer)
        values = torch.frombuffer(buffer, dtype=torch.float16).view(place.shape)
        return values.to(place.device).float()

    def clear(self) -> None:
        """Forget everything, and free the disk space."""
        self._file.truncate(0)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        with suppress(OSError):  # closing tries once more to write what did not fit
            self._file.close()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{gettempdir()}: no temporary file for going backwards ({error.strerror})",
            "set TMPDIR to a folder with room, or pass {backwards=none}",
        ) from error
