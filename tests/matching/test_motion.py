"""Motion of objects: expectations against shapes drawn where they should be."""

import pytest
import torch

from propagate.matching.motion import Motion, Motions, Outlook, settled

HEIGHT, WIDTH = 12, 40


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


def after(*frames: torch.Tensor) -> Motions:
    """Motions of the objects of labels (h, w, L) in a row, the first of them given."""
    motions, ids = Motions(), list(range(1, frames[0].shape[-1]))
    motions.begin(ids, frames[0], ids)
    for labels in frames[1:]:
        motions.follow(ids, labels, motions.outlook(ids, labels))
    return motions


def most_expected(motions: Motions, label: int, count: int = 2) -> tuple[float, float]:
    """(y, x) of the middle of where an object is surely expected."""
    ids = list(range(1, count + 1))
    here = motions.outlook(ids, torch.zeros(HEIGHT, WIDTH, count + 1)).expectations[..., label - 1]
    y, x = (here > 0.5).nonzero().float().mean(0).tolist()
    return y, x


def test_an_object_is_expected_where_it_would_be_going_on_as_it_went():
    seen = [labels_of(square(4, 2 + 2 * t)) for t in range(8)]
    y, x = most_expected(after(*seen), 1, count=1)
    # After seven frames of two cells, all but 0.8^7 of the speed is known.
    assert y == pytest.approx(5.5, abs=0.1)
    assert x == pytest.approx(2 + 2 * 8 + 1.5, abs=0.5)


def test_an_object_at_rest_is_expected_where_it_is():
    still = labels_of(square(4, 10))
    assert most_expected(after(still, still, still), 1, count=1) == pytest.approx((5.5, 11.5))


def test_a_hidden_object_goes_on_and_comes_out_on_the_other_side():
    """The second, in front, stands; while both contest its cells, the first moves on unseen."""
    motions, ids, front = Motions(), [1, 2], square(4, 18)
    motions.begin(ids, labels_of(square(4, 0), front), ids)
    for t in range(1, 12):
        labels = labels_of(square(4, t), front)
        motions.follow(ids, labels, motions.outlook(ids, labels))
    for t in range(12, 24):
        behind = square(4, t)
        shown = labels_of(behind, front)
        alike = shown.clone()
        alike[(behind > 0) | (front > 0)] = torch.tensor([0, 0.5, 0.5])
        motions.follow(ids, shown, motions.outlook(ids, alike))
    _, x = most_expected(motions, 1)
    assert x == pytest.approx(24 + 1.5, abs=1.5)
    _, x = most_expected(motions, 2)
    assert x == pytest.approx(19.5, abs=0.5)


def test_an_object_far_from_where_it_was_expected_begins_anew_at_rest():
    there = labels_of(square(4, 22))
    motions = after(labels_of(square(4, 2)), labels_of(square(4, 3)), there)
    assert most_expected(motions, 1, count=1) == pytest.approx((5.5, 23.5))


def test_time_turned_expects_an_object_where_it_came_from():
    motions = after(*[labels_of(square(4, 2 + 2 * t)) for t in range(8)])
    motions.turn()
    _, x = most_expected(motions, 1, count=1)
    assert x == pytest.approx(2 + 2 * 6 + 1.5, abs=0.5)


def test_only_contested_cells_are_settled_and_their_sum_stays():
    labels = torch.tensor([[0.2, 0.45, 0.35], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])[None]  # (1, 3, L)
    expectations = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])[None]
    contested = torch.tensor([[True, False, False]])
    # By likeness alone they have as much to say as one another: that is what they claim by.
    votes = torch.tensor([[0.4, 0.3, 0.3], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])[None]
    result = settled(labels, Outlook(expectations, contested), votes)
    first, second = 0.3 * 0.1, 0.3 * 1.1
    whole = first + second
    assert torch.allclose(
        result[0, 0], torch.tensor([0.2, 0.8 * first / whole, 0.8 * second / whole])
    )
    assert torch.equal(result[0, 1:], labels[0, 1:])


def test_a_thin_object_is_as_much_expected_as_a_broad_one():
    thin, broad = torch.zeros(HEIGHT, WIDTH), square(2, 10, side=8)
    thin[2:10, 4] = 1
    for shape in (thin, broad):
        assert Motion.begin(shape).expected().amax() == 1


def test_motions_survive_saving(tmp_path):
    motions = after(*[labels_of(square(4, 2 + t), square(0, 20)) for t in range(4)])
    torch.save(motions.state_dict(), tmp_path / "state.pt")
    other = Motions()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    empty = torch.zeros(HEIGHT, WIDTH, 3)
    ours, theirs = (m.outlook([1, 2], empty).expectations for m in (motions, other))
    assert torch.equal(ours, theirs)
