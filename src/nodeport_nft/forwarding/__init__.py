"""Chains of others that stop what we translate, told from the listings of their rules; pure.

A connection to a Service is translated in our chains and then forwarded, and on that way every chain of the host in
the forward hook is asked, and those of other hooks behind the translation; for an endpoint that is this host itself,
those of the input hook. One accepts for its own base chain alone: another may drop what it has let through. Whoever
drops hangs Services in silence, and is named together with the endpoints concerned and the rule that helps.

What is asked is what becomes of the first packet of a connection from outside, translated to an endpoint that is
served (``ct status dnat``, ``ct state new``, ``tcp flags syn``): by which device it comes, by which it leaves, its
protocol, address and port now and before. Of its source it is known where it is not: in no network that this host has
on a device which is no uplink, nor in the pods'. Networks that clients may be in stay unknown.

Every condition of a rule holds for it, does not, or is not known; of the latter,

* one that tells clients, or some of their connections, from others (the source, a mark, a limit of a rate or an
  amount, a set that packets fill) accepts some: behind it, a drop still concerns the others, and is told. One that
  drops some, as a blocklist or a limit does, is what its owner wants, and is not;
* any other that drops may concern all: what is not understood (an ``xt match``, a chain or set that cannot be
  listed), what chance, the time or a program behind a queue decides, what is written in headers (``ip ttl``,
  options), how many connections all clients have together (``ct count``). That is told as such, and that it is not
  known.

A limit that returns is one that drops what is beyond it, written the other way round, as in chains against floods.

nft 1.0.6 shows iptables' ``! --ctstate DNAT`` as its opposite: before a drop in a table of iptables' families, that
condition is taken for one that differs.

Source: nft(8); net/netfilter/nf_tables_core.c (nft_do_chain).
"""

from nodeport_nft.forwarding.chains import BaseChain, Hooked, base_chains
from nodeport_nft.forwarding.legacy import read_legacy
from nodeport_nft.forwarding.obstacles import Judge, Listing, Traffic, Unlisted, obstacles
from nodeport_nft.forwarding.packet import Endpoint, Packet

__all__ = [
    "BaseChain",
    "Endpoint",
    "Hooked",
    "Judge",
    "Listing",
    "Packet",
    "Traffic",
    "Unlisted",
    "base_chains",
    "obstacles",
    "read_legacy",
]
