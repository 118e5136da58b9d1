"""Failures a user can meet. Each message says what was found, where, and what to do next."""


class PropagateError(Exception):
    """Anything wrong with what the program was given; the command prints it as one line."""


class VideoError(PropagateError):
    """A source of frames cannot be opened, or breaks off while it is read."""


class MaskError(PropagateError):
    """A mask cannot be used: wrong size, wrong kind of image, no object in it."""


class ModelError(PropagateError):
    """A model is unknown, unreachable, incomplete, or computes nonsense."""


class DeviceError(PropagateError):
    """A device was asked for that is not there, or ran out of memory."""


class OutputError(PropagateError):
    """Results cannot be written where they were asked for."""


class ClusterError(PropagateError):
    """A cluster cannot be reached, or runs no worker."""


class EvaluationError(PropagateError):
    """Ground truth and predictions do not fit together, so there is no score to give."""
