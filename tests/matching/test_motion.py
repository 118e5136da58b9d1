"""Motion of objects: expectations against shapes drawn where they should be."""

from collections.abc import Sequence
from dataclasses import fields

import pytest
import torch

from propagate.matchers import MotionSettings
from propagate.matching.motion import (
    Motion,
    MotionPrior,
    predict_motion,
    settle_contested,
    update_motion,
    winning,
)
from propagate.matching.votes import Votes

HEIGHT, WIDTH = 12, 40
SETTINGS = MotionSettings(contested_share=0.7, unexpected=0.1, unclear_share=0.1, velocity_rate=0.2)


def square(y: int, x: int, side: int = 4) -> torch.Tensor:
    label = torch.zeros(HEIGHT, WIDTH)
    label[max(0, y) : y + side, max(0, x) : x + side] = 1
    return label


def labels_of(*objects: torch.Tensor) -> torch.Tensor:
    """(h, w, L) labels of shapes; later ones lie in front."""
    labels = torch.zeros(HEIGHT, WIDTH, len(objects) + 1)
    labels[..., 0] = 1
    for i, shape in enumerate(objects, start=1):
        labels[shape > 0] = 0
        labels[..., i] = shape
    return labels


def votes_of(labels: torch.Tensor) -> Votes:
    return Votes(labels, labels)


def begin(labels: torch.Tensor) -> tuple[Motion, ...]:
    """The objects of given labels (h, w, L), at rest."""
    return tuple(Motion.at_rest(winning(labels, i)) for i in range(1, labels.shape[-1]))


def follow(
    motions: Sequence[Motion], labels: torch.Tensor, voted: torch.Tensor | None = None
) -> tuple[Motion, ...]:
    """Continue with the labels of a frame; `voted` are its labels before motion decides."""
    prior = predict_motion(motions, votes_of(labels if voted is None else voted), SETTINGS)
    return update_motion(motions, labels, prior, SETTINGS)


def after(*frames: torch.Tensor) -> tuple[Motion, ...]:
    """Motions of the objects of labels (h, w, L) in a row, the first of them given."""
    motions = begin(frames[0])
    for labels in frames[1:]:
        motions = follow(motions, labels)
    return motions


def expected_of(motions: Sequence[Motion]) -> torch.Tensor:
    """(h, w, K) where the objects are expected."""
    nothing = votes_of(torch.zeros(HEIGHT, WIDTH, len(motions) + 1))
    prior = predict_motion(motions, nothing, SETTINGS)
    assert prior is not None
    return prior.expected


def most_expected(motions: Sequence[Motion], label: int) -> tuple[float, float]:
    """(y, x) of the middle of where an object is surely expected."""
    here = expected_of(motions)[..., label - 1]
    y, x = (here > 0.5).nonzero().float().mean(0).tolist()
    return y, x


def test_an_object_is_expected_to_keep_its_velocity():
    seen = [labels_of(square(4, 2 + 2 * t)) for t in range(8)]
    y, x = most_expected(after(*seen), 1)
    # After seven frames of two cells, all but 0.8^7 of the speed is known.
    assert y == pytest.approx(5.5, abs=0.1)
    assert x == pytest.approx(2 + 2 * 8 + 1.5, abs=0.5)


def test_an_object_at_rest_is_expected_where_it_is():
    still = labels_of(square(4, 10))
    assert most_expected(after(still, still, still), 1) == pytest.approx((5.5, 11.5))


def test_a_hidden_object_keeps_its_velocity_and_comes_out_on_the_other_side():
    """The second stands still in front. While both contest its cells, the first moves unseen."""
    front = square(4, 18)
    motions = begin(labels_of(square(4, 0), front))
    for t in range(1, 12):
        motions = follow(motions, labels_of(square(4, t), front))
    for t in range(12, 24):
        behind = square(4, t)
        shown = labels_of(behind, front)
        contested = shown.clone()
        contested[(behind > 0) | (front > 0)] = torch.tensor([0, 0.5, 0.5])
        motions = follow(motions, shown, contested)
    _, x = most_expected(motions, 1)
    assert x == pytest.approx(24 + 1.5, abs=1.5)
    _, x = most_expected(motions, 2)
    assert x == pytest.approx(19.5, abs=0.5)


def test_an_object_far_from_where_it_was_expected_starts_again_at_rest():
    there = labels_of(square(4, 22))
    motions = after(labels_of(square(4, 2)), labels_of(square(4, 3)), there)
    assert most_expected(motions, 1) == pytest.approx((5.5, 23.5))


def test_in_reversed_time_an_object_is_expected_where_it_came_from():
    motions = after(*[labels_of(square(4, 2 + 2 * t)) for t in range(8)])
    _, x = most_expected([motion.reversed() for motion in motions], 1)
    assert x == pytest.approx(2 + 2 * 6 + 1.5, abs=0.5)


def test_only_contested_cells_change_and_their_sum_stays():
    labels = torch.tensor([[0.2, 0.45, 0.35], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])[None]  # (1, 3, L)
    expectations = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])[None]
    contested = torch.tensor([[True, False, False]])
    # By similarity alone both have the same share, and this is what they claim by.
    similar = torch.tensor([[0.4, 0.3, 0.3], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])[None]
    prior = MotionPrior(expectations, contested)
    result = settle_contested(Votes(labels, similar), prior, SETTINGS)
    first, second = 0.3 * 0.1, 0.3 * 1.1
    whole = first + second
    assert torch.allclose(
        result[0, 0], torch.tensor([0.2, 0.8 * first / whole, 0.8 * second / whole])
    )
    assert torch.equal(result[0, 1:], labels[0, 1:])


def test_a_thin_object_is_expected_as_much_as_a_broad_one():
    thin, broad = torch.zeros(HEIGHT, WIDTH), square(2, 10, side=8)
    thin[2:10, 4] = 1
    for shape in (thin, broad):
        assert Motion.at_rest(shape).expected().amax() == 1


def test_cells_are_contested_if_no_object_has_most_of_what_all_objects_have():
    by_flow = torch.tensor([[[0.0, 1.0, 0.0]]]).expand(2, 1, 3)
    # By similarity, whatever the flow says: 0.69 and 0.71 of what both objects have together.
    similar = torch.tensor([[[0.5, 0.345, 0.155]], [[0.5, 0.355, 0.145]]])
    motions = [Motion.at_rest(torch.ones(2, 1))] * 2
    prior = predict_motion(motions, Votes(by_flow, similar), SETTINGS)
    assert prior is not None
    assert prior.contested.tolist() == [[True], [False]]


def test_without_settings_motion_changes_nothing():
    labels = labels_of(square(4, 10), square(4, 12))
    motions = begin(labels)
    votes = Votes(labels, labels.roll(3, 1))
    assert predict_motion(motions, votes, None) is None
    assert settle_contested(votes, None, None) is votes.labels
    kept = update_motion(motions, labels.roll(2, 1), None, None)
    for before, after_it in zip(motions, kept, strict=True):
        for field in fields(Motion):
            assert torch.equal(getattr(before, field.name), getattr(after_it, field.name))
