"""What clients send, checked: bodies in JSON, packed ids, lists of objects."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.requests import Request

from propagate.studio.answers import Refused
from propagate.studio.project_file import ProjectObject, is_object_id


async def json_body(request: Request) -> dict[str, Any]:
    """Read a body that is one JSON object.

    Raises:
        Refused: It is too long, or something else.
    """
    data = await request.body()
    try:
        body = json.loads(data, parse_constant=_refuse_constant)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def from_base64(value: object) -> bytes:
    """Decode text.

    Raises:
        Refused: It is not base64.
    """
    try:
        return base64.b64decode(value if isinstance(value, str) else b"?", validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "the data is not base64") from None


def unpack_ids(value: object, height: int, width: int) -> np.ndarray:
    """Unpack ids; never more than fit the frame.

    Args:
        value: Base64 of a zlib stream of `height * width` bytes, row by row.
        height, width: Of the frame, in pixels.

    Returns:
        (H, W) uint8.

    Raises:
        Refused: It is something else.
    """
    packed, size = from_base64(value), height * width
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, size)
        # At the limit, the end of the stream may still have to be read.
        more = stream.decompress(stream.unconsumed_tail, 1) if not stream.eof else b""
    except zlib.error:
        raise Refused(400, "the ids are not a zlib stream") from None
    if len(data) != size or more or not stream.eof or stream.unused_data:
        raise Refused(400, f"the ids are not the {size} bytes of a {width}x{height} frame")
    return np.frombuffer(data, np.uint8).reshape(height, width)


def frame_number(value: object) -> int:
    """Read the number of a frame, from an address or a body.

    Raises:
        Refused: It is none.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 9:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise Refused(400, "a frame is a number from 0 on")


def frame_range(value: object) -> tuple[int, int] | None:
    """Read the first and last frame of a range; null means all.

    Raises:
        Refused: It is something else.
    """
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise Refused(400, "frames: the first and the last, or null")
    first, last = map(frame_number, value)
    if first > last:
        raise Refused(400, f"frames: the first, {first}, comes after the last, {last}")
    return first, last


def object_list(value: object) -> dict[int, ProjectObject]:
    """Read the whole list of objects.

    Raises:
        Refused: It is none.
        MaskError: A name or a colour is none.
    """
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise Refused(400, "objects: a list of id, name and colour")
    objects: dict[int, ProjectObject] = {}
    for item in value:
        i = item.get("id")
        if not is_object_id(i) or i in objects:
            raise Refused(400, "objects: each has an id of its own, one of 1 to 254")
        objects[i] = ProjectObject(item.get("name", ""), item.get("colour", ""))
    return objects


def object_ids(value: object) -> list[int] | None:
    """Read a list of ids; null means all.

    Raises:
        Refused: It is none.
    """
    if value is None:
        return None
    if not isinstance(value, list) or not all(map(is_object_id, value)):
        raise Refused(400, "objects: a list of ids, 1 to 254, or null")
    return value


def words(value: object) -> list[str]:
    """Read a list of words.

    Raises:
        Refused: It is none.
    """
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise Refused(400, "what: a list of words")
    return value
