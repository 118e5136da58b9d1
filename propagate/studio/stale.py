"""Which masks the references given since a run will change."""

from collections.abc import Collection, Iterable, Mapping, Sequence

Range = tuple[int, int]


def stale_ranges(
    before: Mapping[int, str],
    now: Mapping[int, str],
    named: Mapping[int, Collection[int]],
    last: int,
) -> list[Range]:
    """Find the frames whose masks change.

    Objects are followed forwards from a reference to the frame before the next one that names all
    of them, or that says that none is visible. An object is also followed backwards from the first
    reference that names it.

    Args:
        before: Frame -> checksum of each reference that the masks were made with.
        now: The same of the references given now.
        named: Frame -> the objects in each reference given now.
        last: The last frame.

    Returns:
        First and last frame of each range, in order and apart.
    """
    every = set().union(*named.values()) if named else set()
    unchanged = {frame for frame in now if before.get(frame) == now[frame]}
    found = []
    for frame in sorted((before.keys() | now.keys()) - unchanged):
        ends = [f for f in unchanged if f > frame and (not named[f] or every <= set(named[f]))]
        earlier = [f for f in named if f < frame]
        known = set().union(*(named[f] for f in earlier)) if earlier else set()
        # Of a reference that is gone, nobody knows which objects it named.
        names_new = not set(named[frame]) <= known if frame in named else not every <= known
        found.append((0 if names_new else frame, min(ends, default=last + 1) - 1))
    return joined(found)


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Join ranges that overlap or touch."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = result[-1][0], max(last, result[-1][1])
        elif first <= last:
            result.append((first, last))
    return result


def ranges_of(frames: Iterable[int]) -> list[Range]:
    """Write a set of frames as ranges."""
    return joined((frame, frame) for frame in frames)


def within(ranges: Sequence[Range], frames: Collection[int]) -> set[int]:
    """Return the frames that lie in a range."""
    inside: set[int] = set()
    for first, last in ranges:
        if last - first < len(frames):
            inside.update(f for f in range(first, last + 1) if f in frames)
        else:
            inside.update(f for f in frames if first <= f <= last)
    return inside
