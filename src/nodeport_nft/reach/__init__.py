"""The two ends of a connection as people name them (``svc/web``, ``web.shop:http``, ``node/worker-2``).

``ends`` reads the words, ``directory`` finds the objects and their addresses, ``nobody`` says why an address that
somebody asked for is nobody's. All of it is pure: objects in, values or sentences out.
"""

from nodeport_nft.reach.directory import Directory, Located, NotThere
from nodeport_nft.reach.ends import OUTSIDE, End, EndError, parse_end
from nodeport_nft.reach.nobody import at_cluster_ip, at_node, elsewhere

__all__ = [
    "OUTSIDE",
    "Directory",
    "End",
    "EndError",
    "Located",
    "NotThere",
    "at_cluster_ip",
    "at_node",
    "elsewhere",
    "parse_end",
]
