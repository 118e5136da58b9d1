"""The methods of `Propagator` that make a mask from prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from propagate.config import Config
from propagate.features.backbone import Backbone
from propagate.features.extract import Image, frame_pixels
from propagate.records import Mask

if TYPE_CHECKING:
    from propagate.prompts.prompt import PromptFrame
    from propagate.prompts.records import Prompt
    from propagate.prompts.sam import SamPrompter
    from propagate.prompts.settings import PromptSettings


class TakesPrompts:
    """What has a model and takes prompts.

    What prompts need is imported with the first of them: most runs have none.
    """

    backbone: Backbone
    config: Config
    dtype: str

    def __init__(self) -> None:
        """Start without a SAM."""
        self._sams: dict[str, SamPrompter] = {}

    def prompt_frame(
        self, frame: Image, *, settings: "PromptSettings | None" = None
    ) -> "PromptFrame":
        """Compute once what all prompts of a frame need: its features.

        Give the result to `prompt` in place of the frame, and each further prompt takes a fraction
        of the time.

        Args:
            frame: (H, W, 3) uint8 RGB, in any form that `Session.step` takes.
            settings: The constants of the walker; None: the defaults.

        Raises:
            ModelError: The features are not finite.
            DeviceError: The frame does not fit into the memory of the device.
        """
        from propagate.prompts.prompt import PROMPT_SETTINGS, read_prompt_frame

        return read_prompt_frame(frame, self.backbone, self.config, settings or PROMPT_SETTINGS)

    def prompt(
        self,
        frame: "Image | PromptFrame",
        prompts: "Sequence[Prompt]",
        method: Literal["walker", "sam"] = "walker",
        *,
        sam: str = "sam2",
        settings: "PromptSettings | None" = None,
    ) -> Mask:
        """Make a mask from boxes, points, strokes and polygons.

        Painted pixels come out exactly as painted, and outside its box there is nothing of an
        object; the rest is found.

        Args:
            frame: (H, W, 3) uint8 RGB, in any form that `Session.step` takes; or what
                `prompt_frame` made of it.
            prompts: All of this frame, of any number of objects, in the order of painting: where
                two meet, the later one counts.
            method: "walker": a random walker on this model's features and the frame's colours.
                "sam": SAM or SAM 2, see `sam`.
            sam: For "sam": see `load_refiner`. It is loaded once, and keeps the last frame.
            settings: For "walker": its constants; None: the defaults. Give those of a `PromptFrame`
                with it.

        Raises:
            MaskError: A prompt reaches out of the frame or cannot be used.
            ModelError: The features are not finite, or there is no such SAM.
            DeviceError: The frame does not fit into the memory of the device.
            ValueError: There is no such method.
        """
        from propagate.prompts.prompt import PROMPT_SETTINGS, PromptFrame, prompt_mask
        from propagate.prompts.records import check_prompts

        if method not in ("walker", "sam"):
            raise ValueError(f'method: "walker" or "sam", not {method!r}')
        known = isinstance(frame, PromptFrame)
        pixels = frame.image if known else frame_pixels(frame).cpu().numpy()
        check_prompts(prompts, *pixels.shape[:2])
        if method == "sam":
            return self._sam(sam).prompt(pixels, prompts)
        read = frame if known else self.prompt_frame(frame, settings=settings)
        return prompt_mask(read, prompts, settings or PROMPT_SETTINGS)

    def _sam(self, name: str) -> "SamPrompter":
        """Load a SAM on the device of the model, once."""
        if name not in self._sams:
            from propagate.prompts.sam import SamPrompter
            from propagate.refine.refiner import load_refiner

            device = str(self.backbone.device)
            self._sams[name] = SamPrompter(load_refiner(name, device=device, dtype=self.dtype).sam)
        return self._sams[name]
