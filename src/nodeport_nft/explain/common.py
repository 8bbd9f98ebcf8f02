"""What several kinds have in common: the head of an object, and readiness probes."""

from __future__ import annotations

from nodeport_nft.explain.field import Field

NAME = "lower-case letters, digits, '-' and '.'; at most 253 characters"
PORT = "1-65535"


def head(api_version: str, labels: str, *, namespaced: bool = True, deleted: str = "") -> tuple[Field, ...]:
    """apiVersion, kind and metadata; ``labels`` tells which labels mean something, ``deleted`` what deletion does."""
    namespace = Field("metadata.namespace", "string", "Passed over: the object stands in no namespace.", acts=False)
    if namespaced:
        namespace = Field(
            "metadata.namespace",
            "string",
            "The namespace that the object stands in. Services and their endpoints find each other within one.",
            default="that of --namespace, else default",
            allowed="lower-case letters, digits and '-'; at most 63 characters",
        )
    return (
        Field("apiVersion", "string", "The version of the API that the object is written in.", allowed=api_version),
        Field("kind", "string", "What the object is."),
        Field("metadata", "Object", "What every object has: its name, labels and annotations."),
        Field("metadata.name", "string", "The object's name, unique for its kind and namespace.", allowed=NAME),
        namespace,
        Field("metadata.labels", "map[string]string", labels, allowed="keys and values as Kubernetes takes them"),
        Field(
            "metadata.annotations",
            "map[string]string",
            "Further properties. Those that begin with nodeport-nft/ mean something here: explain annotations.",
            allowed="256 KiB together",
        ),
        Field(
            "metadata.resourceVersion",
            "string",
            "The version of the object. One that is given must be the stored one: else somebody has changed it.",
            default="written by the store",
        ),
        Field(
            "metadata.creationTimestamp",
            "string",
            "When the object came into the store. Of two Services that claim one address, the older one has it.",
            default="the time of apply",
            allowed="RFC 3339, as 2026-01-31T12:00:00Z",
        ),
        Field(
            "metadata.deletionTimestamp",
            "string",
            deleted or "When the deletion of the object was asked for; written by API servers.",
            allowed="RFC 3339, as 2026-01-31T12:00:00Z",
            acts=bool(deleted),
        ),
    )


PROBE = (
    Field("httpGet", "Object", "Ask over HTTP/1.1; an answer of 200 to 399 passes. One of httpGet and tcpSocket."),
    Field("httpGet.path", "string", "The path that is asked for, with its query.", default="/"),
    Field("httpGet.port", "integer or string", "The port, by number or by its name.", allowed=PORT),
    Field("httpGet.host", "string", "Whom to ask instead of the endpoint itself.", default="the endpoint's address"),
    Field(
        "httpGet.scheme",
        "string",
        "Whether to ask over TLS. The certificate is not checked.",
        default="HTTP",
        allowed="HTTP, HTTPS",
    ),
    Field("httpGet.httpHeaders", "[]Object", "Headers of the request."),
    Field("httpGet.httpHeaders.name", "string", "The header's name.", allowed="letters, digits and '-'"),
    Field("httpGet.httpHeaders.value", "string", "The header's value."),
    Field(
        "httpGet.protocol",
        "string",
        "The version of HTTP. Others than HTTP/1.1 are told and not spoken.",
        default="HTTP/1.1",
        acts=False,
    ),
    Field("tcpSocket", "Object", "Open a connection, and no more; one that opens passes."),
    Field("tcpSocket.port", "integer or string", "The port, by number or by its name.", allowed=PORT),
    Field(
        "tcpSocket.host", "string", "Whom to connect to instead of the endpoint.", default="the endpoint's address"
    ),
    Field("exec", "Object", "Refused: the command would run on the node and not in the container.", acts=False),
    Field("grpc", "Object", "Refused: gRPC is not spoken here; use tcpSocket on its port.", acts=False),
    Field(
        "initialDelaySeconds", "integer", "Seconds to wait before the first probe.", default="0", allowed="0 or more"
    ),
    Field("periodSeconds", "integer", "Seconds from one probe to the next.", default="10", allowed="1 or more"),
    Field("timeoutSeconds", "integer", "Seconds until a probe counts as failed.", default="1", allowed="1 or more"),
    Field(
        "successThreshold",
        "integer",
        "How many probes in a row must pass until the endpoint is ready.",
        default="1",
        allowed="1 or more",
    ),
    Field(
        "failureThreshold",
        "integer",
        "How many probes in a row must fail until the endpoint is not ready.",
        default="3",
        allowed="1 or more",
    ),
    Field(
        "terminationGracePeriodSeconds",
        "integer",
        "Refused: a readiness probe ends nothing, so there is nothing to wait for.",
        acts=False,
    ),
)
