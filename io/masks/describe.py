"""What was understood of a reference mask, in words."""

import numpy as np

from propagate.records import VOID_ID, Mask


def describe_mask(mask: Mask, frame: str) -> str:
    """Say on one line what a mask holds.

    Args:
        mask: A reference.
        frame: Names its frame.

    Returns:
        Such as "m.png: frame 0: object 1 (cup) 797 px, object 2 676 px, void 12 px".
    """
    areas = np.bincount(mask.ids.ravel(), minlength=VOID_ID + 1)
    parts = [
        f"object {i}{f' ({mask.names[i]})' if i in mask.names else ''} {areas[i]} px"
        for i in mask.object_ids
    ]
    if not parts:
        parts.append("no object is visible")
    if areas[VOID_ID]:
        parts.append(f"void {areas[VOID_ID]} px")
    return f"{mask.source}: {frame}: {', '.join(parts)}"
