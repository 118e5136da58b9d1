"""Which frames of a source are read, against a plain choice from the list of all of them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange, select
from propagate.io.decode.video import open_video
from propagate.records import Frame

COUNT = 40


def picture(index):
    """Grey of its own for each frame, so that pixels tell which one it is."""
    return np.full((48, 64, 3), 20 + 5 * index, np.uint8)


def write_clip(path, times_ms):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """One clip at 25 per second, one with uneven times from 7.3 s on, and a folder."""
    root = tmp_path_factory.mktemp("ranges")
    even = write_clip(root / "even.mp4", [40 * index for index in range(COUNT)])
    rng = np.random.default_rng(5)
    steps = rng.integers(10, 120, COUNT)
    uneven = write_clip(root / "uneven.mkv", (7300 + np.cumsum(steps)).tolist())
    folder = root / "frames"
    folder.mkdir()
    for index in range(COUNT):
        Image.fromarray(picture(index)).save(folder / f"{index:03d}.png")
    return {"even": even, "uneven": uneven, "folder": folder}


def all_frames(source):
    with open_video(source, decoder="pyav") as frames:
        return list(frames)


def chosen_plainly(frames, *, start=0, end=None, start_s=0, end_s=None, stride=1, fps=None):
    """The oracle: everything is known, and every tick looks at every frame."""
    begin = frames[0].time
    inside = [
        frame
        for frame in frames
        if frame.index >= start
        and (end is None or frame.index < end)
        and frame.time - begin >= start_s
        and (end_s is None or frame.time - begin < end_s)
    ]
    if fps is None:
        return inside[::stride]
    chosen, tick = [], inside[0].time
    while tick <= inside[-1].time + Fraction(1, 1000):
        frame = [frame for frame in inside if frame.time <= tick + Fraction(1, 1000)][-1]
        if frame not in chosen:
            chosen.append(frame)
        tick += 1 / fps
    return chosen


RANGES = {
    "everything": {},
    "from a frame": {"start": 13},
    "up to a frame": {"end": 13},
    "frames between": {"start": 5, "end": 30},
    "times between": {"start_s": Fraction("0.4"), "end_s": Fraction("1.2")},
    "from a time up to a frame": {"start_s": Fraction("0.41"), "end": 33},
    "every third": {"stride": 3},
    "every fourth of some": {"start": 6, "end": 31, "stride": 4},
    "five per second": {"fps": Fraction(5)},
    "the rate of the clip": {"fps": Fraction(25)},
    "more than there are": {"fps": Fraction(100)},
    "an odd rate of some": {"start": 4, "end_s": Fraction("1.3"), "fps": Fraction(30000, 4004)},
    "one per minute": {"fps": Fraction(1, 60)},
    "the last frame": {"start": COUNT - 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("kind", ["even", "uneven", "folder"])
@pytest.mark.parametrize("given", RANGES.values(), ids=RANGES)
def test_a_range_gives_the_frames_that_a_plain_choice_gives(sources, kind, decoder, given):
    expected = chosen_plainly(all_frames(sources[kind]), **given)
    with open_video(sources[kind], decoder=decoder, frame_range=FrameRange(**given)) as frames:
        read = list(frames)
    assert [frame.index for frame in read] == [frame.index for frame in expected]
    assert [frame.time for frame in read] == [frame.time for frame in expected]
    assert [frame.name for frame in read] == [frame.name for frame in expected]
    for one, other in zip(read, expected, strict=True):
        assert np.array_equal(one.image, other.image)


@pytest.mark.parametrize("given", RANGES.values(), ids=RANGES)
def test_what_is_said_of_a_range_before_reading_is_right_for_an_even_clip(sources, given):
    wanted = FrameRange(**given)
    with open_video(sources["even"], frame_range=wanted) as frames:
        info = frames.info
        read = list(frames)
    assert info.frame_count is not None
    assert abs(info.frame_count - len(read)) <= ("fps" in given)
    if "stride" in given:
        assert info.fps == Fraction(25, given["stride"])
    elif "fps" in given:
        assert info.fps == min(given["fps"], 25)
    else:
        assert info.fps == 25


def test_times_rounded_to_milliseconds_lose_no_frame_at_their_own_rate(tmp_path):
    clip = write_clip(tmp_path / "thirty.mkv", [round(1000 * i / 30) for i in range(COUNT)])
    with open_video(clip, frame_range=FrameRange(fps=Fraction(30))) as frames:
        assert [frame.index for frame in frames] == list(range(COUNT))


@pytest.mark.parametrize("kind", ["even", "folder"])
def test_a_range_past_the_end_is_one_error(sources, kind):
    with (
        open_video(sources[kind], frame_range=FrameRange(start=100)) as frames,
        pytest.raises(VideoError, match=r"no frame lies in the range.*is 39, at 1\.56 s"),
    ):
        next(frames)


def test_reading_stops_at_the_end_of_a_range_and_never_sees_damage_behind_it(sources, tmp_path):
    cut = tmp_path / "cut.mkv"
    data = sources["uneven"].read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])
    with open_video(cut, decoder="pyav") as frames, pytest.raises(VideoError):
        list(frames)
    with open_video(cut, decoder="pyav", frame_range=FrameRange(end=9)) as frames:
        assert [frame.index for frame in frames] == list(range(9))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0", {"start": 0}),
        ("250", {"start": 250}),
        ("10s", {"start_s": Fraction(10)}),
        ("2.5s", {"start_s": Fraction(5, 2)}),
        ("1:30", {"start_s": Fraction(90)}),
        ("1:01:30.5", {"start_s": Fraction(7381, 2)}),
        ("90:00", {"start_s": Fraction(5400)}),
    ],
)
def test_a_number_is_a_frame_and_seconds_have_an_s_or_a_colon(text, place):
    assert FrameRange.parse(text) == FrameRange(**place)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "10 s", "1:2:3:4", "s", "1h", "٣"])
def test_a_place_that_is_neither_is_refused(text):
    with pytest.raises(ValueError, match="a frame number such as 250, or a time such as 10s"):
        FrameRange.parse(text)


def test_floats_mean_the_digits_they_are_written_with():
    assert FrameRange(start_s=0.28).start_s == Fraction(28, 100)  # pyright: ignore[reportArgumentType]
    assert FrameRange.parse(fps="29.97").fps == Fraction(2997, 100)


def test_a_range_is_the_same_after_being_plain_values():
    for given in RANGES.values():
        wanted = FrameRange(**given)
        assert FrameRange(**wanted.to_json()) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": 5, "end": 5}, r"end \(.*\) must come after start"),
        ({"start_s": 2, "end_s": 1}, r"end \(.*\) must come after start"),
        ({"start": -1}, "start must be 0 or more"),
        ({"start": 2.5}, "give seconds as start_s and end_s"),
        ({"end": 2.5}, "give seconds as start_s and end_s"),
        ({"stride": 0}, "stride must be 1 or more"),
        ({"fps": 0}, "fps must be more than 0"),
        ({"fps": 5, "stride": 2}, "one of them"),
    ],
)
def test_a_range_that_means_nothing_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        FrameRange(**given)


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        (FrameRange(start=50), "the last frame is 2, at 0.08 s; choose an earlier start"),
        (FrameRange(start=50, end=60), "choose an earlier start, or a later end"),
    ],
)
def test_a_start_past_the_end_is_named(wanted, hint):
    image = np.zeros((2, 2, 3), np.uint8)
    frames = [Frame(image, index, Fraction(index, 25)) for index in range(3)]
    with pytest.raises(VideoError) as caught:
        list(select(frames, wanted, "clip"))
    assert str(caught.value).endswith(hint)
