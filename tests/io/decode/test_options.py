"""How a source is opened: checked where it is said, and the same in a child process."""

import json
from dataclasses import fields
from fractions import Fraction

import pytest

from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.video import open_source, open_video


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"decoder": "vlc"}, "decoder must be one of auto, decord, pyav, not 'vlc'"),
        ({"max_pixels": 0}, "max_pixels must be more than 0, not 0"),
        ({"follow_timeout_s": 0.0}, "follow_timeout_s must be more than 0, not 0.0"),
        ({"follow_timeout_s": float("nan")}, "follow_timeout_s must be more than 0, not nan"),
        ({"reconnect_s": -1.0}, "reconnect_s must be 0 or more, not -1.0"),
    ],
)
def test_what_makes_no_sense_is_refused_wherever_it_is_said(drawn, wrong, message):
    with pytest.raises(ValueError, match=message):
        SourceOptions(**wrong)
    with pytest.raises(ValueError, match=message):
        open_video(drawn.mp4, **wrong)


def test_options_are_the_same_after_a_way_through_json():
    wanted = FrameRange(start=2, end_s=Fraction(1, 3), fps=Fraction(30000, 1001))
    options = SourceOptions("pyav", wanted, True, 5000, 2.5, 30.0, True, "skip")
    assert all(getattr(options, f.name) != f.default for f in fields(options))
    assert SourceOptions.from_json(json.loads(json.dumps(options.to_json()))) == options
    assert SourceOptions.from_json(SourceOptions().to_json()) == SourceOptions()


@pytest.mark.slow
@pytest.mark.parametrize("isolate", [False, True])
def test_options_in_a_record_open_what_keywords_open(drawn, isolate):
    wanted = FrameRange(start=1, stride=4)
    options = SourceOptions(decoder="pyav", frame_range=wanted, isolate=isolate)
    with (
        open_source(drawn.mp4, options) as ours,
        open_video(drawn.mp4, decoder="pyav", frame_range=wanted, isolate=isolate) as theirs,
    ):
        assert [frame.index for frame in ours] == [1, 5, 9] == [frame.index for frame in theirs]
        assert ours.info.frame_count == theirs.info.frame_count == 3
