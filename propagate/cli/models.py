"""The command `propagate models`: parse, call the public functions, print."""

from typing import Annotated

import typer

from propagate.cli.terminal import CONTINUE, if_interrupted, say, show


def models(
    download: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Download a model, by name or hub id, and print where it is."
        ),
    ] = None,
) -> None:
    """List the named models: size, licence, and whether each is on this machine.

    Example: propagate models --download sd21
    """
    from propagate.features.presets import PRESETS, is_present

    if download is not None:
        _download(download)
        return
    from rich.table import Table

    table = Table("model", "size", "licence", "here", "what", box=None, pad_edge=False)
    for name, preset in PRESETS.items():
        size = f"{preset.size_mb:,.0f} MB" if preset.size_mb else "-"
        here = "yes" if is_present(preset) else "no"
        table.add_row(name, size, preset.license, here, preset.description)
    show(table)


def _download(model: str) -> None:
    from propagate.features.model_folder import open_model_folder
    from propagate.features.presets import find_preset, is_present

    preset = find_preset(model)
    if preset.source is None:
        say(f"{model}: has no weights to fetch")
        return
    if is_present(preset):
        say(f"{model}: already here")
    else:
        size = f", {preset.size_mb:,.0f} MB" if preset.size_mb else ""
        say(f"{model}: fetching {preset.source}{size}")
    with if_interrupted(CONTINUE):
        folder = open_model_folder(model, preset.source, preset.unet_weights)
    print(folder.path)
    if folder.unet_weights is not None:
        print(folder.unet_weights)
