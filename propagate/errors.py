"""Errors a user can meet. Each says what was found, where, and what to do next."""

import re
from collections.abc import Callable, Sequence

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


def few(names: Sequence[str], most: int = 3) -> str:
    """Join names, the first few of many.

    >>> few(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed}, ..."


def spelled(text: str, spelling: Spelling = as_keyword) -> str:
    """Spell out every setting that stands in braces in a text.

    >>> spelled("pass {overwrite=True}")
    'pass overwrite=True'
    """
    setting = re.compile(r"\{(\w+)(?:=([^}]*))?\}")
    return setting.sub(lambda found: spelling(*found.groups()), text)


# The addresses in a text. A password may hold any character but a space.
# An address that was taken for a path has one slash less.
_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*:/(?:/|(?<=\w\w:/)(?=[^\s/]*[:@])))([^\s\"']+)")
_HIDDEN = "***"


def hide_secrets(text: str) -> str:
    """Return a text whose addresses have no user and password, and no values in their queries.

    Tokens, keys and signatures have many names, so the values of all names are hidden.

    >>> hide_secrets("rtsp://me:p@ss@host:554/live?token=abc&fps=5")
    'rtsp://host:554/live?token=***&fps=***'
    """
    return _ADDRESS.sub(lambda found: found[1] + _shown(found[2]), text)


def shown_address(address: str) -> str:
    """Do the same with a text that is one address, whatever characters are in it."""
    scheme, sign, rest = address.partition("://")
    return f"{scheme}{sign}{_shown(rest)}" if sign else address


def _shown(rest: str) -> str:
    """Hide the secrets of an address without its scheme."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif "@" in rest and re.search(r":(?![0-9]*$)", re.sub(r"\[.*?\]", "", authority)):
        # What follows the colon is no port: a password with a slash or a question mark in it.
        rest = rest[rest.rindex("@") + 1 :]
    # Punctuation of the sentence around the address stays.
    end = re.search(r"[).,:;]*$", rest)
    tail = end[0] if end else ""
    path, mark, query = rest.removesuffix(tail).partition("?")
    path, fragment, _ = path.partition("#")
    path = re.sub(r"(;[^=;/]*=)[^;/]*", rf"\1{_HIDDEN}", path)
    if mark:
        parts = re.split("([&;])", query)
        path += mark + "".join(part if part in ("&", ";") else _hidden(part) for part in parts)
    elif fragment:
        path += fragment + _HIDDEN
    return path + tail


def _hidden(part: str) -> str:
    name, sign, _ = part.partition("=")
    return f"{name}={_HIDDEN}" if sign else _HIDDEN


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of Python, NumPy or PyTorch means that memory (RAM) ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


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
        """Take the message and the hint, both without a full stop at the end.

        Secrets in their addresses are hidden, also in what a library says.
        """
        message, hint = hide_secrets(message), hide_secrets(hint)
        super().__init__(message, hint)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return self.text(as_keyword)

    def text(self, spelling: Spelling) -> str:
        """Join message and hint on one line, with every setting in the hint spelled out."""
        return f"{self.message}; {spelled(self.hint, spelling)}" if self.hint else self.message


class Stopped(PropagateError):
    """Somebody asked for the end of a run. What was written stays, and the run can go on.

    Raise it in the `progress` or `on_result` of a run.
    """


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
