"""Readiness probes in manifests: whose they are, what is made of good ones, and what is said about bad ones (X9)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodeport_nft.kube.objects import Object, parse_object
from nodeport_nft.model import EndpointSlice, HttpGet, Pod, Probe, Ranges, TcpSocket
from nodeport_nft.problems import Problems
from nodeport_nft.store.trimming import trimmed

ANNOTATION = "nodeport-nft/readiness-probe"
ADDRESS = {"podIP": "10.1.0.1"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
PORTS = [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "http", "containerPort": 8080}]
EXEC = {"exec": {"command": ["true"]}}
GRPC = {"grpc": {"port": 9000}}
TCP = {"tcpSocket": {"port": 80}}
PROBE = "spec.containers[0].readinessProbe"


def pod(*probes: object, status: dict[str, Any] = ADDRESS, sidecar: object = None, **spec: Any) -> dict[str, Any]:
    """A Pod of a container for each probe."""
    containers = [{"name": f"c{n}", "ports": PORTS, "readinessProbe": probe} for n, probe in enumerate(probes)]
    if sidecar is not None:
        spec["initContainers"] = [{"name": "s", "restartPolicy": "Always", "readinessProbe": sidecar}]
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    return {**raw, "spec": {"containers": containers, **spec}, "status": status}


def piece(text: object, **more: Any) -> dict[str, Any]:
    """A slice with a probe in its annotation."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {ANNOTATION: text if isinstance(text, str) else json.dumps(text)},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "endpoints": [{"addresses": ["10.1.0.1"]}],
        **more,
    }


def incoming(raw: dict[str, Any]) -> Object:
    """As it is applied."""
    return parse_object(raw, ranges=Ranges())


def probes(raw: dict[str, Any], **options: Any) -> tuple[Probe, ...]:
    (value,) = parse_object(raw, ranges=Ranges(), **options).values
    assert isinstance(value, Pod)
    return value.probes


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(Problems) as caught:
        incoming(raw)
    return [f"{problem.field}: {problem.message}" for problem in caught.value.problems]


# --- whose probe it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="no address: nobody's endpoint"),
        pytest.param({"podIPs": []}, id="no addresses"),
        pytest.param({**ADDRESS, **READY}, id="a kubelet's word"),
        pytest.param({**ADDRESS, "conditions": [{"type": "Initialized", "status": "True"}]}, id="not ready yet"),
        pytest.param({**ADDRESS, "phase": "Succeeded"}, id="at its end"),
        pytest.param({**ADDRESS, "phase": "Failed"}, id="failed"),
    ],
)
@pytest.mark.parametrize("probe", [TCP, EXEC, GRPC, {}, {"tcpSocket": {"port": "nothing"}}, 3])
def test_the_probe_of_a_pod_that_is_watched_or_serves_nobody_is_not_ours(
    status: dict[str, Any], probe: object
) -> None:
    """It is not looked at, and whatever it is, the manifest applies as it always has."""
    assert probes(pod(probe, status=status)) == ()


@pytest.mark.parametrize("status", [ADDRESS, {"podIPs": [{"ip": "fd00::1"}]}, {**ADDRESS, "conditions": []}])
def test_the_probe_of_a_pod_that_nobody_watches_is_ours(status: dict[str, Any]) -> None:
    assert probes(pod(TCP, status=status)) == (Probe(TcpSocket(80)),)


def test_every_container_that_serves_has_its_say() -> None:
    """Restartable init containers serve; the others have ended, and theirs the API does not let in at all."""
    raw = pod(TCP, None, {"tcpSocket": {"port": 81}}, sidecar={"tcpSocket": {"port": 82}})
    raw["spec"]["initContainers"].append({"name": "i", "readinessProbe": EXEC})
    assert [probe.action.port for probe in probes(raw)] == [80, 81, 82]


def test_the_pods_of_a_server_have_kubelets() -> None:
    raw = pod(EXEC)
    assert probes(raw, lenient=True) == ()


@pytest.mark.parametrize("probe", [EXEC, GRPC, {}, 3, {"tcpSocket": {"port": "nothing"}}, {"httpGet": {"port": 0}}])
def test_what_an_earlier_version_has_stored_stays_readable_and_is_not_probed(probe: object) -> None:
    (value,) = parse_object(pod(probe)).values
    assert isinstance(value, Pod)
    assert value.probes == ()
    (stored,) = parse_object(piece(probe)).values
    assert isinstance(stored, EndpointSlice)
    assert stored.probe is None


# --- good ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"tcpSocket": {"port": 80, "host": "10.9.9.9"}}, Probe(TcpSocket(80, "10.9.9.9"))),
        ({"tcpSocket": {"port": "http"}}, Probe(TcpSocket(8080))),
        ({"httpGet": {"port": "dns"}}, Probe(HttpGet(53))),  # a kubelet does not look at the protocol either
        ({"httpGet": {"port": 80, "path": None, "scheme": None, "host": ""}}, Probe(HttpGet(80))),
        ({"httpGet": {"port": 80, "path": "healthz"}}, Probe(HttpGet(80, "/healthz"))),
        ({"httpGet": {"port": 80, "path": "/a b?c=ä d#e"}}, Probe(HttpGet(80, "/a%20b?c=%C3%A4%20d"))),
        ({"httpGet": {"port": 80, "path": "//other/a"}}, Probe(HttpGet(80, "/a"))),
        ({"httpGet": {"port": 80, "path": "/a\r\nX: y"}}, Probe(HttpGet(80, "/aX:%20y"))),
        ({"httpGet": {"port": 80, "path": "/%2F"}}, Probe(HttpGet(80, "/%2F"))),
        (
            {"httpGet": {"port": 80, "scheme": "HTTPS", "host": "Web.Example"}},
            Probe(HttpGet(80, "/", "Web.Example", True)),
        ),
        (
            {"httpGet": {"port": 80, "httpHeaders": [{"name": "X-A", "value": "1"}, {"name": "X-A"}]}},
            Probe(HttpGet(80, headers=(("X-A", "1"), ("X-A", "")))),
        ),
        (
            {
                **TCP,
                "initialDelaySeconds": 1,
                "timeoutSeconds": 2,
                "periodSeconds": 3,
                "successThreshold": 4,
                "failureThreshold": 5,
            },
            Probe(TcpSocket(80), 1, 2, 3, 4, 5),
        ),
        (
            {**TCP, **dict.fromkeys(("timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"), 0)},
            Probe(TcpSocket(80), 0, 1, 10, 1, 3),
        ),
        ({**TCP, "exec": None, "grpc": None, "terminationGracePeriodSeconds": None}, Probe(TcpSocket(80))),
    ],
)
def test_what_is_made_of_a_probe(given: dict[str, Any], made: Probe) -> None:
    assert probes(pod(given)) == (made,)


def test_a_slice_and_endpoints_have_theirs_in_an_annotation() -> None:
    given = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 2}
    (made,) = incoming(piece(given)).values
    assert isinstance(made, EndpointSlice)
    assert made.probe == Probe(HttpGet(8080, "/healthz"), period=2)
    subsets = [
        {"addresses": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}], "ports": [{"name": "http", "port": 8080}]},
        {"addresses": [{"ip": "10.1.0.2"}], "ports": [{"name": "http", "port": 9090}]},
    ]
    raw = {"apiVersion": "v1", "kind": "Endpoints", "metadata": piece(given)["metadata"], "subsets": subsets}
    slices = [value for value in incoming(raw).values if isinstance(value, EndpointSlice)]
    assert [value.probe.action.port for value in slices if value.probe] == [8080, 8080, 9090]


# --- bad ones ---------------------------------------------------------------------------------------------------

NOT_RUN = "is not run, since the command would run on the node and not in the container; use httpGet or tcpSocket"
BAD: list[tuple[object, list[str]]] = [
    (
        EXEC,
        [f".exec: {NOT_RUN}"],
    ),
    (GRPC, [".grpc: is not spoken here; use tcpSocket on its port, or httpGet"]),
    (
        {"exec": {}},
        [f".exec: {NOT_RUN}"],
    ),
    ({}, [": says nothing to do; give it httpGet or tcpSocket"]),
    ({"periodSeconds": 3}, [": says nothing to do; give it httpGet or tcpSocket"]),
    ({**TCP, "httpGet": {"port": 80}}, [": has httpGet and tcpSocket; keep one of them"]),
    ({"tcpSocket": {}}, [".tcpSocket.port: is missing; give a port number, 1-65535"]),
    ({"tcpSocket": []}, [".tcpSocket: an empty list stands where a mapping belongs"]),
    ({"tcpSocket": {"port": 0}}, [".tcpSocket.port: 0 is outside 1-65535; choose a port number inside"]),
    ({"httpGet": {"port": 65536}}, [".httpGet.port: 65536 is outside 1-65535; choose a port number inside"]),
    ({"httpGet": {"port": "80"}}, ['.httpGet.port: "80" is a string, not a number; leave out the quotes']),
    ({"httpGet": {"port": True}}, [".httpGet.port: true is not a whole number"]),
    ({"httpGet": {"port": 80, "scheme": "http"}}, ['.httpGet.scheme: "http" is unknown; use HTTP or HTTPS']),
    ({"httpGet": {"port": 80, "path": 3}}, [".httpGet.path: 3 is a number, not a string; put it in quotes"]),
    (
        {"httpGet": {"port": 80, "host": "a b"}},
        ['.httpGet.host: "a b" is neither a host\'s name nor an IP address; correct it'],
    ),
    (
        {"httpGet": {"port": 80, "host": "10.1.0.256"}},
        ['.httpGet.host: "10.1.0.256" is not an IP address; write it as 10.0.0.1 or fd00::1'],
    ),
    (
        {"httpGet": {"port": 80, "httpHeaders": [{"name": "A B", "value": "x"}, {"value": "y"}]}},
        [
            ".httpGet.httpHeaders[0].name: \"A B\" is not a name of a header; use letters, digits and '-', as "
            "X-Token",
            ".httpGet.httpHeaders[1].name: \"\" is not a name of a header; use letters, digits and '-', as X-Token",
        ],
    ),
    (
        {"httpGet": {"port": 80, "httpHeaders": [{"name": "A", "value": "x\r\nB: y"}]}},
        ['.httpGet.httpHeaders[0].value: "x��B: y" has characters that no header may have; leave them out'],
    ),
    ({**TCP, "periodSeconds": -1}, [".periodSeconds: -1 is negative; write a whole number from 0 on"]),
    ({**TCP, "timeoutSeconds": 1.5}, [".timeoutSeconds: 1.5 is not a whole number"]),
    (
        {**TCP, "failureThreshold": 2**31},
        [".failureThreshold: 2147483648 is more than the API takes; write 2147483647 at most"],
    ),
    (
        {**TCP, "terminationGracePeriodSeconds": 3},
        [".terminationGracePeriodSeconds: may not be set for a readiness probe; leave it out"],
    ),
    (
        {"httpGet": {"port": "9", "scheme": "X"}, "successThreshold": "1"},
        [
            '.successThreshold: "1" is a string, not a number; leave out the quotes',
            '.httpGet.port: "9" is a string, not a number; leave out the quotes',
            '.httpGet.scheme: "X" is unknown; use HTTP or HTTPS',
        ],
    ),
]


@pytest.mark.parametrize(("given", "told"), BAD)
def test_what_is_wrong_is_told_by_field_all_of_it(given: object, told: list[str]) -> None:
    assert problems(pod(given)) == [f"{PROBE}{text}" for text in told]


@pytest.mark.parametrize(("given", "told"), BAD)
def test_an_annotation_is_held_against_the_same_rules(given: object, told: list[str]) -> None:
    where = f'metadata.annotations["{ANNOTATION}"]'
    assert problems(piece(given)) == [f"{where}: {text.removeprefix(': ').removeprefix('.')}" for text in told]


def test_a_port_by_a_name_that_nothing_has_is_refused_with_those_there_are() -> None:
    """A kubelet would take the Pod, and never find it ready."""
    named = {"tcpSocket": {"port": "htpt"}}
    assert problems(pod(named)) == [
        f'{PROBE}.tcpSocket.port: "htpt" names no port of the container; use "dns" or "http", or a number'
    ]
    assert problems(piece(named)) == [
        f'metadata.annotations["{ANNOTATION}"]: tcpSocket.port: "htpt" names no port of the slice; '
        'use "http", or a number'
    ]
    assert problems(piece(named, ports=[{"port": 80}])) == [
        f'metadata.annotations["{ANNOTATION}"]: tcpSocket.port: "htpt" names no port of the slice; give its number'
    ]


@pytest.mark.parametrize(
    "text", ["", "tcpSocket", "[1]", '{"a": 1', "null", "1", "[" * 200 + "]" * 200, "{" * 100_000]
)
def test_an_annotation_that_is_no_mapping_is_refused(text: str) -> None:
    (told,) = problems(piece(text))
    assert told.endswith('as {"httpGet": {"path": "/healthz", "port": 8080}}')
    assert "; write the fields of a readinessProbe" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"httpGet": {"port": 80}', "is not JSON: Expecting ',' delimiter (column 25)"),
        ("{'httpGet': {}}", "is not JSON: Expecting property name enclosed in double quotes (column 2)"),
        ('{"httpGet":\n {"port": 80,}}', "(line 2, column"),
        ("", "is not JSON: Expecting value (column 1)"),
        ("[1]", "is not JSON mapping"),
        ('{"a":' * 200 + "1" + "}" * 200, "is nested too deeply"),
    ],
)
def test_a_slip_in_an_annotations_json_is_told_with_its_place(text: str, said: str) -> None:
    (told,) = problems(piece(text))
    assert said in told


def test_a_slip_in_an_action_is_told_as_the_unknown_field_that_it_is() -> None:
    assert problems(piece({"httpget": {"port": 80}})) == [
        f'metadata.annotations["{ANNOTATION}"]: httpget: unknown field; did you mean httpGet?'
    ]
    assert problems(pod({"httpget": {"port": 80}})) == [f"{PROBE}: says nothing to do; did you mean httpGet?"]


def test_an_annotation_has_no_unknown_fields() -> None:
    """Nobody else looks into it, so a slip is told here."""
    where = f'metadata.annotations["{ANNOTATION}"]'
    assert problems(piece({"httpGet": {"port": 80, "pth": "/"}, "periodSecond": 1, "x": 1})) == [
        f"{where}: httpGet.pth: unknown field; did you mean path?",
        f"{where}: periodSecond: unknown field; did you mean periodSeconds?",
        f"{where}: x: unknown field; leave it out",
    ]


# --- what is kept -----------------------------------------------------------------------------------------------


def test_of_a_probe_of_ours_is_stored_what_it_sends_and_of_others_nothing() -> None:
    """A command, or a token in a header, of a Pod that somebody else watches is none of our business."""
    secret = {
        "httpGet": {"port": "http", "httpHeaders": [{"name": "X-Token", "value": "s3cret"}]},
        "periodSeconds": 2,
    }
    stored = trimmed(pod(secret, sidecar=TCP))
    assert parse_object(stored).values == incoming(pod(secret, sidecar=TCP)).values
    for raw in (pod(secret, EXEC, status={**ADDRESS, **READY}), pod(secret, EXEC, status={})):
        assert "readinessProbe" not in json.dumps(trimmed(raw))
    assert "true" not in json.dumps(trimmed(pod(EXEC)))
