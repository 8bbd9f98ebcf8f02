"""The daemon: follows its sources for months, writes what has changed, and never stops the packets.

The idea
========

One thread, one event loop, one agenda: the loop waits until something is due (``due``) or has happened, and does it
(``loop``). Sources tell which objects have changed (``sources``, ``following``); the state works out which services
that touches (``reconcile.state``); when it is time (``pace``), those are compiled and written in one transaction
(``writing``, ``reconcile.reconciler``). The kernel tells when somebody else has changed our tables
(``kernel.netlink.events``), and when the node's addresses and routes have changed (``network``). While a transaction
is under way nothing else happens: there is no state in between to be careful about.

What would hold that thread up runs beside it: manifests are read in a worker, stale flows are looked for in
another (``flow_cleaner``), a thread answers probes and gives metrics, and libnftables runs in a child process.

Nothing is lost by a kill. What is desired stands in the store, what is done stands in the kernel, each changed in one
transaction; the next start reads both and writes the difference.
"""
