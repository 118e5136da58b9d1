"""What the methods of `propagate segment` bring with them, and which options override that.

PDM's equations and its released code belong to a size, a precision, a recipe and a prompt
(`propagate.images.segment.PUBLISHED`). Heavy imports are inside the functions, so that `--help` is
quick.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from propagate.cli.options import BackboneChoice, DtypeName
from propagate.cli.terminal import say
from propagate.config import SHORT_SIDE_PX, TEMPLATE, Config

if TYPE_CHECKING:
    import numpy as np

    from propagate.features.backbone import Backbone
    from propagate.images.segment import Method, Segmenter
    from propagate.records import Mask


@dataclass(frozen=True, slots=True)
class Chosen:
    """A method with everything that belongs to it.

    Attributes:
        method: From features to masks.
        model: With the recipe and the precision that are used.
        config: With the size at which pictures are read.
        class_name: Of the objects; None if none is given.
        template: Prompt around the class.
        in_prompt: Whether the class is in the prompt of the features. The released code has one
            prompt for everything.
        overridden: The options that replace what belongs to the method.
        own_features: Whether the model is none that the recipe can be read from.
    """

    method: "Method"
    model: BackboneChoice
    config: Config
    class_name: str | None
    template: str
    in_prompt: bool
    overridden: tuple[str, ...]
    own_features: bool

    @property
    def prompt(self) -> str:
        """The text that the model is given with every picture."""
        from propagate.features.recipes import RECIPES
        from propagate.features.text import Text

        own = RECIPES[self.model.recipe].prompt if self.model.recipe in RECIPES else ""
        names = (self.class_name,) if self.in_prompt and self.class_name is not None else ()
        return Text(own, names, self.template).compose()[0]

    def say(self, mask: "Mask | None" = None) -> None:
        """Say what belongs to the method, and what is not as published."""
        if self.method == "default":
            return
        parts = [f"short side {self.config.short_side_px} px", self.model.dtype.value]
        if self.own_features:
            parts.append(f"the features of model {self.model.model}, no Stable Diffusion")
        else:
            parts += [f"recipe {self.model.recipe}", f"prompt {self.prompt!r}"]
        text = f"method {self.method}: {', '.join(parts)}"
        if self.overridden:
            text += f"; not as published: {', '.join(self.overridden)}"
        if self.class_name is not None and not self.in_prompt:
            use = "not used" if mask is not None else "used only to find it in the reference"
            text += f"; class {self.class_name!r}: {use}"
        say(text)

    def load(self) -> "Backbone":
        """Load the model, with the class in its prompt where it belongs there."""
        return self.model.load(self.class_name if self.in_prompt else None, self.template)

    def learn(
        self, image: "np.ndarray", mask: "Mask | None", present_from: float | None = None
    ) -> "Segmenter":
        """Load the model and learn the objects of the reference, (H, W, 3) uint8."""
        from propagate.images.segment import Segmenter, find_by_class

        if mask is None and self.class_name is not None and not self.in_prompt:
            # The prompt of the class serves only here, so the model is loaded twice.
            backbone = self.model.load(self.class_name, self.template)
            mask = find_by_class(backbone, image, self.class_name, self.config)
            del backbone
        name = self.class_name if self.in_prompt else None
        return Segmenter(
            self.load(),
            image,
            mask,
            class_name=name,
            method=self.method,
            present_from=present_from,
            config=self.config,
        )


def choose(
    method: "Method",
    model: BackboneChoice,
    short_side: int | None,
    class_name: str | None = None,
    template: str | None = None,
) -> Chosen:
    """Complete the options by what belongs to the method.

    Args:
        method: From features to masks.
        model: As given; precision "auto" and recipe None stand for those of the method.
        short_side: In pixels; None for that of the method.
        class_name: Of the objects.
        template: Prompt around it; None for the usual one.

    Raises:
        ModelError: There is no such model, or it cannot be reached.
    """
    from propagate.images.segment import PUBLISHED

    published = PUBLISHED.get(method)
    own_features, in_prompt = False, True
    overridden: list[str] = []
    if published is None:
        size = short_side or SHORT_SIDE_PX
    else:
        from propagate.features.registry import is_stable_diffusion

        size = short_side or published.short_side_px
        if size != published.short_side_px:
            overridden.append(f"--short-side {size}")
        if model.dtype is DtypeName.auto:
            model = replace(model, dtype=DtypeName(published.dtype))
        elif model.dtype.value != published.dtype:
            overridden.append(f"--dtype {model.dtype.value}")
        if model.recipe is None:
            own_features = not is_stable_diffusion(model.model)
            model = replace(model, recipe=None if own_features else published.recipe)
        elif model.recipe != published.recipe:
            overridden.append(f"--recipe {model.recipe}")
        if method == "official":
            in_prompt = class_name is not None and template is not None
            if in_prompt:
                overridden.append(f"--template {template!r}")
    return Chosen(
        method=method,
        model=model,
        config=Config(short_side_px=size),
        class_name=class_name,
        template=template or TEMPLATE,
        in_prompt=in_prompt,
        overridden=tuple(overridden),
        own_features=own_features,
    )
