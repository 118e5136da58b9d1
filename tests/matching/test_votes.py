"""Votes against slow literal loops over single cells."""

import math

import pytest
import torch

from propagate.config import MATCHERS
from propagate.matchers import BackgroundVoteSettings, VoteSettings
from propagate.matching.matches import Matches, SearchResult
from propagate.matching.votes import (
    best_cosines,
    count_votes,
    drop_faint,
    propagate_labels,
    vote_for_background,
    with_background_vote,
)
from tests.matching.drawn_cells import remembered


def test_labels_are_averaged_by_a_softmax_of_cosines():
    values = torch.tensor([[[0.8, 0.6, -math.inf]]])
    labels = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]]])  # (1, 3, 1, 2)
    voted = propagate_labels(Matches(values, torch.tensor([[[0, 1, 0]]])), labels, temperature=0.1)
    near, far = math.exp(8), math.exp(6)
    expected = torch.tensor([near / (near + far), far / (near + far)])
    torch.testing.assert_close(voted[0, 0], expected)


def test_void_cells_do_not_vote():
    values = torch.tensor([[[0.9, 0.2]]])
    labels = torch.tensor([[[[0.0, 0.0]], [[0.0, 1.0]]]])  # the best match is void
    voted = propagate_labels(Matches(values, torch.tensor([[[0, 1]]])), labels, temperature=1.0)
    torch.testing.assert_close(voted[0, 0], torch.tensor([0.0, 1.0]))


def test_where_nothing_votes_there_is_background():
    labels = torch.zeros(1, 2, 2, 3)
    matches = Matches(torch.ones(1, 1, 1), torch.zeros(1, 1, 1).long())
    voted = propagate_labels(matches, labels, 1.0)
    assert voted[0, 0].tolist() == [1, 0, 0]


def test_background_votes_beside_the_matches_as_one_more_of_them() -> None:
    rng = torch.Generator().manual_seed(3)
    values = torch.rand(2, 3, 4, generator=rng).sort(-1, descending=True).values
    cells = torch.randint(30, (2, 3, 4), generator=rng)
    memory = torch.rand(1, 5, 6, 3, generator=rng).softmax(-1)
    rival = torch.rand(2, 3, generator=rng)
    rival[0, 0] = -torch.inf
    values[1, 2] = -torch.inf
    labels = propagate_labels(Matches(values, cells), memory, 0.05)
    found = with_background_vote(labels, values, rival, 0.05)
    flat = memory.flatten(0, 2)
    for y in range(2):
        for x in range(3):
            cosines = [*values[y, x].tolist(), rival[y, x].item()]
            weights = [math.exp(cosine / 0.05) for cosine in cosines]
            voted = weights[4] * torch.tensor([1.0, 0.0, 0.0])
            for weight, cell in zip(weights[:4], cells[y, x].tolist(), strict=True):
                voted = voted + weight * flat[cell]
            assert torch.allclose(found[y, x], voted / sum(weights), atol=1e-5)


def test_the_usual_cosine_of_a_label_is_the_median_over_the_cells_it_wins() -> None:
    best = torch.tensor([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]])
    labels = torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])[torch.tensor([[0, 0, 0], [1, 1, 1]])]
    medians = best_cosines(best, labels)
    assert medians[0] == pytest.approx(0.2)
    assert medians[1] == pytest.approx(0.7)
    assert medians[2].isnan()


def test_votes_may_come_in_any_order():
    """A first match that does not count says nothing about the others."""
    values = torch.tensor([[-torch.inf, 0.5], [-torch.inf, -torch.inf]])
    labels = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    voted = propagate_labels(Matches(values, torch.tensor([[1, 0], [0, 0]])), labels, 0.1)
    assert voted.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def matches_of(seed: int) -> Matches:
    rng = torch.Generator().manual_seed(seed)
    return Matches(torch.rand(4, 5, 3, generator=rng), torch.randint(20, (4, 5, 3), generator=rng))


def test_matches_by_flow_and_by_similarity_vote_apart_if_there_are_two_objects():
    first, second = matches_of(0), matches_of(1)
    settings = VoteSettings(top_k=3, temperature=0.1)
    for count in (2, 3):
        labels = torch.rand(1, 4, 5, count).softmax(-1)
        found = SearchResult(first, second, labels, torch.zeros(1, 4, 5, 2))
        votes = count_votes(found, settings)
        assert torch.equal(votes.labels, propagate_labels(first, labels, 0.1))
        # With one object nothing competes with it but background, and the flow need not decide.
        similar = propagate_labels(second if count == 3 else first, labels, 0.1)
        assert torch.equal(votes.by_similarity, similar)


def test_background_votes_with_a_share_of_the_usual_cosine_of_the_winner():
    settings = BackgroundVoteSettings(share=0.5, rate=0.25)
    labels = torch.tensor([[[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]]])
    cosines = torch.tensor([[[0.9, 0.3], [0.5, 0.1], [0.7, 0.2]]])
    matches = Matches(cosines, torch.zeros(1, 3, 2, dtype=torch.int64))
    # The median of 0.9 and 0.5, as torch has it, is the lower one.
    for known, usual, afterwards in [(None, 0.5, 0.5), (0.8, 0.8, 0.8 + 0.25 * (0.5 - 0.8))]:
        found, updated = vote_for_background(labels, matches, [known, 0.6], 0.1, settings)
        assert updated[0] == pytest.approx(afterwards)
        # The second object wins no cell, so nothing is learnt of it.
        assert updated[1] == 0.6
        for x, rival in enumerate([0.5 * usual, 0.5 * usual, -math.inf]):
            together = sum(math.exp(cosine / 0.1) for cosine in cosines[0, x].tolist())
            vote = math.exp(rival / 0.1)
            expected = labels[0, x] * together / (together + vote)
            expected[0] += vote / (together + vote)
            torch.testing.assert_close(found[0, x], expected)


def test_without_settings_background_does_not_vote():
    labels = torch.rand(4, 5, 3).softmax(-1)
    found, usual = vote_for_background(labels, matches_of(0), [None, 0.5], 0.1, None)
    assert found is labels
    assert usual == (None, 0.5)


def test_a_label_below_its_share_of_the_peak_on_the_references_becomes_background():
    """The second object has a peak of 1/4 on the references, the first has 1."""
    references = torch.zeros(2, 1, 3, 3)
    references[0, 0, 0, 1], references[1, 0, 2, 2] = 1.0, 0.25
    known = remembered([torch.zeros(1, 3, 4)] * 2, references, reference_count=2)
    labels = torch.tensor([[[0.94, 0.03, 0.03], [0.84, 0.11, 0.05], [0.02, 0.97, 0.01]]])
    found = drop_faint(labels, known, VoteSettings(8, 0.07, label_floor=0.1))
    expected = torch.tensor([[[0.97, 0.0, 0.03], [0.84, 0.11, 0.05], [0.03, 0.97, 0.0]]])
    torch.testing.assert_close(found, expected)
    assert torch.equal(drop_faint(labels, known, MATCHERS["dino"].vote), labels)
