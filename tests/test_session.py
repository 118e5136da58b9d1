"""A session on drawn frames, with the weightless backbone: real features, real matching."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from propagate.config import MATCHERS, Config
from propagate.errors import DeviceError, MaskError, VideoError
from propagate.eval.metrics import region_similarity
from propagate.features.colors import ColorBackbone
from propagate.features.extract import extract_features, working_size
from propagate.matchers import Matcher
from propagate.pipeline import Propagator
from propagate.records import Frame, Mask
from propagate.session import Session
from tests.tensors import assert_same_tensors, copies_in

HEIGHT, WIDTH = 96, 128
RED, BLUE, GREEN = (200, 30, 30), (30, 30, 220), (30, 200, 60)
BACKGROUND = np.random.default_rng(0).integers(110, 150, (HEIGHT // 8, WIDTH // 8, 1))
SMALL = Config(short_side_px=HEIGHT)


def draw(*squares: tuple[int, int, tuple[int, int, int]]) -> np.ndarray:
    """A textured frame with 32 px squares at (y, x) of a colour."""
    frame = np.kron(BACKGROUND, np.ones((8, 8, 3))).astype(np.uint8)
    for y, x, colour in squares:
        frame[y : y + 32, x : x + 32] = colour
    return frame


def region(*squares: tuple[int, int, int]) -> np.ndarray:
    """The mask of 32 px squares at (y, x) with an id."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for y, x, object_id in squares:
        ids[y : y + 32, x : x + 32] = object_id
    return ids


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.fixture(params=["default", "dino", "dift", "crw"])
def matcher(request) -> str:
    return request.param


def new_session(matcher: str = "default", **options) -> Session:
    config = Config(matcher=MATCHERS[matcher], short_side_px=HEIGHT)
    return Propagator("color", device="cpu", config=config).session(**options)


def with_radius(radius: int) -> Matcher:
    """The default matcher with another search window."""
    default = MATCHERS["default"]
    return replace(default, search=replace(default.search, radius=radius))


def test_two_moving_objects_are_followed_by_every_matcher(matcher):
    session = new_session(matcher)
    result = session.step(draw((8, 8, RED), (56, 80, BLUE)), region((8, 8, 3), (56, 80, 200)))
    for move in range(1, 6):
        result = session.step(draw((8, 8 + 8 * move, RED), (56, 80 - 8 * move, BLUE)))
        truth = region((8, 8 + 8 * move, 3), (56, 80 - 8 * move, 200))
        for object_id in (3, 200):
            assert iou(result.mask == object_id, truth == object_id) > 0.8
    assert set(np.unique(result.mask)) == {0, 3, 200}


def test_the_frame_of_a_reference_comes_out_exactly_as_given():
    session = new_session()
    ids = region((5, 7, 1), (50, 61, 9))
    ids[0, :3] = 255
    result = session.step(draw((5, 7, RED)), ids)
    assert np.array_equal(result.mask, np.where(ids == 255, 0, ids))
    assert result.scores == {1: 1.0, 9: 1.0}


def test_frames_before_any_mask_come_out_empty():
    session = new_session()
    result = session.step(draw((8, 8, RED)))
    assert not result.mask.any()
    assert result.scores == result.states == {}
    result = session.step(draw((8, 8, RED)), region((8, 8, 1)))
    assert result.index == 1
    assert session.step(draw((8, 16, RED))).mask.any()


def test_an_object_may_join_later_and_the_others_go_on():
    session = new_session()
    session.step(draw((8, 8, RED), (56, 80, BLUE)), region((8, 8, 1)))
    session.step(draw((8, 16, RED), (56, 80, BLUE)))
    result = session.step(draw((8, 24, RED), (56, 72, BLUE)), region((56, 72, 2)))
    assert iou(result.mask == 1, region((8, 24, 1)) == 1) > 0.8
    assert np.array_equal(result.mask == 2, region((56, 72, 2)) == 2)
    result = session.step(draw((8, 32, RED), (56, 64, BLUE)))
    assert iou(result.mask == 1, region((8, 32, 1)) == 1) > 0.8
    assert iou(result.mask == 2, region((56, 64, 2)) == 2) > 0.8
    assert session.object_ids == (1, 2)


def test_a_correction_replaces_what_was_found():
    session = new_session()
    session.step(draw((8, 8, RED), (56, 80, BLUE)), region((8, 8, 1)))
    frame = draw((8, 16, RED), (56, 80, BLUE))
    result = session.step(frame, region((56, 80, 1)))
    assert np.array_equal(result.mask, region((56, 80, 1)))
    result = session.step(draw((8, 24, RED), (56, 72, BLUE)))
    assert iou(result.mask == 1, region((56, 72, 1)) == 1) > 0.7


def test_an_object_that_left_is_absent_and_found_again():
    session = new_session()
    result = session.step(draw((8, 8, RED)), region((8, 8, 1)))
    for _ in range(12):
        result = session.step(draw())
    assert result.states == {1: "absent"}
    assert result.scores == {1: 0.0}
    assert not result.mask.any()
    # Farther from where it left than a search window reaches, were it not for the whole frame.
    config = with_radius(2)
    for reappearance, found in [(config.reappearance, True), (None, False)]:
        matcher = replace(config, reappearance=reappearance)
        session = Session(ColorBackbone(torch.device("cpu")), replace(SMALL, matcher=matcher))
        session.step(draw((8, 8, RED)), region((8, 8, 1)))
        for _ in range(12):
            session.step(draw())
        result = session.step(draw((56, 88, RED)))
        assert (iou(result.mask == 1, region((56, 88, 1)) == 1) > 0.8) == found


@pytest.mark.parametrize("drops_unsupported", [True, False])
def test_what_appears_behind_an_object_does_not_stay_a_part_of_it(drops_unsupported):
    """It looks more like the object than like the ground around, but the reference has it too."""

    def scene(x: int) -> np.ndarray:
        frame = draw()
        frame[16:32, 8:24] = frame[72:96, 96:128] = (180, 70, 60)
        frame[8:40, x : x + 32] = RED
        return frame

    # The window reaches from neither of the two similar places to the other.
    matcher = with_radius(3)
    if not drops_unsupported:
        assert matcher.components is not None
        components = replace(matcher.components, own_share=0, far_own_share=0)
        matcher = replace(matcher, components=components)
    session = Session(ColorBackbone(torch.device("cpu")), replace(SMALL, matcher=matcher))
    result = session.step(scene(8), region((8, 8, 1)))
    for x in range(16, 80, 8):
        result = session.step(scene(x))
    left_behind = (result.mask[16:32, 8:24] == 1).mean()
    assert left_behind < 0.1 if drops_unsupported else left_behind > 0.9
    assert (result.mask[8:40, 72:104] == 1).mean() > 0.95


def test_an_object_smaller_than_a_cell_is_not_given_up():
    frame = draw()
    frame[42:46, 66:70] = RED
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[42:46, 66:70] = 1
    session = new_session()
    result = session.step(frame, mask)
    for _ in range(10):
        result = session.step(frame)
    assert result.states[1] != "absent"
    assert result.mask[40:48, 64:72].any()


def test_an_object_of_another_look_is_not_taken_for_the_one_that_left():
    session = new_session()
    session.step(draw((8, 8, RED)), region((8, 8, 1)))
    for _ in range(12):
        session.step(draw())
    assert not session.step(draw((56, 88, GREEN))).mask.any()


def test_a_black_and_white_or_boolean_mask_is_object_one():
    for mask in (region((8, 8, 255)), region((8, 8, 1)).astype(bool)):
        session = new_session()
        session.step(draw((8, 8, RED)), mask)
        assert session.object_ids == (1,)


def test_numpy_and_torch_frames_give_the_same_masks():
    frames = [draw((8, 8 + 8 * i, RED)) for i in range(4)]
    ours, theirs = new_session(), new_session()
    for i, frame in enumerate(frames):
        mask = region((8, 8, 1)) if i == 0 else None
        other = None if mask is None else torch.from_numpy(mask)
        a = ours.step(frame, mask, time_s=i / 25)
        b = theirs.step(torch.from_numpy(frame), other, time_s=i / 25)
        assert np.array_equal(a.mask, b.mask)
        assert a.time_s == b.time_s == i / 25


def test_masks_are_uint8_of_the_frame_at_any_size():
    for height, width in [(50, 71), (97, 33), (1, 1), (3, 400)]:
        session = Propagator("color", config=SMALL).session()
        frame = np.full((height, width, 3), 90, np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[0, 0] = 1
        session.step(frame, mask)
        result = session.step(frame)
        assert result.mask.shape == (height, width)
        assert result.mask.dtype == np.uint8


def test_probabilities_sum_to_one_and_their_largest_is_the_mask():
    session = new_session(probabilities=True)
    session.step(draw((8, 8, RED), (56, 80, BLUE)), region((8, 8, 1), (56, 80, 7)))
    result = session.step(draw((8, 16, RED), (56, 72, BLUE)))
    assert result.probabilities is not None
    ids = list(result.probabilities)
    assert ids == [0, 1, 7]
    stacked = np.stack([result.probabilities[i] for i in ids])
    assert stacked.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_allclose(stacked.sum(0), 1, atol=1e-5)
    assert np.array_equal(np.array(ids)[stacked.argmax(0)], result.mask)


def test_a_saved_session_continues_exactly_where_it_was(tmp_path, matcher):
    frames = [draw((8, 8 + 4 * i, RED), (56, 80 - 4 * i, BLUE)) for i in range(12)]
    whole, first = new_session(matcher), new_session(matcher)
    for session in (whole, first):
        session.step(frames[0], region((8, 8, 1), (56, 80, 2)))
        for frame in frames[1:6]:
            session.step(frame)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = new_session(matcher)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for frame in frames[6:]:
        a, b = whole.step(frame), second.step(frame)
        assert np.array_equal(a.mask, b.mask)
        assert a.index == b.index
        assert a.scores == b.scores


def test_everything_that_a_session_remembers_survives_saving(tmp_path, matcher):
    session = new_session(matcher)
    session.step(draw((8, 8, RED), (56, 80, BLUE)), region((8, 8, 1), (56, 80, 2)))
    for i in range(1, 12):
        session.step(draw((8, 8 + 4 * i, RED), (56, 80 - 4 * i, BLUE)))
    state = session.state_dict()
    torch.save(state, tmp_path / "state.pt")
    other = new_session(matcher)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same_tensors(other.state_dict(), copies_in(state))
    assert other.object_ids == (1, 2)
    assert other.memory_bytes == session.memory_bytes
    again = other.state_dict()
    for key in ("index", "size", "object_ids"):
        assert again[key] == state[key]
    for a, b in zip(again["tracks"], state["tracks"], strict=True):
        assert (a["usual_cosine"], a["class_number"]) == (b["usual_cosine"], b["class_number"])


@pytest.mark.parametrize("name", ["dino", "crw"])
def test_without_flow_only_cells_and_labels_are_remembered(name):
    """Of a full memory: the reference and the recent frames, all of 12 x 16 cells."""
    session = new_session(name)
    recent_frames = MATCHERS[name].memory.recent_frames
    channels = session.extract([draw()]).shape[1]
    session.step(draw((8, 8, RED)), region((8, 8, 1)))
    for i in range(recent_frames + 1):
        session.step(draw((8, 8 + i, RED)))
    assert session.memory_bytes == (1 + recent_frames) * 12 * 16 * (channels + 2) * 4


@pytest.mark.slow
def test_memory_stands_still_over_hundreds_of_frames():
    session = new_session()
    session.step(draw((8, 8, RED)), region((8, 8, 1)))
    sizes = []
    for i in range(200):
        session.step(draw((8, 8 + i % 60, RED)))
        sizes.append(session.memory_bytes)
    assert len(set(sizes[10:])) == 1


def test_a_mask_of_another_size_names_both_sizes():
    session = new_session()
    with pytest.raises(MaskError, match=r"mask of frame 0: the mask is 64x48, the frame 128x96"):
        session.step(draw(), np.ones((48, 64), np.uint8))


def test_a_frame_of_another_size_is_refused_by_name():
    session = new_session()
    session.step(draw(), region((8, 8, 1)))
    with pytest.raises(VideoError, match=r"frame 1 is 64x48, those before are 128x96"):
        session.step(np.zeros((48, 64, 3), np.uint8))


@pytest.mark.parametrize(
    "frame", [np.zeros((9, 9), np.uint8), np.zeros((0, 0, 3), np.uint8), np.zeros((9, 9, 3))]
)
def test_what_is_no_rgb_frame_is_a_value_error(frame):
    with pytest.raises(ValueError, match="uint8 RGB"):
        new_session().step(frame)


def test_as_many_objects_as_a_png_holds_are_taken():
    session = new_session()
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[:64] = np.repeat(np.arange(1, 129), 64).reshape(64, 128)
    session.step(draw(), Mask(ids))
    ids = np.where(ids > 0, ids.astype(int) + 127, 0)
    ids[ids > 254] = 254
    session.step(draw(), Mask(ids.astype(np.uint8)))
    assert len(session.object_ids) == 254


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        ((480, 854), 16, (480, 848)),
        ((854, 480), 16, (848, 480)),
        ((1080, 1920), 8, (480, 856)),
        ((240, 320), 64, (512, 640)),
        ((1, 5000), 16, (480, 1920)),
        ((1, 1), 16, (480, 480)),
    ],
)
def test_working_size_keeps_the_short_side_and_the_shape(
    size: tuple[int, int], multiple: int, expected: tuple[int, int]
):
    assert working_size(*size, Config(), multiple) == expected


class Greedy(ColorBackbone):
    """A backbone whose device holds so many frames and no more."""

    def __init__(self, fits: int) -> None:
        super().__init__(torch.device("cpu"))
        self.fits, self.batches = fits, []

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        if len(images) > self.fits:
            raise torch.OutOfMemoryError("out of memory")
        return super().extract(images)


def test_a_batch_that_does_not_fit_is_halved(caplog):
    frames = [draw((8, 8 * i, RED)) for i in range(7)]
    backbone = Greedy(fits=2)
    features = extract_features(backbone, SMALL, frames)
    assert torch.equal(features, extract_features(Greedy(fits=99), SMALL, frames))
    assert [size for size in backbone.batches if size <= 2] == [2, 2, 2, 1]
    assert "out of memory with 7 frames" in caplog.text


def test_a_single_frame_that_does_not_fit_is_one_error():
    with pytest.raises(DeviceError, match="does not fit"):
        extract_features(Greedy(fits=0), SMALL, [draw()])


@pytest.mark.parametrize(
    "given",
    [
        lambda image: torch.from_numpy(image.copy()),
        lambda image: torch.from_numpy(image.copy()).permute(2, 0, 1),
        lambda image: np.ascontiguousarray(image.transpose(2, 0, 1)),
        lambda image: Image.fromarray(image),
        lambda image: Image.fromarray(image).convert("RGBA"),
        lambda image: Frame(image),
        lambda image: np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
        lambda image: image[:, ::-1].copy()[:, ::-1],
    ],
    ids=["tensor", "(C, H, W)", "array (C, H, W)", "PIL", "RGBA", "Frame", "read-only", "strides"],
)
def test_a_frame_in_any_form_gives_the_same_mask(drawn, given):
    whole, session = new_session(), new_session()
    for index, image in enumerate(drawn.images[:3]):
        mask = drawn.truth[0] if index == 0 else None
        expected = whole.step(image, mask)
        assert np.array_equal(session.step(given(image), mask).mask, expected.mask)


@pytest.mark.parametrize("frame", ["frame.png", None, [[1]], {}])
def test_another_type_of_frame_is_named(frame):
    with pytest.raises(TypeError, match=f"frame must be an array.*not {type(frame).__name__}"):
        new_session().step(frame)


def test_soft_labels_sum_to_one_under_void_too(drawn):
    mask = drawn.truth[0].copy()
    mask[:10] = 255
    session = new_session(probabilities=True)
    for image in drawn.images[:2]:
        soft = session.step(image, mask).probabilities
        assert soft is not None
        np.testing.assert_allclose(sum(soft.values()), 1, atol=1e-6)
        mask = None


@pytest.mark.parametrize("state", [{}, {"memory": None}, None, []])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match="not what Session"):
        new_session().load_state_dict(state)


def test_the_state_of_another_model_or_configuration_is_refused(drawn):
    session = new_session()
    session.step(drawn.images[0], drawn.truth[0])
    state = session.state_dict()
    other = Propagator("color", device="cpu", config=Config.named("dino", short_side_px=HEIGHT))
    with pytest.raises(ValueError, match="saved with another configuration than"):
        other.session().load_state_dict(state)
    with pytest.raises(ValueError, match="saved with another model than"):
        new_session().load_state_dict(
            state | {"made_by": state["made_by"] | {"model": ["tiny", None]}}
        )
    with pytest.raises(ValueError, match="saved with another format than"):
        new_session().load_state_dict(state | {"made_by": state["made_by"] | {"format": 0}})
    new_session().load_state_dict(state)


def test_a_result_can_be_asked_for_as_a_tensor():
    session = Propagator("color", config=SMALL).session()
    result = session.step(draw((16, 16, RED)), region((16, 16, 1)))
    tensor = result.tensor()
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.uint8, (HEIGHT, WIDTH))
    assert np.array_equal(tensor.numpy(), result.mask)


EMPTY_FRAME, EMPTY_MASK = draw(), region()
SHOWN, SHOWN_MASK = draw((16, 16, RED), (48, 80, BLUE)), region((16, 16, 1), (48, 80, 2))


@pytest.mark.parametrize("matcher", MATCHERS)
def test_a_mask_without_objects_says_that_none_is_visible(matcher):
    session = Propagator("color", config=Config.named(matcher, short_side_px=HEIGHT)).session()
    for _ in range(2):
        result = session.step(EMPTY_FRAME, EMPTY_MASK)
        assert not result.mask.any()
        assert result.scores == {}
    session.step(EMPTY_FRAME)
    session.step(SHOWN, SHOWN_MASK)
    assert set(session.step(SHOWN).states.values()) <= {"tracked", "unsure"}
    result = session.step(EMPTY_FRAME, EMPTY_MASK)
    assert not result.mask.any()
    assert result.states == {1: "absent", 2: "absent"}
    assert result.scores == {1: 0.0, 2: 0.0}


def test_where_none_is_visible_what_was_followed_wrongly_is_forgotten():
    """A twin in the place of the object is followed, until a person says that it is not there."""
    twin = draw((16, 16, (190, 45, 40)))
    states = {}
    for told in (None, EMPTY_MASK):
        session = Propagator("color", config=SMALL).session()
        session.step(draw((16, 16, RED)), region((16, 16, 1)))
        session.step(twin)
        session.step(twin, told)
        states[told is not None] = [session.step(twin).states[1] for _ in range(3)]
        back = session.step(draw((56, 88, RED)))
        found = region_similarity(back.mask == 1, region((56, 88, 1)) == 1)
        assert found > 0.7 or told is None
    assert "absent" not in states[False]
    assert states[True] == ["absent"] * 3


def test_masks_without_any_object_are_no_references(drawn):
    propagator = Propagator("color", config=SMALL)
    empty = np.zeros_like(drawn.truth[0])
    with pytest.raises(MaskError, match="no object in this mask"):
        propagator.propagate(drawn.mp4, {0: empty})
    with pytest.raises(MaskError, match="no object in any reference"):
        propagator.propagate(drawn.mp4, {0: empty, 4: empty})


@pytest.mark.parametrize("both_ways", [False, True])
def test_objects_enter_after_frames_that_show_none_and_leave_again(tmp_path, both_ways):
    images = [EMPTY_FRAME] * 3 + [SHOWN] * 3 + [EMPTY_FRAME] * 3
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    given = {0: EMPTY_MASK, 2: EMPTY_MASK, 5: SHOWN_MASK, 6: EMPTY_MASK}
    propagator = Propagator("color", config=SMALL)
    results = list(propagator.propagate(tmp_path, given, backwards="all" if both_ways else "none"))
    there = [result.mask.any() for result in results]
    assert there == [False] * 3 + [both_ways] * 2 + [True] + [False] * 3
    for result in results[3:5] if both_ways else []:
        for object_id in (1, 2):
            truth = np.equal(SHOWN_MASK, object_id)
            assert region_similarity(np.equal(result.mask, object_id), truth) > 0.9
