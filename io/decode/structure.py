"""Whether a container is whole between two places of its file: Matroska, FLV, AVI and MPEG-TS.

FFmpeg says nothing when it skips bytes that make no sense there and reads on at the next part. A
gap in time may be that, or a pause that was recorded. These containers state the length of each of
their parts, so a walk from part to part tells the two apart. A walk reads only the stretch around
the gap; a file without a gap is never walked.
"""

import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SEGMENT = 0x18538067
CLUSTER = 0x1F43B675
# Level 1 of Matroska: SeekHead, Info, Tracks, Cluster, Cues, Tags, Attachments, Chapters; Void and
# CRC-32 may lie anywhere.
TOP = {0x114D9B74, 0x1549A966, 0x1654AE6B, CLUSTER}
TOP |= {0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770}
ANYWHERE = {0xEC, 0xBF}
# In a cluster: Timestamp, SimpleBlock, BlockGroup, Position, PrevSize, silent tracks, encrypted.
IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0x5854, 0xAF}
# A chunk of AVI: a stream's number and what it holds, or a part of the index.
CHUNK = re.compile(rb"\d\d(dc|db|wb|tx|pc|sb|__)|ix\d\d|JUNK|idx1|LIST|RIFF")
# Types of FLV's tags: sound, picture, script; in the upper bits filters.
FLV_TAGS = (8, 9, 18)
# The packets of MPEG-TS: plain, with a time before each (Blu-ray), with a checksum after each.
TS_PACKETS = (188, 192, 204)
# A parser notices a break up to this many pictures early.
TS_PICTURES = 5


def is_whole_between(path: str, kind: str, start: int, end: int) -> bool:
    """Say whether the parts of a file follow each other between two places, as they should.

    Args:
        path: The file.
        kind: FFmpeg's name of the container. Of one that has no such parts, nothing is known.
        start: Position of a packet, in bytes.
        end: Position of a later one.

    Returns:
        False if bytes between them belong to no part. True otherwise, also if nothing is known.
    """
    walk = _WALKS.get(kind)
    if walk is None or start < 0 or end < start:
        return True
    return _with_bytes(path, lambda data: walk(data, start, end), True)


def transport_is_whole(path: str, start: int) -> bool:
    """Say whether no packets are missing within the next pictures of a transport stream.

    FFmpeg marks a packet if the counter of its stream jumps. That is damage, unless recordings or
    segments were joined there: then a picture begins, and the table of programs comes before it.

    Args:
        path: The file.
        start: Position of a packet of the stream, in bytes.
    """
    return _with_bytes(path, lambda data: _transport(data, start), False)


def missing_bytes(path: str, kind: str) -> int:
    """Return how many bytes a file should go on after its end; 0 if that is not known.

    Only Matroska states its length at the beginning, unless it was written live.
    """
    if kind != "matroska":
        return 0

    def missing(data: mmap.mmap) -> int:
        at = 0
        while (element := _element(data, at)) is not None:
            name, body, size = element
            if name == SEGMENT:
                return 0 if size is None else max(0, body + size - len(data))
            if size is None or name != 0x1A45DFA3:  # the EBML header
                return 0
            at = body + size
        return 0

    return _with_bytes(path, missing, 0)


def _with_bytes(path: str, ask: Callable[[mmap.mmap], T], unknown: T) -> T:
    """Ask about the bytes of a file; a source that is no local file is unknown."""
    if not Path(path).is_file():
        return unknown
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return ask(data)
    except (OSError, ValueError):
        return unknown


def _matroska(data: mmap.mmap, start: int, end: int) -> bool:
    at = data.rfind(CLUSTER.to_bytes(4, "big"), 0, start + 1)
    if at < 0:
        return True
    limit, is_open = at, False  # where the cluster ends; whether it does not say so
    while at <= end:
        element = _element(data, at)
        if element is None:
            return False
        name, body, size = element
        if name == CLUSTER and (at == limit or is_open):
            limit, is_open = len(data) if size is None else body + size, size is None
            at = body
            continue
        in_cluster = at < limit and name in IN_CLUSTER
        after_it = (at == limit or is_open) and name in TOP
        if size is None or not (in_cluster or after_it or name in ANYWHERE):
            return False
        at = body + size
        if at > limit and in_cluster:
            return False
        limit = max(limit, at)
    return True


def _element(data: mmap.mmap, at: int) -> tuple[int, int, int | None] | None:
    """Return the name of the element at a place, where its content begins, and its length.

    None for the length: it is not stated. None: no element begins there.
    """
    head = data[at : at + 12]
    if not head or not head[0] >> 4:  # names have 1 to 4 bytes
        return None
    width = 9 - head[0].bit_length()
    name, rest = int.from_bytes(head[:width], "big"), head[width:]
    if not rest or not rest[0]:
        return None
    long = 9 - rest[0].bit_length()
    if len(rest) < long:
        return None
    size = int.from_bytes(rest[:long], "big") & ((1 << 7 * long) - 1)
    return name, at + width + long, None if size == (1 << 7 * long) - 1 else size


def _flv(data: mmap.mmap, start: int, end: int) -> bool:
    at = start
    while at <= end:
        after = _tag_end(data, at)
        if after is None:
            return False
        at = after
    return True


def _tag_end(data: mmap.mmap, at: int) -> int | None:
    """Return where a tag of FLV ends: after its length, which is repeated. None: there is none."""
    head = data[at : at + 11]
    if len(head) < 11 or head[0] & 0x1F not in FLV_TAGS:
        return None
    length = int.from_bytes(head[1:4], "big") + 11
    after = data[at + length : at + length + 4]
    return at + length + 4 if int.from_bytes(after, "big") == length and len(after) == 4 else None


def _avi(data: mmap.mmap, start: int, end: int) -> bool:
    at = start - 8  # the packet lies after the head of its chunk
    while at <= end:
        head = data[at : at + 8]
        if len(head) < 8 or not CHUNK.fullmatch(head[:4]):
            return False
        size = int.from_bytes(head[4:], "little")
        if head[:4] in (b"LIST", b"RIFF"):
            at += 12
            continue
        at += 8 + size + size % 2
    return True


def _transport(data: mmap.mmap, start: int) -> bool:
    start = next((at for at in (start, start + 4) if data[at : at + 1] == b"G"), -1)
    if start < 0:
        return False
    for length in TS_PACKETS:
        if data[start + length : start + length + 1] in (b"G", b""):
            break
    else:
        return False
    stream, counter, pictures, has_table = None, None, 0, False
    for at in range(start, len(data) - 187, length):
        sync, high, low, flags = data[at : at + 4]
        if sync != 0x47 or high & 0x80:  # marked as damaged by what received it
            return False
        number = (high & 0x1F) << 8 | low
        has_table |= number == 0
        stream = number if stream is None else stream
        if number != stream or not flags & 0x10:  # another stream, or no content
            continue
        begins, count = bool(high & 0x40), flags & 0x0F
        follows = counter is None or count in (counter, (counter + 1) % 16)
        if not follows and not (begins and has_table):
            return False
        counter, has_table = count, False
        pictures += begins
        if pictures > TS_PICTURES:
            return True
    return True


_WALKS: dict[str, Callable[[mmap.mmap, int, int], bool]] = {
    "matroska": _matroska,
    "flv": _flv,
    "avi": _avi,
}
