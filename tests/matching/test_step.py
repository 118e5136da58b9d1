"""The step as one pure function, and what a session makes of a frame that fails."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from propagate.config import MATCHERS, Config
from propagate.errors import MaskError, VideoError
from propagate.features.colors import COLOR_CHANNELS, ColorBackbone
from propagate.features.extract import extract_features
from propagate.matchers import (
    ComponentSettings,
    Matcher,
    MotionSettings,
    ReappearanceSettings,
)
from propagate.matching.cells import FrameCells, RememberedFrames, frame_cells, within_reach
from propagate.matching.matches import Matches
from propagate.matching.motion import Motion, winning
from propagate.matching.references import reduce_mask
from propagate.matching.step import Track, step
from propagate.matching.subcell import label_subcells
from propagate.matching.top_k import local_top_k
from propagate.matching.votes import propagate_labels
from propagate.memory import TemporalMemory
from propagate.session import Session
from tests.tensors import assert_same_tensors, copies_in, tensors_in

HEIGHT, WIDTH = 96, 128
RED, REDDISH, GREEN = np.array([(190, 70, 60), (180, 80, 70), (60, 160, 70)])
OPTIONAL = [field.name for field in fields(Matcher) if field.default is None]
ALONE = replace(
    MATCHERS["default"].without_colors(),
    search=replace(MATCHERS["default"].search, moved_reference=False),
    vote=replace(MATCHERS["default"].vote, label_floor=0.0),
    **dict.fromkeys(OPTIONAL),
)


def draw(t: int) -> np.ndarray:
    """Two textured squares of nearly one colour that pass each other, and one thing at rest."""
    rng = np.random.default_rng(7)
    image = np.kron(rng.integers(90, 150, (12, 16, 3)), np.ones((8, 8, 1)))
    texture = np.kron(rng.integers(-25, 26, (8, 8, 3)), np.ones((4, 4, 1)))
    image[72:96, 0:32] = GREEN + texture[:24]
    image[12:44, 8 + 6 * t : 40 + 6 * t] = RED + texture
    image[40:72, 88 - 6 * t : 120 - 6 * t] = REDDISH + texture
    noise = np.random.default_rng(t).integers(-6, 7, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def first_mask() -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[12:44, 8:40], ids[40:72, 88:120] = 1, 2
    return ids


def scene(matcher: Matcher) -> tuple[FrameCells, RememberedFrames, tuple[Track, ...]]:
    """A frame, what is remembered of the three before it, and the tracks of two objects."""
    config = Config(matcher=matcher, short_side_px=HEIGHT)
    backbone = ColorBackbone(torch.device("cpu"))
    memory, statistics, tracks = TemporalMemory(matcher.memory), None, ()
    for t in range(4):
        features = extract_features(backbone, config, [draw(t)])[0]
        count = len(features) - (COLOR_CHANNELS if matcher.cells.color_weight else 0)
        frame, statistics = frame_cells(
            features[:count], features[:0], features[count:], statistics, matcher
        )
        if t == 0:
            ids = torch.from_numpy(first_mask())
            labels, subcells = reduce_mask(ids, [1, 2], frame, matcher.cells.reduction)
            memory = memory.with_reference(frame, labels, subcells)
            tracks = tuple(Track(Motion.at_rest(winning(labels, i))) for i in (1, 2))
        elif t < 3:
            found = step(frame, memory.read(), tracks, matcher)
            memory, tracks = memory.with_flows(found.flows), found.tracks
            memory = memory.with_recent(frame, found.labels, found.subcells)
        else:
            return frame, memory.read(), tracks
    raise AssertionError


def test_every_optional_stage_of_the_default_matcher_is_known_here():
    stages = ["flow", "motion", "background_vote", "reappearance", "components", "subcell"]
    assert stages == OPTIONAL
    assert all(getattr(MATCHERS["default"], stage) for stage in stages)


@pytest.mark.parametrize("name", MATCHERS)
def test_a_step_changes_nothing_that_it_is_given_and_repeats_itself(name: str):
    matcher = MATCHERS[name]
    given = scene(matcher)
    before = copies_in(given)
    assert len(before) > 8
    first = step(*given, matcher)
    assert_same_tensors(given, before)
    assert_same_tensors(step(*given, matcher), copies_in(first))


def test_a_step_returns_labels_that_sum_to_one_and_need_no_gradient():
    matcher = MATCHERS["default"]
    frame, known, tracks = scene(matcher)
    found = step(frame, known, tracks, matcher)
    torch.testing.assert_close(found.labels.sum(-1), torch.ones(12, 16))
    assert found.mask_labels.shape == (24, 32, 3)
    torch.testing.assert_close(found.mask_labels.sum(-1), torch.ones(24, 32))
    assert found.flows.shape == (3, 12, 16, 2)
    assert not any(tensor.requires_grad for _, tensor in tensors_in(found))
    assert all(track.usual_cosine is not None for track in found.tracks)


def test_with_no_optional_stage_a_step_is_the_vote_of_the_most_similar_cells():
    frame, known, tracks = scene(ALONE)
    found = step(frame, known, tracks, ALONE)
    radius = ALONE.search.radius
    needed = within_reach(known.labels, radius)
    matches = local_top_k(frame.cells, known.cells, ALONE.vote.top_k, radius, "square", needed)
    expected = propagate_labels(matches, known.labels, ALONE.vote.temperature)
    torch.testing.assert_close(found.labels, expected, rtol=0, atol=0)
    assert found.subcells is None
    assert found.mask_labels is found.labels
    assert_same_tensors(found.tracks, copies_in(tracks))
    assert [track.usual_cosine for track in found.tracks] == [None, None]


@pytest.mark.parametrize("stage", OPTIONAL)
def test_a_stage_without_settings_does_nothing(stage: str):
    default = MATCHERS["default"]
    matcher = replace(default, **{stage: None})
    frame, known, tracks = scene(matcher)
    found = step(frame, known, tracks, matcher)
    torch.testing.assert_close(found.labels.sum(-1), torch.ones(12, 16))
    if stage == "flow":
        assert torch.equal(found.flows, known.flows)
    elif stage == "motion":
        before = copies_in([track.motion for track in tracks])
        assert_same_tensors([track.motion for track in found.tracks], before)
    elif stage == "background_vote":
        assert [track.usual_cosine for track in found.tracks] == [None, None]
    elif stage == "subcell":
        assert found.subcells is None
        matches = Matches(torch.ones(12, 16, 1), torch.zeros(12, 16, 1, dtype=torch.int64))
        assert label_subcells(frame, found.labels, matches, known, 0.1, None) is None


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("motion", MotionSettings(contested_share=0)),
        ("reappearance", ReappearanceSettings(cut_area_share=-1, lost_area_share=-1)),
        ("components", ComponentSettings(own_share=0, far_own_share=0)),
        ("subcell", MATCHERS["default"].subcell),
    ],
)
def test_labels_without_a_stage_are_those_with_settings_under_which_it_never_acts(stage, settings):
    """For motion that no cell is contested, for components that none is unsupported, and so on."""
    default = MATCHERS["default"]
    frame, known, tracks = scene(default)
    neutral = step(frame, known, tracks, replace(default, **{stage: settings}))
    without = step(frame, known, tracks, replace(default, **{stage: None}))
    assert torch.equal(without.labels, neutral.labels)


# In a session


class BrokenOnce(ColorBackbone):
    """Raises an error on one frame, the first time that it comes."""

    def __init__(self, broken: int) -> None:
        super().__init__(torch.device("cpu"))
        self.left = broken

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left == -1:
            raise RuntimeError("the backbone failed")
        return super().extract(images)


def new_session(backbone: ColorBackbone | None = None) -> Session:
    backbone = backbone or ColorBackbone(torch.device("cpu"))
    return Session(backbone, Config(short_side_px=HEIGHT))


def other_mask() -> np.ndarray:
    """A correction and a new object, for a frame in the middle."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[12:44, 26:58], ids[72:96, 0:32] = 1, 9
    return ids


def masks(session: Session, failing: int | None = None, failure: str = "") -> list[np.ndarray]:
    """The masks of eight frames, two of them with a mask; one may fail once before."""
    found = []
    for t in range(8):
        mask = {0: first_mask(), 3: other_mask()}.get(t)
        if t == failing:
            state = session.state_dict()
            before, index = copies_in(state), state["index"]
            fail(session, draw(t), mask, failure)
            assert_same_tensors(session.state_dict(), before)
            assert session.state_dict()["index"] == index
        found.append(session.step(draw(t), mask).mask)
    return found


def fail(session: Session, image: np.ndarray, mask: np.ndarray | None, failure: str) -> None:
    size, features = (HEIGHT, WIDTH), session.extract([image])[0]
    if failure == "mask of another size":
        with pytest.raises(MaskError):
            session.label(size, features, first_mask()[1:])
    elif failure == "frame of another size":
        with pytest.raises(VideoError):
            session.step(image[8:], mask if mask is None else mask[8:])
    elif failure == "features on another grid":
        with pytest.raises(RuntimeError):
            session.label(size, features[:, 1:, 2:], mask)
    else:
        with pytest.raises((RuntimeError, ValueError)):
            session.label(size, features[: len(features) // 2], mask)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "failure"),
    [
        (0, "mask of another size"),
        (3, "mask of another size"),
        (3, "frame of another size"),
        (3, "features on another grid"),
        (5, "features on another grid"),
        (5, "features that lack channels"),
    ],
)
def test_a_frame_that_failed_can_be_given_again(failing: int, failure: str):
    expected = masks(new_session())
    found = masks(new_session(), failing, failure)
    assert [np.array_equal(a, b) for a, b in zip(expected, found, strict=True)] == [True] * 8
    assert set(np.unique(expected[-1])) == {0, 1, 2, 9}


@pytest.mark.parametrize("broken", [0, 3, 4])
def test_a_frame_on_which_the_backbone_failed_can_be_given_again(broken: int):
    session, found = new_session(BrokenOnce(broken)), []
    for t in range(8):
        mask = {0: first_mask(), 3: other_mask()}.get(t)
        if t == broken:
            with pytest.raises(RuntimeError, match="the backbone failed"):
                session.step(draw(t), mask)
        found.append(session.step(draw(t), mask).mask)
    expected = masks(new_session())
    assert [np.array_equal(a, b) for a, b in zip(expected, found, strict=True)] == [True] * 8


@pytest.mark.parametrize("name", MATCHERS)
def test_nothing_that_a_session_remembers_needs_a_gradient(name: str):
    config = Config(matcher=MATCHERS[name], short_side_px=HEIGHT)
    session = Session(ColorBackbone(torch.device("cpu")), config)
    for t in range(3):
        features = session.extract([draw(t)])[0].requires_grad_()
        labels = session.label((HEIGHT, WIDTH), features, first_mask() if t == 0 else None)
        assert labels is not None
        assert not labels.requires_grad
    found = dict(tensors_in(session.state_dict()))
    assert found
    assert not [path for path, tensor in found.items() if tensor.requires_grad]


@pytest.mark.parametrize("name", MATCHERS)
def test_the_session_is_the_step_over_and_over(name: str):
    """The labels of the fourth frame are those that the step finds in the scene above."""
    matcher = MATCHERS[name]
    config = Config(matcher=matcher, short_side_px=HEIGHT)
    session = Session(ColorBackbone(torch.device("cpu")), config)
    labels = None
    for t in range(4):
        features = session.extract([draw(t)])[0]
        labels = session.label((HEIGHT, WIDTH), features, first_mask() if t == 0 else None)
    assert labels is not None
    assert torch.equal(labels, step(*scene(matcher), matcher).mask_labels)
