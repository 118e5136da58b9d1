"""Settings of the matcher: what is refused, and that all of them are saved with a result."""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from propagate.config import MATCHERS, Config
from propagate.matchers import (
    BackgroundVoteSettings,
    CellSettings,
    ComponentSettings,
    FlowSettings,
    MaskSettings,
    Matcher,
    MatcherName,
    MemorySettings,
    SearchSettings,
    SubcellSettings,
    VoteSettings,
)

DEFAULT = MATCHERS["default"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: CellSettings(standardize=True, color_weight=-0.1),
            "color_weight must be 0 or more",
        ),
        (lambda: CellSettings(color_weight=0.5), "color_weight must be .* with standardize"),
        (lambda: MemorySettings(recent_frames=-1), "recent_frames must be 0 or more, not -1"),
        (lambda: MemorySettings(1, older_every=(0, 4)), "older_every must be numbers from 1 up"),
        (lambda: MemorySettings(1, older_every=(-4,)), "older_every must be numbers from 1 up"),
        (
            lambda: MemorySettings(1, older_every=(4, 6)),
            "older_every must be .* a multiple of the one",
        ),
        (lambda: SearchSettings(radius=0), "radius must be at least 1 cell, not 0"),
        (lambda: FlowSettings(weight=0), r"flow.weight must be above 0, not 0"),
        (lambda: FlowSettings(weight=-0.1), r"flow.weight must be above 0, not -0.1"),
        (lambda: VoteSettings(top_k=0, temperature=0.1), "top_k must be at least 1, not 0"),
        (lambda: VoteSettings(top_k=5, temperature=0), "temperature must be above 0, not 0"),
        (
            lambda: VoteSettings(5, 0.1, label_floor=1),
            "label_floor must be from 0 to below 1, not 1",
        ),
        (
            lambda: VoteSettings(5, 0.1, label_floor=-0.1),
            "label_floor must be from 0 to below 1, not -0.1",
        ),
        (
            lambda: BackgroundVoteSettings(share=1),
            "background_vote.share must be above 0 and below 1",
        ),
        (
            lambda: BackgroundVoteSettings(share=0),
            "background_vote.share must be above 0 and below 1",
        ),
        (lambda: ComponentSettings(speck_cells=-1), "speck_cells must be 0 or more, not -1"),
        (lambda: SubcellSettings(sharpness=0), "sharpness must be above 0, not 0"),
        (lambda: SubcellSettings(sharpness=-1), "sharpness must be above 0, not -1"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": MemorySettings(recent_frames=0)}, "flow: .* a recent frame"),
        ({"search": SearchSettings(15, whole_reference=True)}, "flow: needs a window"),
        ({"mask": MaskSettings(through_grid=True)}, "subcell: not with through_grid"),
        ({"cells": CellSettings(standardize=True)}, "subcell: needs a color_weight"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(DEFAULT, **settings)


def test_without_the_stage_that_needs_them_the_same_settings_are_taken():
    replace(DEFAULT, memory=MemorySettings(recent_frames=0), flow=None)
    replace(DEFAULT, search=SearchSettings(15, whole_reference=True), flow=None)
    replace(DEFAULT, mask=MaskSettings(through_grid=True), subcell=None)
    replace(DEFAULT, cells=CellSettings(standardize=True), subcell=None)


def test_a_matcher_without_colours_differs_in_nothing_else():
    plain = DEFAULT.without_colors()
    assert (DEFAULT.labels_per_cell, plain.labels_per_cell) == (4, 1)
    assert plain.cells == replace(DEFAULT.cells, color_weight=0.0)
    assert plain.subcell is None
    assert replace(plain, cells=DEFAULT.cells, subcell=DEFAULT.subcell) == DEFAULT


def plain_values(record: Any) -> Any:
    """Every field of nested records, found one by one."""
    if is_dataclass(record):
        return {field.name: plain_values(getattr(record, field.name)) for field in fields(record)}
    return list(record) if isinstance(record, tuple) else record


@pytest.mark.parametrize("name", MATCHERS)
def test_json_has_every_setting_of_every_stage(name: MatcherName):
    saved = Config.named(name, class_names={}).to_json()
    assert saved == json.loads(json.dumps(saved))
    assert saved == plain_values(Config.named(name))
    assert list(saved["matcher"]) == [field.name for field in fields(Matcher)]


def test_json_of_the_default_matcher_has_these_numbers():
    """The literal settings: whoever changes one changes masks."""
    assert Config().to_json()["matcher"] == {
        "search": {
            "radius": 15,
            "window": "square",
            "whole_reference": False,
            "moved_reference": True,
            "moved_cells": 4,
            "tile_cells": 8,
        },
        "vote": {"top_k": 8, "temperature": 0.07, "label_floor": 0.02},
        "memory": {"recent_frames": 1, "older_every": [8, 64], "repeat_reference": False},
        "cells": {"standardize": True, "color_weight": 0.8, "reduction": "share"},
        "mask": {"stretch_above": 0.3, "through_grid": False, "unsure_below": 0.6},
        "flow": {
            "weight": 0.15,
            "tolerance_cells": 8.0,
            "candidates": 6,
            "aside_cells": 3,
            "near_cells": 2,
            "radius": 6,
        },
        "motion": {
            "contested_share": 0.7,
            "unexpected": 0.1,
            "unclear_share": 0.1,
            "velocity_rate": 0.2,
        },
        "background_vote": {"share": 0.77, "rate": 0.1},
        "reappearance": {
            "cut_area_share": 0.1,
            "lost_area_share": 0.03,
            "found_area_share": 0.2,
            "atypical_share": 0.25,
        },
        "components": {
            "own_share": 0.3,
            "far_own_share": 0.5,
            "far_share": 0.25,
            "far_cells": 3,
            "speck_cells": 2,
            "speck_share": 0.1,
        },
        "subcell": {
            "sharpness": 6.0,
            "boundary_change": 0.5,
            "reach": 1,
            "largest_change": 5.0,
            "smallest_share": 0.02,
            "largest_difference": 0.3,
        },
    }


def test_a_name_in_place_of_a_matcher_is_refused():
    with pytest.raises(TypeError, match="matcher must be a Matcher, not 'dino'"):
        Config(matcher="dino")  # pyright: ignore[reportArgumentType]
