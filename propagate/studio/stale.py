"""Which masks the references given since a run will change."""

from collections.abc import Collection, Mapping

from propagate.dependence import Dependence
from propagate.studio.references import Reference
from propagate.two_way import plan_blocks

# Longer than any video: the page does not know where the feature cache would be full.
_NO_LIMIT = 2**31


def dependence_of(references: Mapping[int, Reference]) -> Dependence:
    """Say what the masks depend on that a run with these references makes."""
    named = {frame: reference.object_ids for frame, reference in references.items()}
    checksums = {frame: reference.checksum for frame, reference in references.items()}
    return Dependence(checksums, named, plan_blocks(named, _NO_LIMIT, new_only=True))


def stale_frames(before: Dependence, now: Dependence, computed: Collection[int]) -> set[int]:
    """Find the frames whose masks change.

    Args:
        before: Of the run that made the masks.
        now: Of the references given now.
        computed: The frames that have a mask.
    """
    return {i for i in computed if before.mask_key(i) != now.mask_key(i)}
