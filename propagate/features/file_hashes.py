"""Checksums of the files of a model."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

INDEX = ".safetensors.index.json"
READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model was loaded from.

    Attributes:
        weights: File, relative to the model's folder -> SHA-256. Random weights: "seed" -> it.
        model_config: The same of the files that say how the weights are used.
        int8: The same of the int8 network that runs in place of the weights, if one does.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    model_config: Mapping[str, str] = field(default_factory=dict)
    int8: Mapping[str, str] = field(default_factory=dict)


def hash_files(folder: Path, names: Iterable[str]) -> Origin:
    """Hash files of a folder, and the files of weights that an index among them names.

    Args:
        folder: The folder.
        names: Relative to it; those that do not exist are left out.
    """
    found = {name for name in names if (folder / name).is_file()}
    for index in [name for name in found if name.endswith(INDEX)]:
        with suppress(OSError, ValueError, AttributeError):
            shards = set(json.loads((folder / index).read_bytes())["weight_map"].values())
            found |= {str(Path(index).parent / shard) for shard in shards}
    hashes = {name: sha256_of(folder / name) for name in sorted(found)}
    weights = {n: value for n, value in hashes.items() if n.endswith(".safetensors")}
    return Origin(weights, {n: value for n, value in hashes.items() if n not in weights})


def sha256_of(path: Path) -> str:
    """Hash a file. A file that has not changed since it was hashed is not read again."""
    found = path.resolve()
    status = found.stat()
    return _sha256(found, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: Path, _size: int, _changed_ns: int, _number: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.hexdigest()
