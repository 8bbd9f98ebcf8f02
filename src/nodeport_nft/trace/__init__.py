"""Packet × Table → every way it can go, and how likely each is; no kernel needed.

``trace`` takes the first packet of a connection through the values of a ``ruleset.Table`` as the kernel would take
it through the rules written from them. It reads the very values that ``render`` writes, so it explains what is
programmed and not what somebody believes about it. What it does not know is an error, never a guess.
"""

from nodeport_nft.trace.values import Fate, Hit, Outcome, Packet, Place, Step, Trace, TraceError, UnknownInterface
from nodeport_nft.trace.walk import trace

__all__ = ["Fate", "Hit", "Outcome", "Packet", "Place", "Step", "Trace", "TraceError", "UnknownInterface", "trace"]
