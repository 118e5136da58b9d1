"""Errors a user can meet. Each says what was found, where, and what to do next."""

import re
from collections.abc import Callable

# Turns a setting and its value, if one is given, into what a person types.
Spelling = Callable[[str, str | None], str]


def as_keyword(name: str, value: str | None) -> str:
    """Spell a setting as Python code does: `overwrite=True`, `device="cpu"`, or `out` alone."""
    if value is None:
        return name
    is_plain = value in ("True", "False", "None") or re.fullmatch(r"[0-9.]+", value)
    return f"{name}={value}" if is_plain else f'{name}="{value}"'


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, for messages.

    >>> counted(1, "frame"), counted(2, "frame")
    ('1 frame', '2 frames')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def spelled(text: str, spelling: Spelling = as_keyword) -> str:
    """Spell out every setting that stands in braces in a text.

    >>> spelled("pass {overwrite=True}")
    'pass overwrite=True'
    """
    setting = re.compile(r"\{(\w+)(?:=([^}]*))?\}")
    return setting.sub(lambda found: spelling(*found.groups()), text)


class PropagateError(Exception):
    """Anything wrong with what the program was given.

    The library does not know how it is used. So a hint names settings by their Python names, in
    braces: "pass {overwrite=True} to start again", "choose another folder ({out})". As text,
    the error shows them as keyword arguments; the command line shows them as its options.

    Attributes:
        message: What was found, and where.
        hint: What to do next; empty if the message says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Take the message and the hint, both without a full stop at the end."""
        super().__init__(message, hint)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return self.text(as_keyword)

    def text(self, spelling: Spelling) -> str:
        """Join message and hint on one line, with every setting in the hint spelled out."""
        return f"{self.message}; {spelled(self.hint, spelling)}" if self.hint else self.message


class VideoError(PropagateError):
    """A video cannot be opened, or reading it breaks off."""


class MaskError(PropagateError):
    """A mask cannot be used: wrong size, wrong kind of image, no object in it."""


class ModelError(PropagateError):
    """A model is unknown, unreachable or incomplete, or its output is not finite."""


class DeviceError(PropagateError):
    """The requested device does not exist, or it ran out of memory."""


class OutputError(PropagateError):
    """Results cannot be written to the given folder."""


class ClusterError(PropagateError):
    """A cluster cannot be reached, or it has no workers."""


class EvaluationError(PropagateError):
    """Ground truth and predictions do not fit together, so there is no score."""
