"""What can go wrong, drawn:

    StudioError
    ├── BadRequest         the input cannot be rendered as asked
    ├── DoesNotFit         no plan fits this machine, or the disk is full
    ├── ModelUnavailable   weights are missing, foreign or damaged
    ├── MediaError         a file cannot be read or written
    └── Cancelled          the user stopped the work

Every message is one or two sentences and ends with what the user can do.
"""

from __future__ import annotations


class StudioError(Exception):
    """The root of every error that is meant for the user's eyes."""


class BadRequest(StudioError):
    """The request cannot be rendered as asked."""


class DoesNotFit(StudioError):
    """No plan fits this machine's memory, or the disk is full."""


class ModelUnavailable(StudioError):
    """The weights are missing, foreign or damaged."""


class MediaError(StudioError):
    """A media file cannot be read or written."""


class Cancelled(StudioError):
    """The user stopped the work."""
