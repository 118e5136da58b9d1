"""Every file of the decoding corpus gives exactly the frames of a plain PyAV loop, or one error."""

import csv
import hashlib
from functools import cache

import av
import pytest

from propagate.errors import VideoError
from propagate.io.decode.rgb import RgbConverter
from propagate.io.decode.video import open_video
from tests.paths import SHARED

CORPUS = SHARED / "data" / "dev" / "decode"
EXPECTED = CORPUS / "expected_pyav.csv"

# The first frame that is lost, or of which the decoder fills in parts. PyAV goes on all the same.
WHOLE = {
    "decord__corrupted.mp4": 29,
    "fate__mpeg2video__roundup997.mp4": 3,
    "mp4parse__no_timescale.mp4": 0,
}


def corpus_rows():
    if not EXPECTED.is_file():
        absent = pytest.mark.skip(reason="the corpus ../shared/data/dev/decode is not here")
        return [pytest.param({}, marks=absent, id="no-corpus")]
    with EXPECTED.open(newline="") as file:
        return [pytest.param(row, id=row["file"]) for row in csv.DictReader(file)]


def digest(image):
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


@cache
def plain_pyav_loop(path):
    """The oracle: no buffering, no rules, nothing but PyAV."""
    frames, to_rgb = [], RgbConverter()
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            base = stream.time_base
            assert base is not None
            for packet in container.demux(stream):
                try:
                    pictures, is_last = packet.decode(), False
                except av.error.FFmpegError:  # pyright: ignore[reportAttributeAccessIssue]
                    # What the decoder holds back comes before the error.
                    pictures, is_last = stream.codec_context.decode(None), True
                for frame in pictures:
                    assert frame.pts is not None
                    frames.append((digest(to_rgb(frame)), frame.pts * base))
                if is_last:
                    break
    # An index error is what asking for a video stream that is not there gives.
    except (av.error.FFmpegError, IndexError):  # pyright: ignore[reportAttributeAccessIssue]
        pass
    return frames


def read(path, decoder):
    frames, error = [], None
    try:
        with open_video(path, decoder=decoder) as source:
            for frame in source:
                assert frame.index == len(frames)
                assert frame.name == f"{frame.index:05d}"
                frames.append((digest(frame.image), frame.time))
    except VideoError as caught:
        error = str(caught)
    return frames, error


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("row", corpus_rows())
@pytest.mark.slow
def test_frames_and_times_are_those_of_a_plain_loop_and_damage_is_one_error(row, decoder):
    path = CORPUS / row["file"]
    frames, error = read(path, decoder)
    expected = plain_pyav_loop(path)
    whole = WHOLE.get(row["file"], len(expected))
    assert frames == expected[:whole]
    assert whole < len(expected) or len(frames) >= int(row["frames_decoded"] or 0)
    if row["error"] or not frames or whole < len(expected):
        assert error is not None
        assert str(path) in error
        assert "\n" not in error
        assert not frames or f"{len(frames)} frames were read" in error
    else:
        assert error is None


@pytest.mark.parametrize("row", corpus_rows())
@pytest.mark.slow
def test_decord_alone_gives_the_same_frames_or_one_error_and_no_frame(row):
    path = CORPUS / row["file"]
    frames, error = read(path, "decord")
    if error is None:
        assert frames == plain_pyav_loop(path)
        assert len(frames) == int(row["frames_decoded"])
        assert not row["error"]
    else:
        assert frames == []
        assert str(path) in error
        assert "\n" not in error


@pytest.mark.skipif(not EXPECTED.is_file(), reason="the corpus ../shared/data/dev/decode is absent")
@pytest.mark.slow
def test_decord_decodes_files_with_whole_chroma_and_only_those():
    used = set()
    for path in CORPUS.glob("*"):
        if path != EXPECTED:
            try:
                with open_video(path) as source:
                    next(source)
                    used.add((path.name, source.info.decoder))
            except VideoError:
                continue
    assert {name for name, decoder in used if decoder == "decord"} == {
        "fate__vp9__vp91-2-04-yuv444.mp4"
    }
