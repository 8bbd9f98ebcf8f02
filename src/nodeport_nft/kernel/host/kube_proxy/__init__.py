"""What kube-proxy has left on a node, in any of its modes: looked for, and taken away.

``nftables`` knows its tables, and the chains that it has made with today's iptables, which are nftables' as well.
Both go in one transaction. ``legacy`` has those of the old iptables, by that one's own programs. ``ipvs`` has virtual
servers, the link that holds their addresses, and ipsets. ``chains`` says which chains are kube-proxy's. ``running``:
whether one is at work here.
"""
