"""What can be said of a run before its model is loaded, which may take minutes."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from propagate.config import Config
from propagate.io.decode.packet_count import most_frames
from propagate.io.decode.source import Source
from propagate.io.decode.video import FrameSource, is_live, name_of, open_source
from propagate.io.masks.ids import check_size
from propagate.io.write.earlier_run import refuse_finished
from propagate.io.write.files import local_folder
from propagate.plan import References, as_masks, check_within, past_the_range
from propagate.records import Mask
from propagate.run_options import RunOptions
from propagate.run_settings import settings_without_model


def check_before_loading(
    source: Source,
    references: References,
    out: str | PathLike[str],
    options: RunOptions,
    *,
    model: str,
    config: Config,
) -> None:
    """Refuse a run that cannot be done or is not wanted, without its model.

    Whatever passes is checked again by the run itself. Live sources and growing folders are not
    opened here.

    Args:
        source, references, out, options: See `propagate.run.run_into_folder`.
        model, config: See `Propagator`.

    Raises:
        VideoError: The source cannot be opened.
        MaskError: A reference cannot be used, has another size, or is not on a frame that is read.
        OutputError: The folder holds a finished run of other settings.
    """
    given, out = as_masks(references), local_folder(out)
    if is_live(source) or options.source_options.follow_timeout_s is not None:
        return
    with open_source(source, options.source_options) as frames:
        check_references(given, frames, options)
        claimed = frames.info.frame_count
    past_claim = claimed is not None and max(given) >= claimed
    if past_claim and options.source_options.frame_range is None and Path(str(source)).is_file():
        # What a container claims may be wrong, so the packets are counted before it is believed.
        most = most_frames(str(source))
        if most is not None and max(given) >= most:
            check_within(given, most, options.max_frames)
    if not options.overwrite and not options.update:
        settings = settings_without_model(model, config, source, given, options)
        refuse_finished(out / name_of(source), settings, unless_same=True)


def check_references(masks: Mapping[int, Mask], frames: FrameSource, options: RunOptions) -> None:
    """Refuse references past the end, where the count is exact, and references of another size.

    Args:
        masks: By frame of the source.
        frames: The open source.
        options: How it is read.

    Raises:
        MaskError: There is one; or objects are followed forwards only, and the first reference
            lies after the range.
    """
    info = frames.info
    if options.source_options.frame_range is None:
        count = info.frame_count if info.decoder == "images" else None
        check_within(masks, count, options.max_frames)
    elif options.backwards == "none" and (end := options.source_options.frame_range.end):
        first = min((index for index, mask in masks.items() if mask.object_ids), default=0)
        if first >= end:
            raise past_the_range(first)
    for mask in masks.values():
        check_size(mask, info.height, info.width)
