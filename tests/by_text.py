"""Commands in nft's language, run as one batch: how others write, and what our own writing is held against."""

from __future__ import annotations

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.libnftables.answers import View
from nodeport_nft.kernel.netlink.batch import join
from nodeport_nft.kernel.nft import Nft

NOTHING = View(frozenset())
"""Shows no table: enough for what makes all that it needs."""


def run_text(nft: Nft, text: str, *, view: View | None = None, dry: bool = False) -> str:
    """Run commands over the tables that ``view`` shows, as a rule all; their output.

    ``dry``: let the kernel look at the batch and carry out none of it. Raises KernelError.
    """
    done = nft._library.run(text, view or View())
    if done.code != 0:
        raise KernelError(done.error)
    if done.messages:
        nft._writer.commit(join(done.messages, dry=dry))
    return done.output
