"""One video being followed: one frame in, one mask out, in bounded memory."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from propagate.config import Config
from propagate.errors import VideoError
from propagate.features.backbone import Backbone
from propagate.features.colors import COLOR_CHANNELS
from propagate.features.extract import Image, extract_features, frame_pixels
from propagate.io.masks.given import GivenMask, as_mask
from propagate.io.masks.ids import check_size
from propagate.matching.cells import FrameCells, Statistics, frame_cells
from propagate.matching.components import clean_mask
from propagate.matching.labels import ids_from_labels
from propagate.matching.motion import Motion, winning
from propagate.matching.references import contradicted_cells, reduce_mask
from propagate.matching.step import Track, step
from propagate.memory import TemporalMemory
from propagate.records import VOID_ID, Frame, Mask, Result, State
from propagate.session_state import STATE_FORMAT, SessionState


class Session:
    """Follows objects through the frames of one video. Made by `Propagator.session`.

    A mask may come with any frame: the first reference, a correction, or a new object. On all other
    frames the objects are followed. Only features and labels are kept, of a bounded number of
    frames. A frame that raises an error changes nothing, and can be given again.
    """

    def __init__(self, backbone: Backbone, config: Config, probabilities: bool = False) -> None:
        """Start without objects.

        Args:
            backbone: Computes the features.
            config: How they are matched.
            probabilities: Whether results carry the soft label of every object at full size.
        """
        self._backbone = backbone
        self._config = config
        self._probabilities = probabilities
        self._state = SessionState(TemporalMemory(config.matcher.memory))

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects being followed, in the order they were given."""
        return self._state.object_ids

    @property
    def memory_bytes(self) -> int:
        """Bytes of remembered features and labels."""
        return self._state.memory.nbytes

    def step(
        self, frame: Image, mask: GivenMask | None = None, time_s: float | None = None
    ) -> Result:
        """Take the next frame.

        Args:
            frame: (H, W, 3) or (3, H, W) uint8 RGB, numpy or torch, a PIL image, or a `Frame`. All
                of one size.
            mask: The mask of this frame, if it is known: (H, W) ids, with 0 for background, 1..254
                for objects and 255 for void, or any other form that `as_mask` takes. Its objects
                are taken as given; other objects are followed. A mask without objects says that
                none of them is visible on this frame.
            time_s: Seconds, copied to the result; a `Frame` brings its own.

        Raises:
            MaskError: The mask cannot be used, or has another size.
            VideoError: The frame has another size than those before.
            TypeError: Frame or mask has another type.
            ValueError: Frame or mask has another shape.
        """
        if time_s is None and isinstance(frame, Frame):
            time_s = frame.time_s
        height, width = frame_pixels(frame).shape[:2]
        return self.advance((height, width), self.extract([frame])[0], mask, time_s)

    @torch.no_grad()
    def extract(self, frames: Sequence[Image]) -> torch.Tensor:
        """Compute the features of frames of one size: (B, C, h, w). Changes nothing.

        A batch that does not fit into the device's memory is halved until it does.

        Raises:
            DeviceError: Not even one frame fits.
        """
        return extract_features(self._backbone, self._config, frames)

    def advance(
        self,
        size: tuple[int, int],
        features: torch.Tensor,
        mask: GivenMask | None = None,
        time_s: float | None = None,
    ) -> Result:
        """Do what `step` does, with features that are already computed.

        Args:
            size: (H, W) of the frame.
            features: (C, h, w), as `extract` gives them.
            mask, time_s: See `step`.
        """
        given = None if mask is None else self._checked(mask, size)
        labels = self.label(size, features, given)
        return self.result(self._state.index - 1, size, labels, given, time_s)

    @torch.no_grad()
    def label(
        self, size: tuple[int, int], features: torch.Tensor, mask: GivenMask | None = None
    ) -> torch.Tensor | None:
        """Do what `advance` does, but return the soft labels instead of a mask.

        A mask that names all objects so far starts following anew, as if its frame came right after
        the first reference. So a correction changes no frame after the next such mask.

        Returns:
            (h, w, L) soft labels, background first, then `object_ids`, or (2h, 2w, L) if
            `Matcher.labels_per_cell` is four; None before any mask.
        """
        state, matcher = self._state, self._config.matcher
        if state.size not in (None, size):
            height, width = state.size
            raise VideoError(
                f"frame {state.index} is {size[1]}x{size[0]}, those before are {width}x{height}: "
                "a video that changes its size cannot be followed; scale it to one size first"
            )
        given = None if mask is None else self._checked(mask, size)
        frame, statistics = self._frame_cells(features)
        state = replace(state, size=size, statistics=statistics, index=state.index + 1)
        if given is not None and given.names_all(state.object_ids):
            state = state.restarted()
        labels = None
        if state.object_ids:
            found = step(frame, state.memory.read(), state.tracks, matcher)
            memory = state.memory.with_flows(found.flows) if matcher.flow else state.memory
            if given is None:
                memory = memory.with_recent(frame, found.labels, found.subcells)
            state = replace(state, memory=memory, tracks=found.tracks)
            labels = found.mask_labels
        if given is not None:
            state, labels = self._with_mask(state, frame, given, labels)
        self._state = state
        return labels

    @torch.no_grad()
    def start_at(
        self,
        index: int,
        size: tuple[int, int],
        features: torch.Tensor,
        reference: tuple[torch.Tensor, Mask] | None = None,
    ) -> None:
        """Let a new session start at a later frame, as if it had seen the frames before it.

        Either there is no reference before that frame, or that frame has one that names all objects
        so far. Then, of the references before it, only the first one with objects counts.

        Args:
            index: Of the frame that comes next.
            size: (H, W) of the frames.
            features: (C, h, w) of the first frame of the video.
            reference: Features and mask of the first reference with objects, if it lies before.
        """
        _, statistics = self._frame_cells(features)
        self._state = replace(self._state, size=size, statistics=statistics)
        if reference is not None:
            self.label(size, *reference)
        self._state = replace(self._state, index=index)

    def reversed(self) -> "Session":
        """Make a session that continues from the frame just seen, a reference, in reverse order.

        It remembers only that frame. Objects that its mask does not name stay where they were
        found, until a mask names them.
        """
        session = Session(self._backbone, self._config)
        tracks = [replace(track, motion=track.motion.reversed()) for track in self._state.tracks]
        state = replace(
            self._state, memory=self._state.memory.reversed(), tracks=tuple(tracks), first=None
        )
        session._state = replace(state, first=state.with_newest_only())
        return session

    @torch.no_grad()
    def remove(self, object_id: int) -> None:
        """Stop following an object: from the next frame on it is in no result.

        What is remembered of it becomes background: none of the objects that are followed. If it
        were void, only cells of similar neighbours would vote there. A mask may bring the id back.

        Raises:
            ValueError: No such object is followed.
        """
        state = self._state
        if object_id not in state.object_ids:
            followed = ", ".join(map(str, state.object_ids)) or "none"
            raise ValueError(f"object_id: one that is followed ({followed}), not {object_id}")
        self._state = state.without(object_id)

    def _frame_cells(self, features: torch.Tensor) -> tuple[FrameCells, Statistics | None]:
        """Split what `extract` joined, and make it comparable."""
        matcher = self._config.matcher
        classes = len(self._config.named_classes)
        colors = COLOR_CHANNELS if matcher.cells.color_weight else 0
        of_unet, semantic, of_colors = features.split(
            (len(features) - classes - colors, classes, colors)
        )
        return frame_cells(of_unet, semantic, of_colors, self._state.statistics, matcher)

    def _with_mask(
        self, state: SessionState, frame: FrameCells, given: Mask, found: torch.Tensor | None
    ) -> tuple[SessionState, torch.Tensor]:
        """Remember a given mask for ever.

        Args:
            state: Of the session, with this frame counted.
            frame: The frame.
            given: Its mask.
            found: The labels of the frame as found without the mask, on the grid that masks are
                made of; None if there are no objects yet.

        Returns:
            The new state, and the labels of the frame with the mask laid over.
        """
        reduction = self._config.matcher.cells.reduction
        new = [i for i in given.object_ids if i not in state.object_ids]
        object_ids = (*state.object_ids, *new)
        told = given.tells_of(object_ids)
        memory = state.memory.widened(len(object_ids) + 1)
        ids = torch.from_numpy(given.ids).to(frame.cells.device)
        if found is None:
            labels, subcells = reduce_mask(ids, object_ids, frame, reduction)
            memory = memory.with_reference(frame, labels, subcells)
        else:
            # What the mask does not name stays as found, but is void in the reference: a guess must
            # not be remembered for ever.
            guessed, _, _ = self._enlarge(F.pad(found, (0, len(new))), object_ids, given.ids.shape)
            named = torch.isin(guessed, torch.tensor([0, *told], device=ids.device))
            others = (ids == 0) & ~named
            known_ids = torch.where(others, VOID_ID, ids)
            reference, fine = reduce_mask(known_ids, object_ids, frame, reduction)
            contradicted = contradicted_cells(
                frame,
                reference,
                memory.read(),
                # Where no object is visible, recent cells that say otherwise were wrong.
                given=[object_ids.index(i) + 1 for i in given.object_ids] or [0],
                new=[object_ids.index(i) + 1 for i in new],
                matcher=self._config.matcher,
            )
            memory = memory.voided(contradicted).with_reference(frame, reference, fine)
            merged = torch.where(others, guessed, ids)
            labels, subcells = reduce_mask(merged, object_ids, frame, reduction)
            memory = memory.with_recent(frame, labels, subcells)
        tracks = self._restarted(state.tracks, object_ids, given.object_ids, labels)
        state = replace(state, memory=memory, object_ids=object_ids, tracks=tracks)
        if state.first is None and object_ids:
            state = replace(state, first=state.with_newest_only())
        return state, labels if subcells is None else subcells.labels

    def _restarted(
        self,
        tracks: Sequence[Track],
        object_ids: Sequence[int],
        given: Sequence[int],
        labels: torch.Tensor,
    ) -> tuple[Track, ...]:
        """Put the given objects at rest where they are; add the tracks of new ones."""
        names, classes = self._config.class_names, self._config.named_classes
        restarted = []
        for label, object_id in enumerate(object_ids, start=1):
            motion = Motion.at_rest(winning(labels, label)) if object_id in given else None
            if label <= len(tracks):
                track = tracks[label - 1]
                restarted.append(replace(track, motion=motion) if motion else track)
            elif motion:
                number = classes.index(names[object_id]) if object_id in names else None
                restarted.append(Track(motion, class_number=number))
        return tuple(restarted)

    def _enlarge(
        self, labels: torch.Tensor, object_ids: Sequence[int], size: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        height, width = size
        settings = self._config.matcher.mask
        return ids_from_labels(labels, object_ids, (height, width), settings, self._backbone.stride)

    @torch.no_grad()
    def result(
        self,
        index: int,
        size: tuple[int, int],
        labels: torch.Tensor | None,
        given: Mask | None,
        time_s: float | None,
    ) -> Result:
        """Turn labels into a mask of the frame's size.

        Args:
            index: Of the frame.
            size: (H, W) of the frame.
            labels: As `label` returns them.
            given: The mask that came with the frame: its objects come out exactly as given.
            time_s: See `step`.
        """
        if labels is None:
            nothing = np.zeros(size, np.uint8)
            return Result(index, time_s, nothing, {}, {}, {}, {} if self._probabilities else None)
        matcher, object_ids = self._config.matcher, self.object_ids
        if given is None:
            labels = clean_mask(labels, matcher.labels_per_cell, matcher.components)
        ids, strength, margin = self._enlarge(labels, object_ids, size)
        if given is not None:
            # A given object is exact to the pixel; the rest is as found.
            exact = torch.from_numpy(given.ids).to(ids.device)
            told = torch.tensor(given.tells_of(object_ids), device=ids.device)
            named = torch.isin(ids, told)
            ids = torch.where(named, 0, ids)
            ids = torch.where((exact != 0) & (exact != VOID_ID), exact, ids)
        # Rows without an object say nothing about any.
        rows = ids.any(1).nonzero().flatten().tolist()
        shown = slice(rows[0], rows[-1] + 1) if rows else slice(0)
        pixels = ids[shown].flatten().int()
        areas = pixels.bincount(minlength=VOID_ID + 1)

        def means(weights: torch.Tensor) -> dict[int, float]:
            sums = pixels.bincount(weights=weights[shown].flatten(), minlength=VOID_ID + 1)
            by_id = (sums / areas.clamp_min(1)).tolist()
            sure = () if given is None else given.object_ids
            return {i: 1.0 if i in sure else min(1.0, by_id[i]) for i in object_ids}

        scores, margins = means(strength), means(margin)
        states: dict[int, State] = {
            i: _state(score, matcher.mask.unsure_below) for i, score in scores.items()
        }
        soft = None
        if self._probabilities:
            large = F.interpolate(labels.permute(2, 0, 1)[None], size, mode="bilinear")[0]
            # Void cells sum to less than one: what is not known counts as background.
            large[0] += (1 - large.sum(0)).clamp_min(0)
            soft = {
                i: channel.cpu().numpy() for i, channel in zip([0, *object_ids], large, strict=True)
            }
        return Result(index, time_s, ids.cpu().numpy(), scores, states, margins, soft)

    def _checked(self, mask: GivenMask, size: tuple[int, int]) -> Mask:
        checked = as_mask(mask, f"mask of frame {self._state.index}")
        check_size(checked, *size)
        return checked

    def _made_by(self) -> dict[str, Any]:
        """Give what must be equal for a state to be loaded, as plain values."""
        reading = self._backbone.reading
        return {
            "format": STATE_FORMAT,
            "model": [self._backbone.name, None if reading is None else asdict(reading)],
            "configuration": self._config.to_json(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Give everything that `load_state_dict` needs; `torch.save` writes it."""
        return {"made_by": self._made_by(), **self._state.to_plain()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another session of the same model and configuration was saved.

        Args:
            state: What `state_dict` gave. Its tensors may be on another device.

        Raises:
            ValueError: It is no such state, or was saved by another model, configuration or format.
        """
        if not isinstance(state, Mapping) or "made_by" not in state:
            raise ValueError("state: not what Session.state_dict gives")
        ours, theirs = self._made_by(), state["made_by"]
        if different := [name for name, value in ours.items() if value != theirs.get(name)]:
            raise ValueError(
                f"state: was saved with another {' and '.join(different)} than this session has"
            )
        settings = self._config.matcher.memory
        self._state = SessionState.from_plain(state, settings, self._backbone.device)


def _state(score: float, unsure_below: float) -> State:
    if score == 0:
        return "absent"
    return "tracked" if score >= unsure_below else "unsure"
