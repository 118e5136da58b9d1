"""The status of a batch, in a file that can be read while it runs."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from propagate.errors import OutputError
from propagate.io.write.files import write_atomically
from propagate.io.write.lock import Owner, is_held, read_owner

STATUS = ".batch.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class VideoStatus:
    """The status of one video of a batch.

    Attributes:
        folder: Its folder of results.
        video: The video.
        state: "waiting", "running", "done", "skipped" (done before), or "failed".
        done: Frames done.
        total: Frames that the container claims, if it does.
        fps: Frames per second over the last seconds.
        attempts: How often it was started.
        reason: Why it failed, or why the last attempt failed.
        frames: How many it has; None until it is done.
        seconds: The time of its frames.
        hint: What to do about the failure; see `PropagateError`.
    """

    folder: str
    video: str
    state: str = "waiting"
    done: int = 0
    total: int | None = None
    fps: float | None = None
    attempts: int = 0
    reason: str | None = None
    frames: int | None = None
    seconds: float | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """The status of a batch.

    Attributes:
        videos: In the order of the manifest.
        owner: The process that runs it; None: nobody runs it now.
        age_s: Seconds since the status was written.
    """

    videos: tuple[VideoStatus, ...]
    owner: Owner | None
    age_s: float

    def count(self, state: str) -> int:
        """How many videos are in a state."""
        return sum(video.state == state for video in self.videos)


def write_status(out: Path, videos: Sequence[VideoStatus]) -> None:
    """Write the status of a batch.

    Raises:
        OutputError: It cannot be written.
    """
    content = {"format": FORMAT, "time": time.time(), "videos": [asdict(v) for v in videos]}
    write_atomically(out / STATUS, json.dumps(content).encode())


def read_status(out: str | Path) -> BatchStatus:
    """Read the status of a batch from its folder alone.

    Raises:
        OutputError: No batch of this version writes there.
    """
    out = Path(out)
    try:
        content = json.loads((out / STATUS).read_bytes())
        if content["format"] != FORMAT:
            raise OutputError(
                f"{out}: a batch of another version of propagate", "read it with that version"
            )
        videos = tuple(VideoStatus(**video) for video in content["videos"])
        age_s = max(0.0, time.time() - content["time"])
    except FileNotFoundError as error:
        what = "no batch writes here" if out.is_dir() else "no such folder"
        raise OutputError(f"{out}: {what}", "give the output folder of a batch") from error
    except NotADirectoryError as error:
        raise OutputError(
            f"{out}: a file, not the folder of a batch", "give the output folder of a batch"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{out / STATUS}: cannot be read ({error})") from error
    # Whoever may read a folder may not write there, which the check of a dead owner needs.
    try:
        owner = read_owner(out) if is_held(out) else None
    except OSError:
        owner = read_owner(out)
    return BatchStatus(videos, owner, age_s)
