"""Services as a graph: what a client connects to, the endpoints behind it, and the nodes that these run on.

``graph_of`` makes it of the desired state, as the cluster has it and not one node of it. What it draws is bounded,
and it says what it leaves out. ``mermaid``, ``dot`` and ``tree`` write it down; no text of an object can be more than
a label there.
"""

from nodeport_nft.graph.build import MAX_EDGES, MOST_SHOWN, graph_of
from nodeport_nft.graph.dot import dot
from nodeport_nft.graph.mermaid import mermaid
from nodeport_nft.graph.shape import Edge, Graph, Kind, Vertex
from nodeport_nft.graph.tree import tree

__all__ = ["MAX_EDGES", "MOST_SHOWN", "Edge", "Graph", "Kind", "Vertex", "dot", "graph_of", "mermaid", "tree"]
