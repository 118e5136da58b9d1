"""Where the memory is looked in: near where objects went, and nowhere without the last frame."""

from dataclasses import replace

import pytest
import torch

from propagate.config import MATCHERS
from propagate.matching.cells import normalize
from propagate.matching.search import NEAR_CELLS, along_flow, reached
from propagate.matching.top_k import TILE
from propagate.memory import Remembered

HEIGHT, WIDTH, RADIUS = 18, 26, 5
MATCHER = replace(MATCHERS["default"], radius=RADIUS)


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
    found = reached(now, last, labels_of(box, share=share), MATCHER)
    assert found.tolist() == expected.tolist()
    # Less than all that the window reaches, and more than the object.
    assert 25 < expected.sum() < (2 * RADIUS + 2) ** 2


def test_what_no_object_holds_is_not_followed() -> None:
    nothing = labels_of()
    assert not reached(random_cells(0), random_cells(1), nothing, MATCHER).any()


def test_references_are_asked_for_an_object_of_one_pixel() -> None:
    labels = labels_of((slice(7, 8), slice(15, 16)), share=1 / 64)
    cells = random_cells(0)
    remembered = Remembered((cells, cells), torch.stack([labels, labels]))
    flows = torch.zeros(2, HEIGHT, WIDTH, 2)
    values, places = along_flow(cells, remembered, 1, flows, MATCHER).alike
    own = values[7, 15] > -torch.inf
    assert {int(place) // (HEIGHT * WIDTH) for place in places[7, 15][own]} == {0, 1}


def test_no_frame_is_asked_of_a_cell_without_the_last_one() -> None:
    """A reference alone would say what the last frame knows better."""
    here, there = (slice(0, 4), slice(0, 4)), (slice(12, 18), slice(0, WIDTH))
    reference, last, now = random_cells(2), random_cells(1), random_cells(0)
    last[here] = now[here] = reference[here]
    labels = torch.stack([labels_of(here, there), labels_of(here)])
    flows = torch.zeros(2, HEIGHT, WIDTH, 2)
    found = along_flow(now, Remembered((reference, last), labels), 1, flows, MATCHER)
    matched = found.alike[0] > -torch.inf  # (h, w, k)
    of_last = (found.alike[1] >= HEIGHT * WIDTH) & matched
    of_reference = (found.alike[1] < HEIGHT * WIDTH) & matched
    assert of_last.any()
    assert of_reference.any()
    assert not (of_reference.any(-1) & ~of_last.any(-1)).any()
    # The object is asked for in tiles where it is, and nowhere near what only the reference holds.
    assert matched[:TILE, :TILE].any(-1).all()
    assert not matched[2 * TILE :].any()
