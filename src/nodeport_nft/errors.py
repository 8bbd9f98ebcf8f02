"""Errors that many rooms raise, tell or recover from, so that none has to know the room in which they come up."""

from __future__ import annotations


class KernelError(Exception):
    """The kernel refused or cannot be reached; ``str()`` says what and, where it is known, the remedy."""
