"""The fields of EndpointSlices and Endpoints."""

from __future__ import annotations

from nodeport_nft.explain.common import NAME, PORT, head
from nodeport_nft.explain.field import Field, below

_PORT = (
    Field("name", "string", "The name of the Service port that this one serves.", default="none"),
    Field("protocol", "string", "The protocol; that of the Service port.", default="TCP", allowed="TCP, UDP, SCTP"),
    Field("appProtocol", "string", "A hint for other programs.", acts=False),
)

SLICE = (
    *head(
        "discovery.k8s.io/v1",
        "kubernetes.io/service-name is the Service that the slice belongs to; without it, the slice is of no use. "
        "With service.kubernetes.io/headless it is passed over.",
    ),
    Field(
        "addressType",
        "string",
        "The family of all addresses of the slice. FQDN is kept, and no Service uses it.",
        allowed="IPv4, IPv6, FQDN",
    ),
    Field("ports", "[]Object", "The ports that every endpoint of the slice serves.", allowed="20,000 at most"),
    *below("ports", _PORT),
    Field("ports.port", "integer", "Where the endpoints listen. Without it, the port is not served.", allowed=PORT),
    Field("endpoints", "[]Object", "Who answers.", allowed="1,000 at most"),
    Field(
        "endpoints.addresses",
        "[]string",
        "The endpoint's address. The first one is used.",
        allowed="1-100, of addressType; no loopback, link-local or multicast",
    ),
    Field("endpoints.conditions", "Object", "How the endpoint is."),
    Field("endpoints.conditions.ready", "boolean", "It gets new connections.", default="true"),
    Field(
        "endpoints.conditions.serving",
        "boolean",
        "It still answers. Where no endpoint is ready, those that serve while they terminate are used.",
        default="true",
    ),
    Field("endpoints.conditions.terminating", "boolean", "It is about to go.", default="false"),
    Field(
        "endpoints.nodeName",
        "string",
        "The node that it runs on; traffic policies, drain and lost nodes go by it.",
        default="none: on no node",
        allowed=NAME,
    ),
    Field("endpoints.hostname", "string", "A name for headless Services.", acts=False),
    Field("endpoints.zone", "string", "The zone that it runs in. Hints say who uses it.", acts=False),
    Field("endpoints.hints", "Object", "For whom the endpoint is; read where all that are ready have them."),
    Field("endpoints.hints.forZones", "[]Object", "The zones that are to use it.", allowed="8 at most"),
    Field("endpoints.hints.forZones.name", "string", "A zone: a node's label topology.kubernetes.io/zone."),
    Field("endpoints.hints.forNodes", "[]Object", "The nodes that are to use it.", allowed="8 at most"),
    Field("endpoints.hints.forNodes.name", "string", "A node's name.", allowed=NAME),
)

_ADDRESS = (
    Field("ip", "string", "The endpoint's address.", allowed="IPv4 or IPv6; no loopback, link-local or multicast"),
    Field("nodeName", "string", "The node that it runs on.", default="none", allowed=NAME),
    Field("hostname", "string", "A name for headless Services.", acts=False),
)

ENDPOINTS = (
    *head(
        "v1", "With service.kubernetes.io/headless, the object is passed over. It belongs to the Service of its name."
    ),
    Field("subsets", "[]Object", "Addresses and the ports that each of them serves."),
    Field("subsets.addresses", "[]Object", "Endpoints that are ready."),
    *below("subsets.addresses", _ADDRESS),
    Field("subsets.notReadyAddresses", "[]Object", "Endpoints that are not ready: not used."),
    *below("subsets.notReadyAddresses", _ADDRESS),
    Field("subsets.ports", "[]Object", "The ports that every address of the subset serves."),
    *below("subsets.ports", _PORT),
    Field("subsets.ports.port", "integer", "Where the endpoints listen.", allowed=PORT),
)
