"""The results of a project as one archive: masks, an overlay video, run lengths."""

import json
import zipfile
from collections.abc import Collection
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import numpy as np

from propagate.errors import MaskError
from propagate.io.decode.video import open_source
from propagate.io.masks.display_colours import DisplayColours, from_hex
from propagate.io.masks.masks_json import MasksJsonWriter
from propagate.io.masks.png import mask_file, write_mask
from propagate.io.write.files import guard_writing
from propagate.io.write.layout import MASKS, OVERLAY, RUN_LENGTHS
from propagate.io.write.overlay import OverlayWriter
from propagate.records import BACKGROUND_ID, Progress
from propagate.studio.project import Project
from propagate.studio.settings import StudioSettings
from propagate.studio.temporary import TemporaryFolder

KINDS = ("masks", "overlay", "rle")
OBJECTS = "objects.json"


def export(
    project: Project,
    object_ids: Collection[int] | None,
    kinds: Collection[str],
    target: Path,
    settings: StudioSettings,
    progress: Progress,
) -> None:
    """Write an archive; it appears complete or not at all.

        masks/00000.png ...   palette PNGs like those of DAVIS, of the frames that have a mask
        overlay.mp4           all frames, the objects in the colours of the project
        masks.json            run lengths of the frames that have a mask
        objects.json          names and colours

    Args:
        project: The project.
        object_ids: The objects that are wanted; None: all.
        kinds: Of "masks", "overlay" and "rle".
        target: The archive.
        settings: How the video is decoded.
        progress: Called after each frame; what it raises ends the work.

    Raises:
        MaskError: A kind is unknown, or a mask cannot be read.
        VideoError: The video cannot be read.
        OutputError: The archive cannot be written.
    """
    if not kinds or set(kinds) - set(KINDS):
        raise MaskError(f"export: of {', '.join(KINDS)}, not {', '.join(map(str, kinds))}")
    partial = target.with_name(f".{target.name}.part")
    with ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        folder = stack.enter_context(closing(TemporaryFolder())).path
        stack.enter_context(guard_writing(target))
        archive = stack.enter_context(zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED))
        _write(project, object_ids, kinds, folder, archive, settings, progress)
        archive.close()
        partial.replace(target)


def _write(
    project: Project,
    object_ids: Collection[int] | None,
    kinds: Collection[str],
    folder: Path,
    archive: zipfile.ZipFile,
    settings: StudioSettings,
    progress: Progress,
) -> None:
    """Fill an archive; files that grow are written to a folder first."""
    objects = project.objects
    wanted = set(objects) if object_ids is None else set(object_ids)
    kept = np.full(256, BACKGROUND_ID, np.uint8)
    for i in wanted:
        kept[i] = i
    colours = DisplayColours({i: from_hex(item.colour) for i, item in objects.items()})
    names = {i: item.name for i, item in objects.items()}
    height, width = project.frames.size
    overlay = lengths = None
    with ExitStack() as stack:
        frames = stack.enter_context(open_source(project.source, settings.source_options))
        if "overlay" in kinds:
            fps = frames.info.fps
            overlay = OverlayWriter(
                folder / OVERLAY, fps, width, height, colours=colours, names=names
            )
            stack.enter_context(overlay)
        if "rle" in kinds:
            lengths = stack.enter_context(MasksJsonWriter(folder / RUN_LENGTHS, height, width))
        for frame in frames:
            mask = project.mask(frame.index)
            ids = np.zeros((height, width), np.uint8) if mask is None else kept[mask]
            if overlay is not None:
                overlay.write(frame.image, ids, frame.time)
            if mask is not None and lengths is not None:
                scores = project.scores(frame.index)
                lengths.write(
                    *(ids,), index=frame.index, name=frame.name, time_s=frame.time_s, scores=scores
                )
            if mask is not None and "masks" in kinds:
                file = mask_file(folder, frame.name)
                write_mask(file, ids)
                archive.write(file, f"{MASKS}/{file.name}")
                file.unlink()
            progress(frame.index + 1, project.frames.count)
    for name in (OVERLAY, RUN_LENGTHS):
        if (folder / name).exists():
            archive.write(folder / name, name)
    listed = {str(i): asdict(item) for i, item in sorted(objects.items()) if i in wanted}
    archive.writestr(OBJECTS, json.dumps(listed, indent=1, ensure_ascii=False))
