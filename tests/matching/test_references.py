"""Taking in given masks: their labels, and which remembered cells they contradict."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from propagate.config import MATCHERS
from propagate.matchers import SearchSettings, VoteSettings
from propagate.matching.cells import FrameCells
from propagate.matching.references import contradicted_cells, reduce_mask
from tests.matching.drawn_cells import remembered

HEIGHT, WIDTH, LABELS, RADIUS, TOP_K, TEMPERATURE = 6, 9, 4, 2, 3, 0.1
MATCHER = replace(
    MATCHERS["default"],
    search=SearchSettings(radius=RADIUS),
    vote=VoteSettings(top_k=TOP_K, temperature=TEMPERATURE),
)


def random_cells(seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(HEIGHT, WIDTH, 6, generator=rng), dim=-1)


def random_labels(seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(LABELS, (HEIGHT, WIDTH), generator=rng)
    return F.one_hot(ids, LABELS).float()


def frame_of(cells: torch.Tensor, colors: torch.Tensor | None = None) -> FrameCells:
    return FrameCells(cells, torch.zeros(*cells.shape[:2], 0), colors)


@pytest.mark.parametrize(("given", "new"), [([1, 3], [3]), ([2], []), ([1, 2, 3], [1])])
def test_remembered_cells_that_match_a_given_object_and_say_otherwise_are_contradicted(given, new):
    """Two references, searched as a whole, and two other frames, searched in the window."""
    frame, labels = random_cells(0), random_labels(1)
    cells = [random_cells(seed) for seed in range(2, 6)]
    before = torch.stack([random_labels(seed) for seed in range(6, 10)])
    known = remembered(cells, before, reference_count=2)
    found = contradicted_cells(frame_of(frame), labels, known, given, new, MATCHER)
    assert len(found) == 4
    for position in range(4):
        radius, counted = (WIDTH, new) if position < 2 else (RADIUS, given)
        for y in range(HEIGHT):
            for x in range(WIDTH):
                scored = sorted(
                    (
                        (float(cells[position][y, x] @ frame[v, u]), labels[v, u])
                        for v in range(max(0, y - radius), min(HEIGHT, y + radius + 1))
                        for u in range(max(0, x - radius), min(WIDTH, x + radius + 1))
                    ),
                    key=lambda match: match[0],
                    reverse=True,
                )[:TOP_K]
                votes = torch.zeros(LABELS)
                for cosine, label in scored:
                    votes += math.exp(cosine / TEMPERATURE) * label
                now = int(votes.argmax())
                expected = now in counted and int(before[position, y, x].argmax()) != now
                assert bool(found[position][y, x]) == expected
    assert any(cells.any() for cells in found[2:])
    assert any(cells.any() for cells in found[:2]) == bool(new)


def test_a_mask_is_reduced_to_cells_and_to_subcells_that_average_to_them():
    ids = torch.randint(3, (48, 72), generator=torch.Generator().manual_seed(0)).byte()
    colors = torch.rand(2 * HEIGHT, 2 * WIDTH, 3)
    labels, subcells = reduce_mask(ids, [1, 2], frame_of(random_cells(0), colors), "share")
    assert labels.shape == (HEIGHT, WIDTH, 3)
    assert subcells is not None
    assert subcells.colors is colors
    averaged = F.avg_pool2d(subcells.labels.permute(2, 0, 1), 2).permute(1, 2, 0)
    torch.testing.assert_close(averaged, labels)


def test_a_frame_without_colours_has_no_subcells():
    ids = torch.zeros(48, 72, dtype=torch.uint8)
    labels, subcells = reduce_mask(ids, [1], frame_of(random_cells(0)), "nearest")
    assert labels[..., 0].min() == 1
    assert subcells is None
