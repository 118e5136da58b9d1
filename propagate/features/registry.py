"""Load backbones by name."""

import os
from collections.abc import Sequence
from functools import partial

import torch

from propagate.config import TEMPLATE, Config
from propagate.errors import DeviceError, ModelError
from propagate.features.backbone import Backbone
from propagate.features.engine import choose_engine
from propagate.features.fork import refuse_fork
from propagate.features.int8_weights import find_int8
from propagate.features.model_folder import PIXEL_UNET, open_model_folder
from propagate.features.presets import find_preset
from propagate.features.quick_import import collector_paused
from propagate.features.recipes import RECIPES, check_recipe


def load_backbone(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    recipe: str | None = None,
    class_names: Sequence[str] = (),
    template: str = TEMPLATE,
    engine: str = "auto",
    compile: bool = False,
) -> Backbone:
    """Load a model by preset name, local folder or hub id.

    Args:
        model: A key of `PRESETS`, a folder in diffusers layout (a `UNet2DModel`, or a pipeline with
            one or with VAE, text encoder and `UNet2DConditionModel`), or such a hub id.
        device: "auto" (CUDA if available, else the CPU) or the name of a torch device.
        dtype: "auto" (half precision if it is faster on the device), "float32", "bfloat16" or
            "float16".
        recipe: A key of `RECIPES`: what is read, and how the frame is noised. None: the recipe of
            the preset or the model's own `reading.json`, otherwise "default".
        class_names: Classes for semantic maps ("dog"), each once.
        template: The prompt for the classes; {name} stands for them.
        engine: What runs the U-Net: "torch", "openvino" (on a CPU only), or "auto", which is
            PyTorch. See `choose_engine`.
        compile: Compile the U-Net's blocks with `torch.compile`. The first frames of each size take
            minutes, the others less time than without.

    Raises:
        ValueError: No recipe or engine has that name, or the class names or the template are not
            valid.
        ModelError: There is no such model, it cannot be reached, parts of it are missing, or the
            process was forked after a model was used.
        DeviceError: The device does not exist, it is too small for the model, or the engine is not
            installed or does not go with the rest.
    """
    refuse_fork(model)
    check_recipe(recipe)
    chosen = choose_engine(
        *(engine, device, dtype), compile=compile, find_int8=partial(find_int8, model, recipe)
    )
    where = chosen.device
    preset = find_preset(model)
    if preset.source is None:
        from propagate.features.colors import ColorBackbone

        if recipe is not None or class_names:
            raise ModelError(
                f"model {model}: it reads plain colours",
                "leave {recipe} and {class_names} out, or pass another {model}",
            )
        if engine == "openvino":
            raise ModelError(
                f"model {model}: it reads plain colours, which no engine computes",
                "leave {engine} out, or pass another {model}",
            )
        return ColorBackbone(where)
    # Imported here because diffusers takes seconds to import, and colours do not need it.
    with collector_paused():
        from propagate.features.pixel_unet import load_diffusion
        from propagate.features.text import Text

    read = preset.recipe if recipe is None else RECIPES[recipe]
    text = Text("" if read is None else read.prompt, tuple(class_names), template)
    runs = chosen.make()
    try:
        return load_diffusion(
            *(model, preset.source, where, runs.weights_dtype, read and read.reading, text),
            unet_weights=preset.unet_weights,
            untrained_seed=preset.untrained_seed,
            engine=runs,
            int8=chosen.int8,
            compiled=compile,
        )
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"model {model} does not fit into the memory of {where}",
            "use a smaller {model} or {device=cpu}",
        ) from error


def is_stable_diffusion(model: str) -> bool:
    """Whether a model is a Stable Diffusion pipeline: only those have what PDM's recipes read.

    Args:
        model: See `load_backbone`. A hub id that is not here is downloaded.

    Raises:
        ModelError: There is no such model, it cannot be reached, or parts of it are missing.
    """
    preset = find_preset(model)
    if preset.source is None:
        return False
    folder = open_model_folder(model, preset.source, preset.unet_weights)
    return folder.unet_class != PIXEL_UNET


def takes_text(model: str) -> bool | None:
    """Whether a model takes class names, as far as that is known without loading it.

    Args:
        model: See `load_backbone`.

    Returns:
        None: it may have to be downloaded to know.

    Raises:
        ModelError: There is no such model, or parts of it are missing.
    """
    source = find_preset(model).source
    if source is None:
        return False
    return is_stable_diffusion(model) if os.path.isdir(source) else None


def as_backbone(
    model: str | Backbone,
    *,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
    compile: bool = False,
    config: Config | None = None,
) -> Backbone:
    """Load a model by name with the recipe, class names and template of a config.

    Args:
        model: A name as for `load_backbone`, or a loaded backbone, which is returned unchanged.
        device, dtype, engine, compile: See `load_backbone`.
        config: Settings of the run; None: the defaults.

    Raises:
        ValueError, ModelError, DeviceError: See `load_backbone`.
        TypeError: The model is neither a name nor a backbone.
    """
    if not isinstance(model, str):
        if not hasattr(model, "extract"):
            hint = "; pass its .backbone" if hasattr(model, "backbone") else ""
            raise TypeError(
                f"model must be a name or a loaded backbone, not {type(model).__name__}{hint}"
            )
        return model
    config = config or Config()
    return load_backbone(
        model,
        device=device,
        dtype=dtype,
        engine=engine,
        recipe=config.recipe,
        class_names=config.named_classes,
        template=config.template,
        compile=compile,
    )
