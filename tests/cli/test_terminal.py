"""What commands print while they work."""

import time

import pytest

from propagate.cli import terminal
from propagate.cli.terminal import progress_of, saying_what_is_slow, speed_text


@pytest.mark.parametrize(
    ("speed", "text"),
    [(5.26, "5.3 frames/s"), (0.5, "0.5 frames/s"), (0.04, "25 s a frame"), (0.0, "0.0 frames/s")],
)
def test_a_slow_speed_is_said_in_seconds_a_frame(speed, text):
    assert speed_text(speed) == text


def test_time_before_the_first_frame_does_not_count(monkeypatch, capsys):
    """A model loads for 100 s, then each frame takes 20 s: 3 frames are left after 60 s."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with progress_of("clip.mp4") as report:
        for done, at in enumerate((100, 120, 140), start=1):
            now[0] = at
            report(done, 6)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "propagate: clip.mp4: 1 frame of about 6",
        "propagate: clip.mp4: 2 frames of about 6, 80 s left, 20 s a frame",
        "propagate: clip.mp4: 3 frames of about 6, 60 s left, 20 s a frame",
    ]


def test_only_a_slow_stage_is_named(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "SLOW_S", 0.2)
    with saying_what_is_slow() as now:
        now("quick")
        now("slow")
        time.sleep(0.5)
        now("quick again")
    time.sleep(0.3)
    assert capsys.readouterr().err == "propagate: slow ...\n"
