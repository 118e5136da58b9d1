"""The settings of the studio, and its limits."""

from dataclasses import dataclass
from pathlib import Path

from propagate.io.decode.options import SourceOptions


@dataclass(frozen=True, slots=True)
class StudioSettings:
    """How a studio is served.

    Attributes:
        roots: Folders below which files may be opened; they exist.
        out: Folder for the folders of videos.
        model: The model that follows objects, as `Propagator` takes it.
        device, engine: Where and by what it runs, as `Propagator` takes them.
        uploads: Whether files may be uploaded.
        cache_bytes: Most disk space for decoded frames, in the system's folder for temporary files.
        body_bytes: Largest body of a request.
        upload_bytes: Largest file that may be uploaded.
        max_pixels: Largest frame or mask, in pixels.
        command: What a person types to start such a studio again.
    """

    roots: tuple[Path, ...]
    out: Path
    model: str = "tiny"
    device: str = "auto"
    engine: str = "auto"
    uploads: bool = False
    cache_bytes: int = 2 * 2**30
    body_bytes: int = 64 * 2**20
    upload_bytes: int = 4 * 2**30
    max_pixels: int = 2**26
    command: str = "propagate studio"

    @property
    def source_options(self) -> SourceOptions:
        """How every source is decoded: in a child process."""
        return SourceOptions(isolate=True, max_pixels=self.max_pixels)
