"""How much one Service may be, so that no object can stop the others.

What is in the tables is a product: each port of a Service stands on each of its addresses, with each of its endpoints
behind it. A manifest of 200 KB can ask for a hundred million elements. What goes beyond these bounds is left out and
told as a problem of the Service. They are far above what people have: the largest Services that are known of have a
few thousand endpoints on a handful of ports.

All but the last are per Service and family, since each family has a table of its own. What the Kubernetes API bounds
itself (the endpoints of a slice, say) is checked where objects come in, by ``manifest``.
"""

from __future__ import annotations

MAX_FRONTENDS = 4096
"""Addresses with a port, nodePorts among them: 0.2 s in Python and as long in the kernel (Linux 6.18)."""

MAX_SLOTS = 131_072
"""What all frontends together have of endpoints, counted by weight, which are elements of the slot maps: 0.6 s in
Python and 6 s in the kernel (Linux 6.18), during which nobody else can change rules. It is enough for 20 ports with a
nodePort each and 3,000 endpoints behind them. The kernel's time grows with the square: 2 s for half as many, and 18 s
for twice as many."""

MAX_STICKY = 1024
"""Endpoints with session affinity, of all ports together. Each has a chain and a set of its own, and the kernel looks
for loops among all chains: it takes 0.7 s for these, and 24 s for 16 times as many."""

MAX_WEIGHED = 2 * MAX_SLOTS
"""Endpoints of all ports together that are looked at, ready or not: each port has its own, of the same slices or
Pods, and must join and sort them. One port alone may have any number of them."""

MAX_NAMED = 1000
"""The most addresses that the name of a headless Service stands for: as many as Kubernetes' Endpoints have. A DNS
answer has room for some 4,000 of IPv4 or 2,300 of IPv6 (64 KiB, RFC 1035)."""
