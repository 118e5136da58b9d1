"""Where the memory is searched: near where objects went, and nowhere without the last frame."""

from dataclasses import replace

import pytest
import torch

from propagate.config import MATCHERS
from propagate.matchers import FlowSettings, SearchSettings
from propagate.matching.cells import normalize
from propagate.matching.search import reached_from, search_memory, shift_object
from propagate.matching.top_k import TILE
from tests.matching.drawn_cells import remembered

HEIGHT, WIDTH, RADIUS = 18, 26, 5
NEAR_CELLS = 2
FLOW = FlowSettings(near_cells=NEAR_CELLS)
MATCHER = replace(
    MATCHERS["default"], search=SearchSettings(radius=RADIUS, moved_reference=False), flow=FLOW
)


def random_cells(seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(8, HEIGHT, WIDTH, generator=rng))


def labels_of(*boxes: tuple[slice, slice], share: float = 1.0) -> torch.Tensor:
    """One object that holds a share of the cells of some boxes: (h, w, 2)."""
    held = torch.zeros(HEIGHT, WIDTH)
    for box in boxes:
        held[box] = share
    return torch.stack([1 - held, held], dim=-1)


@pytest.mark.parametrize("share", [1.0, 1 / 64])
def test_objects_are_searched_for_near_where_their_cells_were_and_went(share: float) -> None:
    now, last = random_cells(0), random_cells(1)
    box = slice(7, 9), slice(15, 17)
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)

    def mark(y: int, x: int) -> None:
        near = NEAR_CELLS
        expected[max(0, y - near) : y + near + 1, max(0, x - near) : x + near + 1] = True

    for y in range(7, 9):
        for x in range(15, 17):
            window = [
                (v, u)
                for v in range(max(0, y - RADIUS), min(HEIGHT, y + RADIUS + 1))
                for u in range(max(0, x - RADIUS), min(WIDTH, x + RADIUS + 1))
            ]
            mark(y, x)
            mark(*max(window, key=lambda place: float(last[y, x] @ now[place])))
    found = reached_from(last, labels_of(box, share=share), now, MATCHER, FLOW)
    assert found.tolist() == expected.tolist()
    # Less than all that the window reaches, and more than the object.
    assert 25 < expected.sum() < (2 * RADIUS + 2) ** 2


def test_without_an_object_nothing_is_reached() -> None:
    nothing = labels_of()
    assert not reached_from(random_cells(1), nothing, random_cells(0), MATCHER, FLOW).any()


def test_references_are_searched_for_an_object_of_one_pixel() -> None:
    labels = labels_of((slice(7, 8), slice(15, 16)), share=1 / 64)
    cells = random_cells(0)
    known = remembered([cells, cells], torch.stack([labels, labels]))
    values, places = search_memory(cells, known, MATCHER).by_similarity
    own = values[7, 15] > -torch.inf
    assert {int(place) // (HEIGHT * WIDTH) for place in places[7, 15][own]} == {0, 1}


def test_no_frame_is_searched_where_the_last_one_is_not() -> None:
    """A reference would decide alone, although the last frame knows better."""
    here, there = (slice(0, 4), slice(0, 4)), (slice(12, 18), slice(0, WIDTH))
    reference, last, now = random_cells(2), random_cells(1), random_cells(0)
    last[here] = now[here] = reference[here]
    labels = torch.stack([labels_of(here, there), labels_of(here)])
    known = remembered([reference, last], labels)
    values, places = search_memory(now, known, MATCHER).by_similarity
    matched = values > -torch.inf  # (h, w, k)
    of_last = (places >= HEIGHT * WIDTH) & matched
    of_reference = (places < HEIGHT * WIDTH) & matched
    assert of_last.any()
    assert of_reference.any()
    assert not (of_reference.any(-1) & ~of_last.any(-1)).any()
    # Tiles where the object is are searched; those where only the reference has it are not.
    assert matched[:TILE, :TILE].any(-1).all()
    assert not matched[2 * TILE :].any()


@pytest.mark.parametrize("by", [(0, 0), (2, -1), (-3, 4), (9, 0), (0, -9)])
def test_a_shifted_object_lies_where_a_loop_puts_it(by):
    features, labels = torch.randn(5, 6, 3), torch.zeros(5, 6, 3)
    labels[2:4, 1:3, 2] = 0.75
    labels[0, :, 1] = 1
    shifted_cells, shifted_labels = shift_object(features, labels, 2, by)
    expected_features, expected_labels = torch.zeros(5, 6, 3), torch.zeros(5, 6, 3)
    for y in range(2, 4):
        for x in range(1, 3):
            v, u = y + by[0], x + by[1]
            if 0 <= v < 5 and 0 <= u < 6:
                expected_features[v, u] = features[y, x]
                expected_labels[v, u, 2] = 0.75
    assert torch.equal(shifted_cells, expected_features)
    assert torch.equal(shifted_labels, expected_labels)
