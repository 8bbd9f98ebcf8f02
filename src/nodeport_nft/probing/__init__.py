"""Readiness probes of endpoints that no kubelet watches (conformance X9). Read this first.

``targets`` says what is to be probed, by which node; ``streak`` what a row of results means; both are pure.
``asking`` asks one endpoint once; ``prober`` does so again and again, beside the daemon's loop.

*Who probes.* The endpoint's own node, if it has a live daemon. All others are dealt out among the live daemons by a
hash of namespace and address, so that each knows without asking who it is. A store of one node has one daemon. What a
daemon has probed is dealt out anew as soon as its registration ends, long before its node counts as lost: with the
registration its verdicts end, and who takes over writes them once more.

*How an endpoint begins.* What is there when a daemon starts, or comes to it from another, keeps its last verdict, and
is ready if none is known: a restart takes nothing out. So does an address that its object had before it was given a
probe: a slip in a new probe must not empty a Service. Of an endpoint that is new the first result decides: one
failure, and it is not ready until it passes. Where it takes more than one result, by a successThreshold or an
initialDelaySeconds, it is not ready at once. (A kubelet has each not ready until its first success. Here that would
be two writes, and two syncs of all nodes, for each endpoint that comes up in good health. What it costs: an endpoint
that is new and hangs may be sent connections for as long as timeoutSeconds.)

*When a verdict comes.* After failureThreshold failures in a row, successThreshold successes. Probes begin a little
less than a period apart, so that a dead backend is told of within periodSeconds × failureThreshold, or its
timeoutSeconds later where it does not even refuse. initialDelaySeconds counts from when the daemon sees the endpoint
for the first time: nobody here knows when its process was started. Startup probes are not run.
"""
