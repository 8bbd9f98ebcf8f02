"""A cluster in network namespaces, for the demo and for the tests that send real packets.

``namespaces`` wraps the kernel's calls; ``cluster`` builds the hosts that ``topology`` describes;
``responder`` and ``nginx`` answer in a pod; ``probe`` and ``sctp`` knock and say what came back, an
``outcome``. None of these knows of nodeport-nft; ``demo`` (``make demo``) shows it at work on such a cluster.
"""
