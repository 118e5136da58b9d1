import functools
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode import decord as decord_reader
from propagate.io.decode.rgb import RgbConverter
from propagate.io.decode.video import open_video
from tests.paths import ROOT

WIDTH, HEIGHT = 64, 48


def drawn(index, width=WIDTH, height=HEIGHT):
    """A coloured gradient with a bright square that tells the frames apart."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y + 9 * index) % 256], axis=-1)
    left = 4 * index % (width - 8)
    image[8:16, left : left + 8] = (255, 240, 20)
    return image.astype(np.uint8)


def encode(path, count=12, *, pts=None, codec="libx264", pix_fmt="yuv420p", size=None, **options):
    """Encode `drawn` frames at 25 fps, or at the times `pts` in milliseconds."""
    colour = options.pop("colour", {})
    container_options = options.pop("container_options", {})
    with av.open(str(path), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options.pop("codec_options", {}))
        stream.width, stream.height = size or (WIDTH, HEIGHT)
        stream.pix_fmt = pix_fmt
        for name, value in colour.items():
            setattr(stream.codec_context, name, value)
        if pts is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(count):
            image = drawn(i, stream.width, stream.height)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = Fraction(1, 25) if pts is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def plain_pyav_loop(path):
    to_rgb = RgbConverter()
    with av.open(str(path)) as container:
        return [
            (to_rgb(frame), frame.pts * base)
            for frame in container.decode(video=0)
            if (base := frame.time_base) is not None and frame.pts is not None
        ]


def read(source, **options):
    with open_video(source, **options) as frames:
        return [(frame.image, frame.time) for frame in frames], frames.info.decoder


def read_until_error(source, **options):
    frames = []
    with open_video(source, **options) as opened, pytest.raises(VideoError) as caught:
        frames.extend(opened)
    return frames, str(caught.value)


def assert_same_frames(actual, expected):
    assert [time for _, time in actual] == [time for _, time in expected]
    for (one, _), (other, _) in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def clip(tmp_path):
    return encode(tmp_path / "clip.mp4")


@pytest.fixture
def whole_chroma(tmp_path):
    """A clip whose colours decord converts exactly."""
    return encode(tmp_path / "whole_chroma.mp4", pix_fmt="yuv444p")


# What a frame says


def test_a_clip_gives_its_frames_in_order_with_exact_times(clip):
    with open_video(clip) as frames:
        listed = list(frames)
        assert (frames.info.width, frames.info.height) == (WIDTH, HEIGHT)
        assert frames.info.name == "clip"
        assert frames.info.fps == 25
        assert frames.info.decoder == "pyav"
    assert [frame.index for frame in listed] == list(range(12))
    assert [frame.name for frame in listed] == [f"{i:05d}" for i in range(12)]
    assert [frame.time for frame in listed] == [Fraction(i, 25) for i in range(12)]
    assert listed[3].time_s == 0.12
    for frame in listed:
        assert np.abs(frame.image.astype(int) - drawn(frame.index)).mean() < 12
        assert frame.image.flags.c_contiguous


def test_a_source_works_without_a_with_block_and_is_read_once(clip):
    frames = open_video(str(clip))
    assert len(list(frames)) == 12
    assert list(frames) == []
    frames.close()
    frames.close()


def test_a_closed_source_gives_no_more_frames(whole_chroma):
    for decoder in ("pyav", "decord"):
        frames = open_video(whole_chroma, decoder=decoder)
        next(frames)
        frames.close()
        assert list(frames) == []


def test_uneven_frame_times_are_kept_exactly(tmp_path):
    times = [0, 33, 100, 117, 300, 301, 900, 1000, 1017, 1500]
    for name in ("uneven.mp4", "uneven.mkv"):
        path = encode(tmp_path / name, 10, pts=times, pix_fmt="yuv444p")
        for decoder in ("decord", "pyav"):
            frames, _ = read(path, decoder=decoder)
            assert [time for _, time in frames] == [Fraction(t, 1000) for t in times]


def test_frames_without_times_are_spaced_by_the_frame_rate(tmp_path):
    """A bare H.264 stream has no clock."""
    path = encode(tmp_path / "clip.h264", codec_options={"bf": "0"})
    with av.open(str(path)) as container:
        assert all(frame.pts is None for frame in container.decode(video=0))
    frames, _ = read(path)
    assert [time for _, time in frames] == [Fraction(i, 25) for i in range(12)]


# The two decoders agree, or PyAV does it


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "colour"),
    [
        ("mp4", "libx264", "yuv420p", {}),
        ("mp4", "libx264", "yuv420p", {"colorspace": 1, "color_primaries": 1, "color_trc": 1}),
        ("mp4", "libx264", "yuv420p", {"color_range": 2}),
        ("mp4", "libx264", "yuvj420p", {}),
        ("mp4", "libx264", "yuv422p", {}),
        ("mp4", "libx264", "yuv444p", {}),
        ("mp4", "libx264", "yuvj444p", {}),
        ("mkv", "libx264", "yuv444p", {"colorspace": 1, "color_range": 1}),
        ("mp4", "libx264", "yuv420p10le", {}),
        ("mp4", "libx264", "gray", {}),
        ("mp4", "libx264rgb", "rgb24", {}),
        ("mp4", "libx265", "yuv420p", {}),
        ("mp4", "mpeg4", "yuv420p", {}),
        ("mkv", "ffv1", "bgra", {}),
        ("mkv", "libx264", "yuv420p", {}),
        ("webm", "libvpx-vp9", "yuv420p", {}),
        ("webm", "libvpx-vp9", "yuva420p", {}),
        ("mp4", "libsvtav1", "yuv420p", {}),
        ("avi", "libx264", "yuv420p", {}),
        ("gif", "gif", "rgb8", {}),
        ("flv", "libx264", "yuv420p", {}),
        ("mpg", "mpeg2video", "yuv420p", {}),
        ("ts", "libx264", "yuv420p", {}),
    ],
)
def test_any_decoder_gives_the_frames_of_a_plain_pyav_loop(
    tmp_path, suffix, codec, pix_fmt, colour
):
    try:
        path = encode(tmp_path / f"clip.{suffix}", 12, codec=codec, pix_fmt=pix_fmt, colour=colour)
    except (av.error.FFmpegError, ValueError) as error:  # pyright: ignore
        pytest.skip(f"this build of FFmpeg cannot encode it: {error}")
    expected = plain_pyav_loop(path)
    assert len(expected) == 12
    assert_same_frames(read(path, decoder="auto")[0], expected)
    assert_same_frames(read(path, decoder="pyav")[0], expected)
    if read(path)[1] == "decord":
        assert_same_frames(read(path, decoder="decord")[0], expected)
    else:
        with pytest.raises(VideoError, match='pass decoder="pyav"'):
            read(path, decoder="decord")


@pytest.mark.parametrize("size", [(18, 18), (34, 18), (66, 50), (130, 98), (854, 480)])
def test_sizes_off_the_grid_give_the_same_pixels(tmp_path, size):
    path = encode(tmp_path / "clip.mp4", 5, size=size)
    assert_same_frames(read(path)[0], plain_pyav_loop(path))


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotation_is_applied_alike_by_both_decoders(tmp_path, angle):
    level = encode(tmp_path / "level.mp4", size=(192, 128), pix_fmt="yuv444p")
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(with_rotation(level.read_bytes(), angle))
    upright = [np.rot90(image, -angle // 90) for image, _ in read(level)[0]]
    for decoder in ("decord", "pyav"):
        frames, used = read(turned, decoder=decoder)
        assert used == decoder
        for (image, _), expected in zip(frames, upright, strict=True):
            np.testing.assert_array_equal(image, expected)
    with open_video(turned) as source:
        assert (source.info.height, source.info.width) == upright[0].shape[:2]


def test_a_turned_clip_that_decord_garbles_goes_to_pyav(whole_chroma):
    """Of this width, decord 3.4 returns arrays of four channels."""
    turned = whole_chroma.with_name("turned.mp4")
    turned.write_bytes(with_rotation(whole_chroma.read_bytes(), 90))
    assert_same_frames(read(turned)[0], plain_pyav_loop(turned))


def with_rotation(mp4, angle):
    """Replace the identity matrix of the track header by a clockwise turn for display."""

    def matrix(a, b, c, d):
        rows = (a, b, 0, c, d, 0)
        fixed = b"".join((value * 0x10000).to_bytes(4, "big", signed=True) for value in rows)
        return fixed + bytes(8) + (0x40000000).to_bytes(4, "big")

    turns = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    track_header = mp4.index(b"tkhd")
    start = mp4.index(matrix(1, 0, 0, 1), track_header)
    return mp4[:start] + matrix(*turns[angle]) + mp4[start + 36 :]


def test_an_mpeg_ts_goes_to_pyav_and_starts_with_its_first_frame(tmp_path):
    path = encode(tmp_path / "clip.ts", 60, codec_options={"g": "20"})
    frames, decoder = read(path)
    assert decoder == "pyav"
    assert_same_frames(frames, plain_pyav_loop(path))
    with pytest.raises(
        VideoError, match=r"clip\.ts: decord does not decode.*pass decoder=\"pyav\""
    ):
        read(path, decoder="decord")


def test_a_clip_cut_without_re_encoding_shows_no_hidden_frame(tmp_path):
    """A cut before a keyframe leaves packets that the edit list hides."""
    whole = encode(
        tmp_path / "whole.mp4", 40, pix_fmt="yuv444p", codec_options={"g": "10", "bf": "2"}
    )
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream: Any = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        tick = int(Fraction(1, 25) / stream.time_base)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts = packet.pts - 5 * tick, packet.dts - 5 * tick
                packet.stream = copy
                target.mux(packet)
    expected = plain_pyav_loop(cut)
    assert len(expected) == 35
    frames, decoder = read(cut)
    assert decoder == "pyav"
    assert_same_frames(frames, expected)
    with pytest.raises(VideoError, match="edit list"):
        read(cut, decoder="decord")


def test_a_clip_that_takes_more_than_the_limit_goes_to_pyav(whole_chroma):
    frame_bytes = WIDTH * HEIGHT * 3
    assert (
        read(whole_chroma, read_ahead_bytes=12 * frame_bytes + whole_chroma.stat().st_size)[1]
        == "decord"
    )
    assert read(whole_chroma, read_ahead_bytes=12 * frame_bytes - 1)[1] == "pyav"
    with pytest.raises(VideoError, match=r"MiB decoded; pass decoder=\"pyav\""):
        read(whole_chroma, decoder="decord", read_ahead_bytes=12 * frame_bytes - 1)


def test_a_decord_that_hangs_is_left_behind_for_pyav(whole_chroma, monkeypatch):
    release = threading.Event()

    def stuck(path):
        yield next(real(path))
        release.wait()

    real = decord_reader._decord_images
    monkeypatch.setattr(decord_reader, "_decord_images", stuck)
    monkeypatch.setattr(decord_reader, "PROGRESS_DEADLINE_S", 0.3)
    monkeypatch.setattr("propagate.io.decode.prefetch.JOIN_DEADLINE_S", 0.1)
    frames, decoder = read(whole_chroma)
    release.set()
    assert decoder == "pyav"
    assert_same_frames(frames, plain_pyav_loop(whole_chroma))


def test_a_decord_that_loses_or_repeats_a_frame_is_replaced_by_pyav(whole_chroma, monkeypatch):
    real = decord_reader._decord_images

    def lost(path):
        return (image for i, image in enumerate(real(path)) if i != 5)

    def repeated(path):
        images = list(real(path))
        return iter(images[:6] + images[5:-1])

    for faulty in (lost, repeated):
        monkeypatch.setattr(decord_reader, "_decord_images", faulty)
        frames, decoder = read(whole_chroma)
        assert decoder == "pyav"
        assert_same_frames(frames, plain_pyav_loop(whole_chroma))


# What is not a video, and what breaks off


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.mp4", None, "no such file or folder"),
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"these are not pictures\n" * 40, "cannot be opened as a video"),
    ],
)
def test_what_is_not_a_video_is_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=message) as caught:
        open_video(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sound_without_pictures_is_an_error(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="has no video stream"):
        open_video(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="neither a file nor a folder"):
        open_video(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_file_cut_short_gives_its_good_frames_then_an_error(tmp_path, suffix, decoder):
    whole = encode(
        tmp_path / f"whole.{suffix}",
        100,
        codec_options={"g": "10", "bf": "0"},
        container_options={"movflags": "faststart"} if suffix == "mp4" else {},
    )
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    frames, message = read_until_error(cut, decoder=decoder)
    assert 20 < len(frames) < 90
    assert f"{len(frames)} frames were read" in message
    assert str(cut) in message
    expected = plain_pyav_loop(whole)[: len(frames)]
    # The frame at the cut may lack a part of its data.
    assert_same_frames([(f.image, f.time) for f in frames][:-1], expected[:-1])


def test_a_file_name_that_looks_like_an_address_or_an_option_is_a_file(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.mp4", "-x.mp4", "100%.mp4", "7", "ünï ©.mp4"):
        Path(name).write_bytes(clip.read_bytes())
        assert len(read(name)[0]) == 12


def test_wrong_arguments_are_the_programmers_error(clip):
    with pytest.raises(ValueError, match="decoder"):
        open_video(clip, decoder="vlc")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="read_ahead_bytes"):
        open_video(clip, read_ahead_bytes=0)
    with pytest.raises(ValueError, match="camera index"):
        open_video(-1)


# Folders of images


def save_frames(folder, names):
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(drawn(i)).save(folder / name)
    return folder


def test_a_folder_is_read_in_natural_order_with_its_own_names(tmp_path):
    folder = save_frames(tmp_path / "bear", [f"img{i}.png" for i in range(1, 13)])
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._img1.png").write_bytes(b"left by a file manager")
    with open_video(folder) as source:
        assert source.info.name == "bear"
        assert source.info.decoder == "images"
        assert source.info.frame_count == 12
        assert source.info.fps is None
        frames = list(source)
    assert [frame.name for frame in frames] == [f"img{i}" for i in range(1, 13)]
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(12)]
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, drawn(i))


def test_every_fifth_frame_is_a_sequence_without_holes(tmp_path):
    folder = save_frames(tmp_path / "f", [f"{i:05d}.png" for i in range(0, 30, 5)])
    assert len(read(folder)[0]) == 6


@pytest.mark.parametrize(
    ("numbers", "missing"), [((10, 11, 13), "00012"), ((0, 5, 15, 20), "00010")]
)
def test_a_hole_in_the_count_names_the_missing_frame(tmp_path, numbers, missing):
    folder = save_frames(tmp_path / "f", [f"{i:05d}.png" for i in numbers])
    with pytest.raises(VideoError, match=f"frame {missing} is missing between"):
        open_video(folder)


def test_times_as_names_are_no_count(tmp_path):
    names = [f"{t}.png" for t in (17000, 17033, 17067, 17100, 17134)]
    assert len(read(save_frames(tmp_path / "f", names))[0]) == 5


def test_two_images_for_one_frame_are_an_error(tmp_path):
    folder = save_frames(tmp_path / "f", ["00000.png", "00001.png", "00001.jpg"])
    with pytest.raises(VideoError, match="2 images are named 00001"):
        open_video(folder)


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(VideoError, match="has no images"):
        open_video(tmp_path)


def test_another_size_in_the_middle_is_an_error_after_the_good_frames(tmp_path):
    folder = save_frames(tmp_path / "f", ["0.png", "1.png", "2.png"])
    Image.fromarray(drawn(0, 32, 32)).save(folder / "2.png")
    frames, message = read_until_error(folder)
    assert len(frames) == 2
    assert "2.png: is 32x32, the frames before it are 64x48" in message


def test_an_unreadable_image_is_an_error_after_the_good_frames(tmp_path):
    folder = save_frames(tmp_path / "f", ["0.jpg", "1.jpg", "2.jpg"])
    data = (folder / "1.jpg").read_bytes()
    (folder / "1.jpg").write_bytes(data[: len(data) // 2])
    frames, message = read_until_error(folder)
    assert len(frames) == 1
    assert "1.jpg: cannot be read as an image" in message
    assert "\n" not in message


def test_grey_palette_alpha_16_bit_and_turned_images_become_upright_rgb(tmp_path):
    grey = drawn(3)[..., 0]
    colour = Image.fromarray(drawn(3))
    folder = tmp_path / "f"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    Image.fromarray(grey).save(folder / "0.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "1.png")
    colour.convert("RGBA").save(folder / "2.png")
    colour.rotate(180).save(folder / "3.tif", exif=exif)
    colour.quantize(16).save(folder / "4.png")
    images = [image for image, _ in read(folder)[0]]
    np.testing.assert_array_equal(images[0], np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(images[1], images[0])
    np.testing.assert_array_equal(images[2], drawn(3))
    np.testing.assert_array_equal(images[3], drawn(3))
    np.testing.assert_array_equal(images[4], np.asarray(colour.quantize(16).convert("RGB")))


# Cameras and streams


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_video_over_http_gives_the_frames_of_the_file(clip):
    handler = functools.partial(QuietHandler, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/clip.mp4"
        try:
            with open_video(url) as source:
                assert source.info.name == "clip"
                frames = [(frame.image, frame.time) for frame in source]
            with pytest.raises(VideoError, match="cannot be opened as a video"):
                open_video(url.replace("clip", "absent"))
        finally:
            server.shutdown()
            thread.join()
    assert_same_frames(frames, plain_pyav_loop(clip))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.mark.slow
def test_a_stream_that_stops_is_an_error_after_its_frames(tmp_path):
    port = free_port(socket.SOCK_DGRAM)
    clip = encode(tmp_path / "clip.ts", 100, codec="mpeg2video", codec_options={"g": "5"})
    stop = threading.Event()

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            data = clip.read_bytes()
            for start in range(0, len(data), 7 * 188):
                if stop.wait(0.002):
                    return
                sender.sendto(data[start : start + 7 * 188], ("127.0.0.1", port))

    sender = threading.Thread(target=lambda: (time.sleep(0.5), send()))
    sender.start()
    try:
        start = time.monotonic()
        frames, message = read_until_error(f"udp://127.0.0.1:{port}", live_deadline_s=3)
        assert time.monotonic() - start < 30
    finally:
        stop.set()
        sender.join()
    assert len(frames) > 10
    assert f"udp://127.0.0.1:{port}: the stream broke off" in message
    assert f"{len(frames)} frames were read" in message
    assert "\n" not in message


@pytest.mark.parametrize("scheme", ["http", "rtsp", "tcp"])
def test_a_server_that_says_nothing_is_an_error_within_the_deadline(scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://user:secret@127.0.0.1:{server.getsockname()[1]}/live"
        start = time.monotonic()
        with pytest.raises(VideoError) as caught:
            open_video(url, live_deadline_s=0.5)
        assert time.monotonic() - start < 5
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_an_address_where_nobody_answers_is_an_error():
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        open_video(f"tcp://127.0.0.1:{free_port()}", live_deadline_s=2)


@pytest.mark.parametrize("camera", [97, "97"])
def test_a_camera_that_is_not_there_is_an_error(camera):
    with pytest.raises(VideoError, match="camera 97"):
        open_video(camera)
    with pytest.raises(VideoError, match="decord reads files only"):
        open_video(camera, decoder="decord")


# What it costs


READ_SLOWLY = """
import sys, time
import av, decord, PIL.Image  # their own size is not the reader's
from propagate.io.decode.rgb import RgbConverter
from propagate.io.decode.video import open_video

def peak_mib():  # VmHWM begins anew in this program; ru_maxrss would begin with its parent's
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

before = peak_mib()
with open_video(sys.argv[1]) as frames:
    for count, frame in enumerate(frames, start=1):
        time.sleep(0.01)
    print(count, frames.info.decoder, peak_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("count", "decoder"), [(30, "decord"), (90, "pyav")])
def test_a_slow_consumer_of_full_hd_adds_less_than_400_mib(tmp_path, count, decoder):
    path = encode(
        tmp_path / "hd.mp4",
        count,
        pix_fmt="yuv444p",
        colour={"colorspace": 1},
        size=(1920, 1080),
        codec_options={"preset": "ultrafast"},
    )
    result = subprocess.run(
        [sys.executable, "-c", READ_SLOWLY, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=True,
    )
    frames, used, grown_mib = result.stdout.split()
    print(f"{count} frames of 1920x1080 through {used}: +{float(grown_mib):.0f} MiB")
    assert (int(frames), used) == (count, decoder)
    assert float(grown_mib) < 400


def test_importing_the_reader_imports_neither_torch_nor_decord():
    code = (
        "import sys, propagate.io.decode.video; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'decord')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
