"""Benchmarks: what a number of Services costs, as seconds, memory and growth. They print and never judge.

``python -m bench`` puts everyone who turns Services into nftables side by side: the installed program over its store
(and over an API server), a table with chains for each Service that ``nft -f`` loads (the least that any tool with
such a layout needs), and a real kube-proxy where one is given.

* ``scenarios/`` says what is measured, a file a load; ``scenario`` reads them; ``workload`` makes the Services of
  each and the changes to them, the same for everyone.
* ``contestants/`` are those measured. Each has a ``node`` of its own, three network namespaces that live as long as
  the run, and does five things: take its Services, start, stop, make one change, say what memory it has.
* ``running`` takes them in turns, round after round, so that a slow moment of the machine hits all alike; ``traffic``
  sends packets through each one's tables, and through a node without any. ``measuring`` has the clocks and scales.
* What comes out is JSON with every sample and the ``machine`` it was taken on. ``report`` makes tables, growth
  exponents and plots of it, by the arithmetic of ``figures``.

Beside it: ``stages`` (the parts of the program by themselves, and its commands), ``watchers`` and ``allocation``
(many nodes on one ``etcd``).
"""
