"""Damaged files, skipped over: what comes is as in the whole file, and the rest is listed."""

import time
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.source import damage_line
from propagate.io.decode.video import open_video
from propagate.records import Damage
from tests.io.decode.test_video import encode
from tests.paths import SHARED

CORPUS = SHARED / "data" / "dev" / "decode"
GLUED = SHARED / "data" / "inputs" / "v" / "ts_glued.ts"
KINDS = [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("avi", "mpeg4")]
CUT = [
    "daft__sample_video.mp4",
    "decord__flipping_a_pancake.mkv",
    "torchcodec__h265_video.mp4",
    "autoeditor__testsrc-hevc.mp4",
    "moviepy__big_buck_bunny_432_433.webm",
]


def read(path, **options):
    frames, error = {}, None
    with open_video(path, **options) as opened:
        try:
            for frame in opened:
                assert frame.index not in frames
                frames[frame.index] = frame
        except VideoError as caught:
            error = str(caught)
        return frames, opened.info, error


def listed(info, *kinds):
    return {
        index
        for item in info.damage
        if item.kind in kinds
        for index in range(item.first, item.last + 1)
    }


def draw(folder, suffix, codec, count=60):
    options = {"g": "10", "bf": "2"} if codec == "libx264" else {"g": "10"}
    layout = {"movflags": "faststart"} if suffix == "mp4" else {}
    return encode(
        folder / f"whole.{suffix}",
        count,
        codec=codec,
        size=(128, 96),
        codec_options=options,
        container_options=layout,
    )


def blank(path, start, length):
    """A copy with zeros in the place of some bytes; `start` is a share of the file."""
    data = bytearray(path.read_bytes())
    at = int(len(data) * start)
    data[at : at + length] = bytes(length)
    damaged = path.with_name("damaged" + path.suffix)
    damaged.write_bytes(data)
    return damaged


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_frames_keep_their_numbers_and_times_and_the_rest_is_listed(tmp_path, suffix, codec):
    path = draw(tmp_path, suffix, codec)
    whole, _, _ = read(path)
    frames, info, error = read(blank(path, 0.5, 400), on_damage="skip")
    assert error is None
    lost = listed(info, "lost")
    assert lost
    assert sorted(frames) == sorted(set(whole) - lost)
    for index in frames.keys() - listed(info, "concealed"):
        assert frames[index].time == whole[index].time
        assert np.array_equal(frames[index].image, whole[index].image)
    for index in frames:
        assert frames[index].time == whole[index].time
        assert frames[index].name == f"{index:05d}"


@pytest.mark.parametrize(("suffix", "codec"), [*KINDS, ("webm", "libvpx-vp9"), ("flv", "libx264")])
def test_a_whole_file_is_read_alike_with_both_choices(tmp_path, suffix, codec):
    path = draw(tmp_path, suffix, codec)
    stop, skip = read(path), read(path, on_damage="skip")
    assert stop[0].keys() == skip[0].keys()
    for one, other in zip(stop[0].values(), skip[0].values(), strict=True):
        assert one.time == other.time
        assert np.array_equal(one.image, other.image)
    assert skip[1].damage == stop[1].damage == ()
    assert skip[1].notes == stop[1].notes == ()


def test_irregular_times_are_no_damage(tmp_path):
    times = [0, 33, 100, 117, 300, 301, 900, 1000, 1017, 1500]
    path = encode(tmp_path / "uneven.mkv", 10, pts=times)
    frames, info, _ = read(path, on_damage="skip")
    assert sorted(frames) == list(range(10))
    assert not info.damage


def test_without_skipping_damage_ends_the_reading(tmp_path):
    path = blank(draw(tmp_path, "mp4", "libx264"), 0.5, 400)
    frames, _, error = read(path)
    assert error is not None
    assert f"{len(frames)} frames were read" in error
    assert len(read(path, on_damage="skip")[0]) > len(frames)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_missing_end_of_a_file_is_counted(tmp_path, suffix):
    path = draw(tmp_path, suffix, "libx264")
    data = path.read_bytes()
    path.with_name(f"cut.{suffix}").write_bytes(data[: len(data) * 6 // 10])
    frames, info, error = read(path.with_name(f"cut.{suffix}"), on_damage="skip")
    assert error is None
    assert set(frames) | listed(info, "lost") == set(range(60))


def test_a_child_process_says_the_same(tmp_path):
    path = blank(draw(tmp_path, "mp4", "libx264"), 0.5, 400)
    here, there = read(path, on_damage="skip"), read(path, on_damage="skip", isolate=True)
    assert here[0].keys() == there[0].keys()
    assert here[1].damage == there[1].damage


def test_the_line_counts_and_joins_ranges():
    damage = [
        Damage(12, 13, "lost", "a"),
        Damage(14, 14, "lost", "b"),
        Damage(15, 16, "concealed", "c"),
        Damage(20, 20, "lost", "a"),
    ]
    assert damage_line(damage) == "4 frames lost (12-14, 20), 2 concealed (15-16)"
    assert damage_line([Damage(1, 1, "concealed", "c")]) == "1 frame concealed (1)"
    assert damage_line([]) == ""


# Frames that are not shown


def test_frames_that_refer_to_missing_ones_are_not_shown_and_counted(tmp_path):
    """A recording that begins in the middle of a group: its first frames have no reference."""
    path = draw(tmp_path, "ts", "libx264")
    cut = tmp_path / "cut.ts"
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream: Any = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        for packet in packets[4:]:
            packet.stream = copy
            target.mux(packet)
    frames, info, error = read(cut)
    shown = len(frames)
    assert error is None
    assert list(frames) == list(range(shown))
    assert 0 < shown < len(packets) - 4
    assert f"{len(packets) - 4 - shown} frames were not shown" in info.notes[0]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus ../shared/data/dev/decode is not here")
def test_leading_pictures_of_hevc_are_not_shown_and_counted():
    frames, info, _ = read(CORPUS / "fate__hevc__loewe.mp4")
    assert len(frames) == 6
    assert "14 frames were not shown" in info.notes[0]


# Clocks that jump


def transport_stream(path, starts, count=6):
    """Streams of `count` frames one after the other; each begins at its own time, in ticks."""
    parts = []
    for number, start in enumerate(starts):
        part = path.with_name(f"part{number}.ts")
        with av.open(str(part), "w", options={"muxdelay": "0"}) as container:
            stream: Any = container.add_stream("mpeg2video", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
            for index in range(count):
                shade = np.full((48, 64, 3), 20 * (index % 10) + 5 * number, np.uint8)
                for packet in stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")):
                    _shift(packet, start)
                    container.mux(packet)
            for packet in stream.encode():
                _shift(packet, start)
                container.mux(packet)
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def _shift(packet, start):
    packet.pts += start * 25 // 90000
    packet.dts += start * 25 // 90000


HOUR = 90000 * 3600


@pytest.mark.parametrize(
    ("starts", "says"),
    [
        ((90000, 90000), "jumps back by 0.20 s at frame 6"),
        ((5 * HOUR, 90000), "jumps back by 5.0 h at frame 6"),
        ((90000, 4 * HOUR), "jumps forward by 4.0 h at frame 6"),
    ],
)
def test_time_goes_on_where_the_clock_jumps(tmp_path, starts, says):
    path = transport_stream(tmp_path / "glued.ts", starts)
    frames, info, error = read(path)
    assert error is None
    begin = frames[0].time
    assert [frame.time - begin for frame in frames.values()] == [Fraction(i, 25) for i in range(12)]
    assert len(info.notes) == 1
    assert says in info.notes[0]
    chosen, _, _ = read(
        path, frame_range=FrameRange(start_s=Fraction("0.28"), end_s=Fraction("0.4"))
    )
    assert list(chosen) == [7, 8, 9]
    assert read(path, on_damage="skip")[0].keys() == frames.keys()


@pytest.mark.slow
@pytest.mark.parametrize("before", [4, 2000])
def test_the_wrap_of_the_clock_is_no_jump(tmp_path, before):
    """The clock of MPEG-TS has 33 bits; 4 or 2000 frames come before it begins again."""
    path = transport_stream(tmp_path / "wrap.ts", (2**33 - before * 3600,), before + 8)
    frames, info, _ = read(path)
    assert not info.notes
    begin = frames[0].time
    assert all(frame.time - begin == Fraction(i, 25) for i, frame in frames.items())


def test_a_pause_is_no_jump(tmp_path):
    frames, info, _ = read(transport_stream(tmp_path / "pause.ts", (90000, 90000 * 6)))
    assert not info.notes
    assert frames[11].time - frames[0].time == Fraction(26, 5)


@pytest.mark.skipif(not GLUED.is_file(), reason="../shared/data/inputs is not here")
def test_two_recordings_one_after_the_other_are_one_video():
    frames, info, _ = read(GLUED)
    times = [frame.time - frames[0].time for frame in frames.values()]
    assert times == [Fraction(i, 25) for i in range(12)]
    assert "at frame 6" in info.notes[0]


# Files cut off anywhere


def check_cuts(path, shares, scratch):
    """Each cut ends soon, in good frames and one line, or in good frames only."""
    whole, _, _ = read(path)
    data = path.read_bytes()
    for share in shares:
        cut = scratch / f"cut{path.suffix}"
        cut.write_bytes(data[: int(len(data) * share)])
        for on_damage in ("stop", "skip"):
            started, frames, info, error = time.monotonic(), {}, None, None
            try:
                frames, info, error = read(cut, on_damage=on_damage, deadline_s=20)
            except VideoError as caught:
                error = str(caught)
            assert time.monotonic() - started < 30
            assert error is None or "\n" not in error
            assert frames or error
            if on_damage == "skip" and frames:
                assert error is None
            touched = set() if info is None else listed(info, "lost", "concealed")
            first = min(touched, default=len(whole))
            for index, frame in frames.items():
                # The last packet may be cut in a way that its decoder does not notice.
                if index < first and index < max(frames):
                    assert np.array_equal(frame.image, whole[index].image), (share, index)
                    assert frame.time == whole[index].time


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus ../shared/data/dev/decode is not here")
@pytest.mark.parametrize("name", CUT)
def test_every_cut_of_a_file_ends_in_good_frames(tmp_path, name):
    check_cuts(CORPUS / name, [percent / 100 for percent in range(5, 100, 5)], tmp_path)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264")])
def test_cuts_of_a_drawn_file_end_in_good_frames(tmp_path, suffix, codec):
    check_cuts(draw(tmp_path, suffix, codec, 30), [0.3, 0.55, 0.8, 0.95], tmp_path)


# Damage that ends the reading: where `skip` would first list a frame


def first_listed(info):
    return min(listed(info, "lost", "concealed"), default=None)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [*KINDS, ("ts", "mpeg2video"), ("flv", "flv1"), ("flv", "libx264"), ("webm", "libvpx-vp9")],
)
@pytest.mark.parametrize("start", [0.5, 0.7])
def test_reading_stops_where_skipping_lists_the_first_frame(tmp_path, suffix, codec, start):
    path = blank(draw(tmp_path, suffix, codec), start, 700)
    skipped, info, _ = read(path, on_damage="skip")
    first = first_listed(info)
    assert first is not None
    try:
        frames, _, error = read(path)
    except VideoError as caught:
        frames, error = {}, str(caught)
    assert error is not None
    assert list(frames) == list(range(first))
    for index, frame in frames.items():
        assert frame.time == skipped[index].time
        assert np.array_equal(frame.image, skipped[index].image)


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx-vp9")])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_matroska_file_that_is_cut_off_ends_with_an_error(tmp_path, suffix, codec, share):
    """A clip of 2.4 s: less than a second of it is missing where 90 % are left."""
    path = draw(tmp_path, suffix, codec)
    cut = path.with_name(f"cut.{suffix}")
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    frames, _, error = read(cut)
    assert error is not None
    assert f"after frame {len(frames) - 1} (" in error
    assert len(frames) == first_listed(read(cut, on_damage="skip")[1])


def test_a_matroska_file_that_lacks_only_its_index_is_whole(tmp_path):
    path = draw(tmp_path, "mkv", "libx264")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    last = max((packet.pos or 0) + 4 + packet.size for packet in packets)  # 4: the head of a block
    cut = path.with_name("cut.mkv")
    cut.write_bytes(path.read_bytes()[:last])
    frames, _, error = read(cut)
    assert error is None
    assert len(frames) == 60


def test_a_matroska_file_without_a_stated_end_says_how_much_is_missing(tmp_path):
    path = draw(tmp_path, "mkv", "libx264")
    data = path.read_bytes().replace(b"DURATION", b"duratioX")
    cut = path.with_name("cut.mkv")
    cut.write_bytes(data[: len(data) * 6 // 10])
    assert f"{len(data) - len(data) * 6 // 10} bytes are missing" in (read(cut)[2] or "")


PAUSE = [40 * i if i < 30 else 40 * i + 1200 for i in range(60)]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("ts", "libx264"),
        ("mkv", "libx264"),
        ("flv", "flv1"),
        ("flv", "libx264"),
    ],
)
def test_a_pause_in_a_regular_clock_does_not_end_the_reading(tmp_path, suffix, codec):
    path = encode(tmp_path / f"pause.{suffix}", 60, codec=codec, pts=PAUSE)
    frames, info, error = read(path)
    assert error is None
    assert list(frames) == list(range(60))
    assert info.damage == ()
    assert frames[59].time - frames[0].time == pytest.approx(Fraction(PAUSE[59], 1000))


def test_a_pause_in_an_avi_does_not_end_the_reading(tmp_path):
    """An AVI has no times; FFmpeg writes empty chunks for the frames of a pause."""
    times = [40 * i if i < 30 else 40 * (i + 10) for i in range(60)]
    path = tmp_path / "pause.avi"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index, time_ms in enumerate(times):
            shade = np.full((96, 128, 3), 3 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = time_ms // 40, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames, info, error = read(path)
    assert error is None
    assert len(frames) == 60
    assert info.damage == ()


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [("mkv", "ffv1", "bgr0"), ("avi", "mjpeg", "yuvj420p"), ("flv", "flashsv", "bgr24")],
)
def test_bytes_that_make_no_sense_are_told_from_a_pause(tmp_path, suffix, codec, pix_fmt):
    """Every frame is a keyframe, so no decoder notices that some are missing."""
    path = tmp_path / f"whole.{suffix}"
    encode(path, 40, codec=codec, pix_fmt=pix_fmt, codec_options={"g": "1"})
    with av.open(str(path)) as container:
        places = sorted(packet.pos or 0 for packet in container.demux(video=0) if packet.size)
    data = bytearray(path.read_bytes())
    at, until = places[20] - 30, places[22] + 8
    data[at:until] = b"\x11" * (until - at)
    damaged = path.with_name(f"damaged.{suffix}")
    damaged.write_bytes(data)
    first = first_listed(read(damaged, on_damage="skip")[1])
    assert first in (19, 20)
    frames, _, error = read(damaged)
    assert error is not None
    assert list(frames) == list(range(first))


@pytest.mark.parametrize("tune", [{}, {"tune": "zerolatency"}])
def test_segments_whose_counters_begin_again_are_whole(tmp_path, tune):
    """Segments that were joined: the time goes on, the counters of the packets do not."""
    parts = []
    for number in range(3):
        part = tmp_path / f"part{number}.ts"
        with av.open(str(part), "w", options={"muxdelay": "0"}) as container:
            stream: Any = container.add_stream("libx264", rate=25, options=tune)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
            for index in range(15):
                shade = np.full((48, 64, 3), 10 * index + 5 * number, np.uint8)
                frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
                frame.pts, frame.time_base = index + 15 * number + 25, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        parts.append(part.read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    for on_damage in ("stop", "skip"):
        frames, info, error = read(path, on_damage=on_damage)
        assert error is None
        assert list(frames) == list(range(45))
        assert info.damage == ()
        assert [frame.time - frames[0].time for frame in frames.values()] == [
            Fraction(i, 25) for i in range(45)
        ]
