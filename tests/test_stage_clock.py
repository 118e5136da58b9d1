"""Signs of life: from every thread of a run, between the forwards of a slow frame, and no more."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

import propagate.batch.events
from propagate.batch.events import Advanced, Finished, run_reporting
from propagate.batch.manifest import BatchVideo
from propagate.batch.schedule import run_batch
from propagate.batch.tasks import BatchSettings
from propagate.config import Config
from propagate.features.colors import ColorBackbone
from propagate.features.read_ahead import with_features
from propagate.features.registry import load_backbone
from propagate.io.decode.source import FrameStream
from propagate.records import Frame
from propagate.run_options import RunOptions
from propagate.run_summary import RunSummary
from propagate.stage_clock import StageClock, show_life, watched_by
from tests.tiny_models import stable_diffusion

SUMMARY = RunSummary(None, 1, (1,), 1.0, {}, ())  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    stable_diffusion(folder).save_pretrained(folder / "model")
    return folder / "model"


def test_nobody_has_to_watch():
    show_life()
    with StageClock()("match"):
        pass


def test_each_stage_is_a_sign_of_life_to_the_one_who_watches():
    signs = []
    with watched_by(lambda: signs.append("outer")):
        with watched_by(lambda: signs.append("inner")), StageClock()("match"):
            pass
        show_life()
    show_life()
    assert signs == ["inner", "outer"]


# The forwards of each recipe that `propagate/features/README.md` lists.
@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "forwards"), [("dift", 8), ("paper", 17), ("official", 100)])
def test_each_forward_of_a_frame_is_a_sign_of_life(model, recipe, forwards):
    backbone = load_backbone(str(model), device="cpu", recipe=recipe)
    signs = []
    with watched_by(lambda: signs.append(1)):
        backbone.extract(torch.rand(1, 3, 64, 64))
    assert len(signs) == forwards


class Slow(ColorBackbone):
    """Takes long for a frame, and shows life meanwhile, as a U-Net does between its forwards."""

    def extract(self, images):
        for _ in range(20):
            time.sleep(0.01)
            show_life()
        return super().extract(images)


def test_a_slow_frame_in_the_thread_of_features_is_reported(monkeypatch):
    monkeypatch.setattr(propagate.batch.events, "REPORT_EVERY_S", 0.02)
    threads, events = set(), []

    def run(*, progress):
        frame = Frame(np.zeros((64, 64, 3), np.uint8))
        list(with_features([frame], Slow(torch.device("cpu")), Config(short_side_px=64)))
        return SUMMARY

    def tell(event):
        events.append(event)
        threads.add(threading.current_thread().name)

    run_reporting(run, 0, 0, tell)
    assert sum(isinstance(event, Advanced) for event in events) >= 4
    assert isinstance(events[-1], Finished)
    assert "prefetch" in threads


def test_a_thread_that_outlives_its_run_reports_nothing(monkeypatch):
    monkeypatch.setattr(propagate.batch.events, "REPORT_EVERY_S", 0.0)
    events, kept = [], []

    def run(*, progress):
        progress(1, 2)
        kept.append(progress)
        return SUMMARY

    run_reporting(run, 0, 0, events.append)
    kept[0](2, 2)
    assert [type(event).__name__ for event in events] == ["Started", "Advanced", "Finished"]


@pytest.mark.slow
def test_an_end_that_is_asked_for_comes_between_two_forwards(model):
    """Not after a frame that takes minutes."""

    class Ended(BaseException):
        pass

    signs = []

    def check():
        signs.append(1)
        if len(signs) == 10:
            raise Ended

    backbone = load_backbone(str(model), device="cpu", recipe="official")
    frame = Frame(np.zeros((64, 64, 3), np.uint8))
    with watched_by(check):
        read = with_features([frame], backbone, Config(short_side_px=64))
        with pytest.raises(Ended):
            next(read)
    # The frame can be computed afterwards: the model was left as it was.
    assert torch.isfinite(backbone.extract(torch.rand(1, 3, 64, 64))).all()


def test_skipping_frames_is_life():
    class Skips(FrameStream):
        def _read(self):
            yield from [None] * 30
            yield Frame(np.zeros((8, 8, 3), np.uint8))

    signs = []
    with watched_by(lambda: signs.append(1)):
        next(Skips())
    assert len(signs) == 31


@pytest.mark.slow
def test_a_batch_leaves_a_worker_alone_whose_frame_takes_longer_than_the_limit(
    model, write_video, drawn, tmp_path
):
    write_video(tmp_path / "clip.mp4", drawn.images[:2])
    Image.fromarray(drawn.truth[0]).save(tmp_path / "m.png")
    settings = BatchSettings(
        model=str(model),
        device="cpu",
        recipe="official",
        short_side_px=128,
        run=RunOptions(max_frames=1),
    )
    video = BatchVideo(tmp_path / "clip.mp4", "clip", tmp_path / "m.png")
    started = []

    def tell(event):
        started.append((event["event"], time.monotonic()))

    summary = run_batch([video], tmp_path / "out", settings, stall_s=1.5, retry=0, on_event=tell)
    assert [v.state for v in summary.videos] == ["done"], summary.videos
    begin = next(when for what, when in started if what == "started")
    end = next(when for what, when in started if what == "finished")
    if end - begin < 2:
        pytest.skip(f"the frame took {end - begin:.1f} s only on this machine")
