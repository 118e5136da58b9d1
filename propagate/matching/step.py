"""The step: from what is remembered and a frame's features to the frame's labels.

`step` changes nothing in place. The session stores its result only after the whole frame has
succeeded, so a frame that failed can be given again. Shapes: see `cells.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from propagate.matchers import Matcher
from propagate.matching.cells import FrameCells, RememberedFrames, Subcells
from propagate.matching.components import drop_unsupported
from propagate.matching.motion import Motion, predict_motion, settle_contested, update_motion
from propagate.matching.reappearance import remove_and_find_again
from propagate.matching.search import search_memory
from propagate.matching.subcell import label_subcells
from propagate.matching.votes import count_votes, drop_faint, vote_for_background


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What is known of one object, besides the remembered frames.

    Attributes:
        motion: How it moves.
        usual_cosine: Running average of how well its cells match: the median of their best
            cosines. None before it was matched.
        class_number: Position of its class among the named classes; None if it has no name.
    """

    motion: Motion
    usual_cosine: float | None = None
    class_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a step found for a frame.

    Attributes:
        labels: (h, w, L) soft labels of the cells.
        subcells: The frame on the 2x subcell grid; None if masks are not made on it.
        flows: (M, h, w, 2) from this frame to the remembered ones.
        tracks: The K tracks, updated with this frame.
    """

    labels: torch.Tensor
    subcells: Subcells | None
    flows: torch.Tensor
    tracks: tuple[Track, ...]

    @property
    def mask_labels(self) -> torch.Tensor:
        """The labels that the mask is made of: (2h, 2w, L) or (h, w, L)."""
        return self.labels if self.subcells is None else self.subcells.labels


def step(
    frame: FrameCells, known: RememberedFrames, tracks: Sequence[Track], matcher: Matcher
) -> Step:
    """Label a frame.

    Args:
        frame: Its cells.
        known: What is remembered. Its last frame is the one before this frame.
        tracks: The K tracks, label 1 first.
        matcher: The settings of each stage. A stage without settings changes nothing.
    """
    motions = [track.motion for track in tracks]
    usual = [track.usual_cosine for track in tracks]
    classes = [track.class_number for track in tracks]
    vote = matcher.vote

    found = search_memory(frame.cells, known, matcher)
    votes = count_votes(found, vote)
    prior = predict_motion(motions, votes, matcher.motion)
    labels = settle_contested(votes, prior, matcher.motion)
    # By similarity alone: a match that flow prefers may be a poor one.
    labels, usual = vote_for_background(
        labels, found.by_similarity, usual, vote.temperature, matcher.background_vote
    )
    labels = drop_faint(labels, known, vote)
    labels = remove_and_find_again(frame, labels, known, classes, matcher)
    labels = drop_unsupported(frame.cells, labels, known, vote, matcher.components)
    motions = update_motion(motions, labels, prior, matcher.motion)
    subcells = label_subcells(
        frame, labels, found.matches, known, vote.temperature, matcher.subcell
    )
    tracks = tuple(map(Track, motions, usual, classes))
    return Step(labels, subcells, found.flows, tracks)
