"""Tells load balancers whether this node has endpoints of a Service, on the Service's healthCheckNodePort (H1).

With ``externalTrafficPolicy: Local`` a node without endpoints drops what it gets, so a load balancer must know which
nodes to leave out. ``checks`` says what the answer is, ``server`` gives it over HTTP. The server and its library are
for those that import ``health.server`` by name; this package itself costs nothing.
"""

from nodeport_nft.health.checks import HealthCheck, health_checks

__all__ = ["HealthCheck", "health_checks"]
