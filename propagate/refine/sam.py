"""SAM and SAM 2: a frame and prompts in, mask logits out.

Frames are prepared here, because the image processor of SAM 2 in transformers needs torchvision.

H, W: the frame; S: side of the square that the model takes; L: side of the masks it takes and
gives; K: objects; P: points of each; M: masks offered for each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from propagate.errors import ModelError
from propagate.features.origin import Origin

# Objects in one pass of the decoder. With L = 256, its maps take about 20 MB per object in float32.
OBJECTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where a frame lies in the square that a model takes.

    Attributes:
        height: Rows of the frame.
        width: Columns of the frame.
        rows: Rows of the square that the frame is resized to, from the top.
        columns: Columns, from the left. The rest of the square is padding.
        side: Of the square.
    """

    height: int
    width: int
    rows: int
    columns: int
    side: int

    @property
    def scale(self) -> np.ndarray:
        """Pixels of the square per pixel of the frame, (2,): along x, along y."""
        return np.array([self.columns / self.width, self.rows / self.height])

    def place(self, maps: torch.Tensor, mask_side: int) -> torch.Tensor:
        """Resize maps of the frame, (K, H, W) float, to the size of mask prompts, (K, L, L).

        A cell is the mean of its pixels; padding counts as zero.
        """
        size = (self.rows, self.columns)
        resized = F.interpolate(maps[None], size, mode="bilinear", antialias=True)
        padded = F.pad(resized, (0, self.side - self.columns, 0, self.side - self.rows))
        return F.adaptive_avg_pool2d(padded, mask_side)[0]


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """The prompts of K objects.

    Attributes:
        points: (K, P, 2) float32, x and y in pixels of the square.
        labels: (K, P) int64: 1 on the object, 0 off it.
        boxes: (K, 4) float32, left, top, right and bottom pixel in the square.
        masks: (K, 1, L, L) float32 logits.
    """

    points: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor


@dataclass(frozen=True, slots=True)
class PixelScaling:
    """How pixels become the model's input: (pixel * factor - mean) / std, after a resize.

    The defaults are those of transformers' image processors for SAM and SAM 2.

    Attributes:
        mean: Per channel.
        std: Per channel.
        factor: Brings pixels to 0..1.
        resample: Filter of the resize.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    factor: float = 1 / 255
    resample: Image.Resampling = Image.Resampling.BILINEAR


class Sam:
    """A loaded SAM or SAM 2. It keeps no state between frames.

    Attributes:
        origin: The files that it was loaded from.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        scaling: PixelScaling,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Take a `SamModel` or `Sam2Model`.

        Args:
            name: For messages.
            model: In float32; it is moved to `device`.
            scaling: Of pixels.
            device: Where to compute.
            dtype: Precision of the image encoder, which is nearly all of the cost. Prompts and
                decoder stay in float32: in bfloat16 a point would be off by pixels.
        """
        self.name, self.device, self.dtype = name, device, dtype
        self.origin = Origin()
        self.model = model.to(device).eval()
        self._scaling = scaling
        self._is_sam1 = model.config.model_type == "sam"
        prompts = model.config.prompt_encoder_config
        self.side: int = prompts.image_size
        self.mask_side: int = 4 * (prompts.image_size // prompts.patch_size)

    def canvas(self, height: int, width: int) -> Canvas:
        """Place a frame: SAM keeps its aspect ratio and pads, SAM 2 stretches it."""
        if not self._is_sam1:
            return Canvas(height, width, self.side, self.side, self.side)
        scale = self.side / max(height, width)
        rows, columns = (max(1, int(length * scale + 0.5)) for length in (height, width))
        return Canvas(height, width, rows, columns, self.side)

    def pixels(self, image: np.ndarray, canvas: Canvas) -> torch.Tensor:
        """Turn a frame, (H, W, 3) uint8 RGB, into the model's input, (1, 3, S, S) float32."""
        size = canvas.columns, canvas.rows
        resized = Image.fromarray(image).resize(size, self._scaling.resample)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1) * self._scaling.factor
        mean, std = (
            torch.tensor(numbers)[:, None, None]
            for numbers in (self._scaling.mean, self._scaling.std)
        )
        # Padded last, so that the padding is zero, whatever the mean colour.
        right, below = canvas.side - canvas.columns, canvas.side - canvas.rows
        return F.pad((pixels - mean) / std, (0, right, 0, below))[None]

    @torch.inference_mode()
    def encode(self, image: np.ndarray, canvas: Canvas) -> list[torch.Tensor]:
        """Run the image encoder on a frame, (H, W, 3) uint8 RGB.

        Returns:
            Its maps for `decode`, (1, C, h, w) each: one of SAM, three of SAM 2.
        """
        pixels = self.pixels(image, canvas).to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            maps = self.model.get_image_embeddings(pixels)
        return [maps.float()] if self._is_sam1 else [each.float() for each in maps]

    @torch.inference_mode()
    def decode(self, maps: list[torch.Tensor], prompts: Prompts) -> Iterator[torch.Tensor]:
        """Run the decoder on the prompts of all objects.

        Yields:
            Per object, the logits of every mask that the model offers, (M, L, L): first the single
            mask for a clear prompt, then the three masks for an ambiguous one.

        Raises:
            ModelError: They are not finite.
        """
        for rows in torch.arange(len(prompts.points)).split(OBJECTS_AT_ONCE):
            embeddings = [each.expand(len(rows), -1, -1, -1) for each in maps]
            # One batch entry per object, because an entry has only one mask prompt.
            inputs = {
                "image_embeddings": embeddings[0] if self._is_sam1 else embeddings,
                "input_points": prompts.points[rows, None].to(self.device),
                "input_labels": prompts.labels[rows, None].to(self.device),
                "input_boxes": prompts.boxes[rows, None].to(self.device),
                "input_masks": prompts.masks[rows].to(self.device),
            }
            offered = [
                self.model(**inputs, multimask_output=several).pred_masks[:, 0]
                for several in (False, True)
            ]
            logits = torch.cat(offered, dim=1)  # (K, M, L, L)
            self._check_finite(logits)
            yield from logits

    @torch.inference_mode()
    def predict(
        self,
        maps: list[torch.Tensor],
        points: np.ndarray | None,
        labels: np.ndarray,
        box: np.ndarray | None,
        *,
        several: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the decoder on points and a box of one object, without a mask.

        Args:
            maps: As `encode` gives them.
            points: (P, 2) x and y in pixels of the square; None: there are none.
            labels: (P,) 1 on the object, 0 off it.
            box: (4,) left, top, right and bottom pixel in the square; None: there is none.
            several: Whether to offer three masks, as for an ambiguous prompt, or a single one.

        Returns:
            Mask logits (M, L, L), and how the model rates each: (M,).

        Raises:
            ModelError: They are not finite.
        """

        def sent(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).float().to(self.device)

        inputs: dict[str, Any] = {"image_embeddings": maps[0] if self._is_sam1 else maps}
        if points is not None:
            inputs["input_points"] = sent(points)[None, None]
            inputs["input_labels"] = torch.from_numpy(labels).to(self.device)[None, None]
        if box is not None:
            inputs["input_boxes"] = sent(box)[None, None]
        found = self.model(**inputs, multimask_output=several)
        logits, ratings = found.pred_masks[0, 0], found.iou_scores[0, 0]
        self._check_finite(logits)
        return logits, ratings

    def _check_finite(self, logits: torch.Tensor) -> None:
        if not torch.isfinite(logits).all():
            raise ModelError(
                f"model {self.name}: masks are not finite in {str(self.dtype)[6:]}",
                "its weights are damaged, download them again"
                if self.dtype == torch.float32
                else "pass {dtype=float32}",
            )

    @torch.inference_mode()
    def to_frame(self, logits: torch.Tensor, canvas: Canvas) -> torch.Tensor:
        """Resize mask logits, (M, L, L), to the frame, (M, H, W)."""
        maps = logits[None]
        if self._is_sam1:
            maps = F.interpolate(maps, (canvas.side, canvas.side), mode="bilinear")
            maps = maps[..., : canvas.rows, : canvas.columns]
        return F.interpolate(maps, (canvas.height, canvas.width), mode="bilinear")[0]
