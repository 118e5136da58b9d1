"""One video being followed: a frame in, a mask out, a memory that does not grow."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from propagate.config import Config
from propagate.errors import VideoError
from propagate.features.backbone import Backbone
from propagate.features.colors import COLOR_CHANNELS
from propagate.features.extract import Image, extract_features, frame_pixels
from propagate.io.write.masks import check_size, mask_from_array
from propagate.matching.cells import channel_statistics, join_colors, normalize, within_reach
from propagate.matching.components import without_strays
from propagate.matching.labels import ids_from_labels, labels_from_ids
from propagate.matching.motion import Motions, settled
from propagate.matching.reappearance import (
    find_again,
    lost_objects,
    without,
    without_holes,
    without_specks,
)
from propagate.matching.search import along_flow, with_moved
from propagate.matching.subcell import Quarters, quarter_colors, quarter_labels
from propagate.matching.top_k import global_top_k, local_top_k, merge_top_k
from propagate.matching.votes import best_cosines, doubted, propagate_labels
from propagate.memory import Remembered, TemporalMemory
from propagate.records import VOID_ID, Frame, Mask, Result, State

# Below this mean soft label the object's pixels are as often somebody else's.
UNSURE_SCORE = 0.6
# How fast what is usual for an object follows what is.
USUAL_RATE = 0.1


class Session:
    """Follows objects through the frames of one video. Made by `Propagator.session`.

    A mask may come with any frame: the first reference, a correction, or a new object. Between them
    the objects are followed. Nothing is kept of a frame but its features, and of those a bounded
    number.
    """

    def __init__(self, backbone: Backbone, config: Config, probabilities: bool = False) -> None:
        """Start without objects.

        Args:
            backbone: Where features come from.
            config: How they are matched.
            probabilities: Whether results carry the soft label of every object at full size.
        """
        self._backbone = backbone
        self._config = config
        self._probabilities = probabilities
        self._memory = self._empty_memory()
        self._statistics: tuple[torch.Tensor, torch.Tensor] | None = None
        # Object id -> the best cosine that its cells usually have.
        self._usual_cosines: dict[int, float] = {}
        self._motions = Motions()
        # Semantic maps (h, w, N) of the memory's reference frames.
        self._reference_classes: list[torch.Tensor] = []
        self._object_ids: list[int] = []
        self._index = 0
        self._size: tuple[int, int] | None = None

    def _empty_memory(self) -> TemporalMemory:
        matcher = self._config.matcher
        return TemporalMemory(matcher.recent_frames, matcher.older_every)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects being followed, in the order they were given."""
        return tuple(self._object_ids)

    @property
    def memory_bytes(self) -> int:
        """Bytes of features and labels remembered."""
        return self._memory.nbytes + sum(maps.nbytes for maps in self._reference_classes)

    def step(
        self,
        frame: Image,
        mask: Mask | np.ndarray | torch.Tensor | None = None,
        time_s: float | None = None,
    ) -> Result:
        """Take the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB, numpy or torch, or a `Frame`. All of one size.
            mask: (H, W) ids of this frame, if somebody knows them: 0 background, 1..254 objects,
                255 void; or a bool array, one object with id 1. The objects in it are taken as
                given; others that are being followed stay where they are found.
            time_s: Seconds, passed on to the result; a `Frame` brings its own.

        Raises:
            MaskError: The mask cannot be used, or has another size.
            VideoError: The frame has another size than those before.
            ValueError: The frame is no such array.
        """
        if time_s is None and isinstance(frame, Frame):
            time_s = frame.time_s
        height, width = frame_pixels(frame).shape[:2]
        return self.advance((height, width), self.extract([frame])[0], mask, time_s)

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
        mask: Mask | np.ndarray | torch.Tensor | None = None,
        time_s: float | None = None,
    ) -> Result:
        """Do what `step` does, with features already computed.

        Args:
            size: (H, W) of the frame.
            features: (C, h, w), as `extract` gives them.
            mask, time_s: See `step`.
        """
        given = None if mask is None else self._checked(mask, size)
        labels = self.label(size, features, given)
        return self.result(self._index - 1, size, labels, given, time_s)

    def label(
        self,
        size: tuple[int, int],
        features: torch.Tensor,
        mask: Mask | np.ndarray | torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Do what `advance` does, but leave the labels on the grid they are made on.

        Returns:
            (h, w, L) soft labels, background first, then `object_ids`, or (2h, 2w, L) if
            `Matcher.labels_per_cell` is four; None before any mask.
        """
        if self._size not in (None, size):
            height, width = self._size
            raise VideoError(
                f"frame {self._index} is {size[1]}x{size[0]}, those before are {width}x{height}: "
                "a video that changes its size cannot be followed; scale it to one size first"
            )
        given = None if mask is None else self._checked(mask, size)
        self._size = size
        unet, maps, colors = self._parts(features)
        cells = self._cells(unet, colors)
        classes = maps.permute(1, 2, 0).contiguous()  # (h, w, N)
        fine_colors = self._quarter_colors(colors)
        labels = None
        if self._object_ids:
            labels, quarters = self._match(cells, classes, fine_colors)
            if given is None:
                self._memory.add_recent(cells, labels, quarters)
            labels = labels if quarters is None else quarters.labels
        if given is not None:
            labels = self._take(given, cells, classes, fine_colors, labels)
        self._index += 1
        return labels

    def turned(self) -> "Session":
        """Make a session that goes on from the frame just seen, a reference, in reverse order.

        It remembers that frame alone; objects that its mask does not name stay where they were
        found, until they are named.
        """
        matcher = self._config.matcher
        copies = matcher.recent_frames if matcher.repeat_reference else 1
        state = self.state_dict()
        memory = state["memory"]
        recent = memory["recent"][-1:] * copies
        seen = {
            "references": memory["references"][-1:],
            "recent": recent,
            "numbers": list(range(len(recent))),
            "count": len(recent),
        }
        turned = Session(self._backbone, self._config)
        turned.load_state_dict(
            {
                **state,
                "reference_classes": state["reference_classes"][-1:],
                "memory": {**memory, **seen},
            }
        )
        turned._motions.turn()
        return turned

    def remove(self, object_id: int) -> None:
        """Follow an object no longer: from the next frame on it is in no result.

        What is remembered of it becomes background, which is what is known of it: none of the
        objects that are followed. Were it void, the few cells left to vote there would be those of
        a neighbour that looks alike. A mask may bring the id back.

        Raises:
            ValueError: No such object is followed.
        """
        if object_id not in self._object_ids:
            followed = ", ".join(map(str, self._object_ids)) or "none"
            raise ValueError(f"object_id: one that is followed ({followed}), not {object_id}")
        label = self._object_ids.index(object_id) + 1
        self._object_ids.remove(object_id)
        self._usual_cosines.pop(object_id, None)
        self._motions.forget(object_id)
        if not self._object_ids:
            # Nothing to tell apart is left; an object that comes now is the first one.
            self._memory = self._empty_memory()
            self._reference_classes = []
            return

        def removed(labels: torch.Tensor) -> torch.Tensor:
            background = labels[..., :1] + labels[..., label : label + 1]
            return torch.cat([background, labels[..., 1:label], labels[..., label + 1 :]], dim=-1)

        self._memory.relabel(removed)

    def _parts(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take apart what `extract_features` joined: of the U-Net, of classes, of colours."""
        maps = len(self._config.named_classes)
        colors = COLOR_CHANNELS if self._config.matcher.color_weight else 0
        return features.split((len(features) - maps - colors, maps, colors))

    def _cells(self, unet: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
        """Turn features (C, h, w) and colours (D or 0, h, w) into normalised (h, w, C + D)."""
        matcher = self._config.matcher
        if matcher.standardize and self._statistics is None:
            self._statistics = channel_statistics(torch.cat([unet, colors]))
        if not matcher.color_weight:
            return normalize(unet, *(self._statistics or ()))
        assert self._statistics is not None  # colours are never counted without
        of_unet, of_colors = zip(
            *(statistic.split([len(unet), len(colors)]) for statistic in self._statistics),
            strict=True,
        )
        cells = normalize(unet, *of_unet)
        return join_colors(cells, normalize(colors, *of_colors), matcher.color_weight)

    def _quarter_colors(self, colors: torch.Tensor) -> torch.Tensor | None:
        """Colours (D, h, w), standardised, on the finer grid; None if masks are not made on it."""
        if self._config.matcher.labels_per_cell == 1:
            return None
        assert self._statistics is not None  # see `_cells`
        mean, scale = (statistic[-len(colors) :, None, None] for statistic in self._statistics)
        return quarter_colors((colors - mean) / scale)

    def _match(
        self, cells: torch.Tensor, classes: torch.Tensor, fine_colors: torch.Tensor | None
    ) -> tuple[torch.Tensor, Quarters | None]:
        """Soft labels (h, w, L) of a frame's cells (h, w, C), from the memory, and its quarters.

        `classes` are the semantic maps of the named classes, (h, w, N); `fine_colors` see
        `_quarter_colors`.
        """
        matcher = self._config.matcher
        known = self._memory.read()
        references = self._memory.reference_count
        searched = with_moved(known, references) if matcher.moved_reference else known
        window = (matcher.top_k, matcher.radius, matcher.window)
        alike = None
        if matcher.reference_window:
            if matcher.flow_weight:
                found = along_flow(cells, searched, references, self._memory.flows(), matcher)
                self._memory.set_flows(found.flows)
                matches, alike = found.matches, found.alike
            else:
                needed = within_reach(searched.labels, matcher.radius)
                matches = local_top_k(cells, searched.features, *window, needed)
        else:
            grid = cells.shape[0] * cells.shape[1]
            on_references = torch.stack(searched.features[:references])
            values, places = global_top_k(cells.flatten(0, 1), on_references, matcher.top_k)
            shape = (*cells.shape[:2], matcher.top_k)
            matches = values.view(shape), places.view(shape)
            if len(searched.features) > references:
                values, places = local_top_k(cells, searched.features[references:], *window)
                matches = merge_top_k(matches, (values, places + references * grid))
        labels = propagate_labels(*matches, searched.labels, matcher.temperature)
        outlook = None
        if matcher.motion:
            # What looks alike is contested, whatever flow says: it does not know who was hidden.
            votes = labels
            if alike is not None and len(self._object_ids) > 1:
                votes = propagate_labels(*alike, searched.labels, matcher.temperature)
            outlook = self._motions.outlook(self._object_ids, votes)
            labels = settled(labels, outlook, votes)
        if matcher.doubt:
            seen = matches[0] if alike is None else alike[0]
            rival = self._rival(labels, seen[..., 0])
            labels = doubted(labels, seen, rival, matcher.temperature)
        # An object smaller than a cell is faint even where it was given.
        floors = matcher.label_floor * known.labels[:references].amax((0, 1, 2))  # (L,)
        faint = labels < floors
        faint[..., 0] = False
        labels = without(labels, faint)
        if matcher.reappear:
            labels = self._find_again(cells, classes, labels, known, references)
        if matcher.drop_strays:
            labels = without_strays(
                cells,
                labels,
                known.features[:references],
                known.labels[:references],
                matcher.top_k,
                matcher.temperature,
            )
        if outlook is not None:
            self._motions.follow(self._object_ids, labels, outlook)
        if fine_colors is None:
            return labels, None
        fine = quarter_labels(
            labels, matches, fine_colors, known.quarters, matcher.temperature, matcher.sharpness
        )
        return labels, Quarters(fine_colors, fine)

    def _rival(self, labels: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        """The cosine that background votes with in each cell (h, w), -inf where background won."""
        now: list[float] = best_cosines(best, labels).tolist()
        rivals = best.new_full((labels.shape[-1],), -torch.inf)
        for label, object_id in enumerate(self._object_ids, start=1):
            if math.isfinite(now[label]):
                usual = self._usual_cosines.get(object_id, now[label])
                rivals[label] = self._config.matcher.doubt * usual
                self._usual_cosines[object_id] = usual + USUAL_RATE * (now[label] - usual)
        return rivals[labels.argmax(-1)]

    def _find_again(
        self,
        cells: torch.Tensor,
        classes: torch.Tensor,
        labels: torch.Tensor,
        known: Remembered,
        references: int,
    ) -> torch.Tensor:
        """Take out the objects that left, and look for them in the whole frame."""
        reference_labels = known.labels[:references]
        recent = known.labels[references:] if len(known.labels) > references else known.labels
        lost = lost_objects(labels, recent, reference_labels)
        if not lost.any():
            return labels
        semantic = None
        if self._config.class_names:
            on_reference = torch.stack(self._reference_classes)
            semantic = self._of_objects(classes), self._of_objects(on_reference)
        matcher = self._config.matcher
        return find_again(
            cells,
            without(labels, lost),
            lost,
            torch.stack(known.features[:references]),
            reference_labels,
            semantic,
            matcher.top_k,
            matcher.temperature,
        )

    def _of_objects(self, classes: torch.Tensor) -> torch.Tensor:
        """Semantic maps (..., N) of the classes as maps (..., L) of the labels, NaN without one."""
        names = self._config.class_names
        order = self._config.named_classes
        maps = classes.new_full((*classes.shape[:-1], len(self._object_ids) + 1), torch.nan)
        for label, object_id in enumerate(self._object_ids, start=1):
            if object_id in names:
                maps[..., label] = classes[..., order.index(names[object_id])]
        return maps

    def _take(
        self,
        given: Mask,
        cells: torch.Tensor,
        classes: torch.Tensor,
        fine_colors: torch.Tensor | None,
        labels: torch.Tensor | None,
    ) -> torch.Tensor:
        """Remember a given mask for ever; return the labels of the frame with it laid over.

        `labels`, as found without it, and what is returned are on the grid that `label` says.
        """
        matcher = self._config.matcher
        new = [i for i in given.object_ids if i not in self._object_ids]
        self._object_ids += new
        self._memory.widen(len(self._object_ids) + 1)
        ids = torch.from_numpy(given.ids).to(cells.device)

        def reduced(ids: torch.Tensor) -> tuple[torch.Tensor, Quarters | None]:
            height, width = cells.shape[:2]
            of_cells = labels_from_ids(ids, self._object_ids, (height, width), matcher.reduction)
            if fine_colors is None:
                return of_cells, None
            grid = 2 * height, 2 * width
            fine = labels_from_ids(ids, self._object_ids, grid, matcher.reduction)
            return of_cells, Quarters(fine_colors, fine)

        if labels is None:
            reference, quarters = reduced(ids)
            copies = matcher.recent_frames if matcher.repeat_reference else 0
            self._memory.add_reference(cells, reference, quarters, copies)
            self._reference_classes.append(classes)
            self._motions.begin(self._object_ids, reference, given.object_ids)
            return reference if quarters is None else quarters.labels
        # What the mask does not name stays as it was found, and is void in the reference: a guess
        # must not be remembered for ever.
        found, _, _ = self._enlarge(F.pad(labels, (0, len(new))))
        named = torch.isin(found, torch.tensor([0, *given.object_ids], device=found.device))
        others = (ids == 0) & ~named
        reference, quarters = reduced(torch.where(others, VOID_ID, ids))
        self._revise(cells, reference, given.object_ids, new)
        self._memory.add_reference(cells, reference, quarters)
        self._reference_classes.append(classes)
        merged, quarters = reduced(torch.where(others, found, ids))
        self._memory.add_recent(cells, merged, quarters)
        self._motions.begin(self._object_ids, merged, given.object_ids)
        return merged if quarters is None else quarters.labels

    def _revise(
        self,
        cells: torch.Tensor,
        reference: torch.Tensor,
        given: Sequence[int],
        new: Sequence[int],
    ) -> None:
        """Make void what is remembered against a new reference.

        An object that joins now was background in every frame before, and one that is corrected was
        somewhere else in the recent ones. Cells there that match the object's own on the new
        reference would outvote it. What a person said of a known object on an earlier reference
        stays.
        """
        matcher = self._config.matcher
        known = self._memory.read()
        stale = []
        for position, (features, labels) in enumerate(
            zip(known.features, known.labels, strict=True)
        ):
            distant = position < self._memory.reference_count
            radius = max(features.shape[:2]) if distant else matcher.radius
            window = "square" if distant else matcher.window
            matches = local_top_k(features, cells[None], matcher.top_k, radius, window)
            seen = propagate_labels(*matches, reference[None], matcher.temperature).argmax(-1)
            doubted = torch.tensor(
                [self._object_ids.index(i) + 1 for i in (new if distant else given)],
                device=seen.device,
            )
            stale.append(torch.isin(seen, doubted) & (labels.argmax(-1) != seen))
        self._memory.make_void(stale)

    def _enlarge(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        matcher = self._config.matcher
        assert self._size is not None
        return ids_from_labels(
            labels,
            self._object_ids,
            self._size,
            stretch_above=matcher.stretch_above,
            stride=self._backbone.stride if matcher.through_grid else None,
        )

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
            labels: As `label` gives them.
            given: The mask that came with the frame: its objects come out exactly so.
            time_s: See `step`.
        """
        if labels is None:
            nothing = np.zeros(size, np.uint8)
            return Result(index, time_s, nothing, {}, {}, {}, {} if self._probabilities else None)
        matcher = self._config.matcher
        specks = matcher.speck_cells * matcher.labels_per_cell
        if given is None and specks:
            # Not in what is remembered: what comes out from behind an obstacle begins as a speck.
            labels = without_holes(without_specks(labels, specks), specks)
        ids, strength, margin = self._enlarge(labels)
        if given is not None:
            # A given object is exactly as given, to the pixel; the rest is as found.
            exact = torch.from_numpy(given.ids).to(ids.device)
            named = torch.isin(ids, torch.tensor(given.object_ids, device=ids.device))
            ids = torch.where(named, 0, ids)
            ids = torch.where((exact != 0) & (exact != VOID_ID), exact, ids)
        pixels = ids.flatten().int()
        areas = pixels.bincount(minlength=VOID_ID + 1)

        def means(weights: torch.Tensor) -> dict[int, float]:
            sums = pixels.bincount(weights=weights.flatten(), minlength=VOID_ID + 1)
            by_id = (sums / areas.clamp_min(1)).tolist()
            sure = () if given is None else given.object_ids
            return {i: 1.0 if i in sure else min(1.0, by_id[i]) for i in self._object_ids}

        scores, margins = means(strength), means(margin)
        states = {i: _state(score) for i, score in scores.items()}
        soft = None
        if self._probabilities:
            large = F.interpolate(labels.permute(2, 0, 1)[None], size, mode="bilinear")[0]
            soft = {
                i: channel.cpu().numpy()
                for i, channel in zip([0, *self._object_ids], large, strict=True)
            }
        return Result(index, time_s, ids.cpu().numpy(), scores, states, margins, soft)

    def _checked(self, mask: Mask | np.ndarray | torch.Tensor, size: tuple[int, int]) -> Mask:
        if isinstance(mask, torch.Tensor):
            mask = np.asarray(mask.cpu())
        if isinstance(mask, np.ndarray):
            mask = mask_from_array(mask, source=f"mask of frame {self._index}")
        check_size(mask, *size)
        return mask

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs to go on from here; `torch.save` writes it."""
        return {
            "object_ids": list(self._object_ids),
            "index": self._index,
            "size": self._size,
            "statistics": self._statistics,
            "usual_cosines": dict(self._usual_cosines),
            "motions": self._motions.state_dict(),
            "reference_classes": list(self._reference_classes),
            "memory": self._memory.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another session of the same model and configuration was saved."""
        self._object_ids = list(state["object_ids"])
        self._index = state["index"]
        self._size = None if state["size"] is None else tuple(state["size"])
        self._statistics = state["statistics"]
        self._usual_cosines = dict(state["usual_cosines"])
        self._motions.load_state_dict(state["motions"])
        self._reference_classes = list(state["reference_classes"])
        self._memory.load_state_dict(state["memory"])


def _state(score: float) -> State:
    if score == 0:
        return "absent"
    return "tracked" if score >= UNSURE_SCORE else "unsure"
