"""Health, metrics and the status as a value: what an operator sees of the daemon."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from nodeport_nft.kernel.host.conntrack_size import Tracked
from nodeport_nft.model import Family
from nodeport_nft.observe.conntrack import ConntrackSize
from nodeport_nft.observe.health import START_SECONDS, health_body, is_current, is_healthy, is_live
from nodeport_nft.observe.metrics import Metrics, Probe, RepairCause
from nodeport_nft.observe.status import Status, from_json, to_json

BEGAN = 1_700_000_000.0
SYNCED = Status(started=BEGAN, synced=BEGAN + 5, sync_period=30.0)
WAITING = replace(SYNCED, pending=1, pending_since=BEGAN + 100)
STARTING = replace(SYNCED, synced=0.0)

SYNC_BUCKETS = [0.001 * 2**n for n in range(15)]


@pytest.mark.proves("H2")
@pytest.mark.parametrize(
    ("status", "seconds", "live", "current", "healthy"),
    [
        pytest.param(Status(), 0, True, False, False, id="not begun"),
        pytest.param(STARTING, 10, True, False, False, id="starting"),
        pytest.param(STARTING, START_SECONDS, True, False, False, id="a long start"),
        pytest.param(STARTING, START_SECONDS + 1, False, False, False, id="a start that hangs"),
        pytest.param(
            replace(STARTING, sync_period=1.0), START_SECONDS, True, False, False, id="a short period, a long start"
        ),
        pytest.param(
            replace(STARTING, sync_period=1000.0), 1999, True, False, False, id="a long period, a longer start"
        ),
        pytest.param(replace(STARTING, pending_since=BEGAN), 100, True, False, False, id="changes wait for a start"),
        pytest.param(
            replace(STARTING, waits_for_store=True), 1e6, True, False, False, id="the store is away for days"
        ),
        pytest.param(replace(STARTING, store_waited=BEGAN + 1e6), 1e6 + 300, True, False, False, id="it was away"),
        pytest.param(replace(STARTING, store_waited=BEGAN + 1e6), 1e6 + 301, False, False, False, id="then it hangs"),
        pytest.param(SYNCED, 10, True, True, True, id="synced"),
        pytest.param(SYNCED, 1e6, True, True, True, id="nothing to do for days"),
        pytest.param(WAITING, 160, True, True, True, id="a change has waited twice the period"),
        pytest.param(WAITING, 160.1, False, False, False, id="a change has waited longer"),
        pytest.param(replace(WAITING, sync_period=31.0), 160.1, True, True, True, id="but not with this period"),
        pytest.param(WAITING, 90, True, True, True, id="the clock was set back"),
        pytest.param(replace(SYNCED, node_deleted=True), 10, True, True, False, id="the node is being deleted"),
        pytest.param(replace(WAITING, node_deleted=True), 200, False, False, False, id="deleted, and late"),
        pytest.param(replace(SYNCED, error="no", refused=(("a/b", "no"),)), 10, True, True, True, id="refused"),
    ],
)
def test_health(status: Status, seconds: float, live: bool, current: bool, healthy: bool) -> None:
    now = BEGAN + seconds
    assert (is_live(status, now), is_current(status, now), is_healthy(status, now)) == (live, current, healthy)


@pytest.mark.proves("H2")
def test_the_body_is_kube_proxys() -> None:
    now = BEGAN + 200.5
    well = {"lastUpdated": "2023-11-14T22:16:40.500000Z", "currentTime": "2023-11-14T22:16:40.500000Z"}
    late = {**well, "lastUpdated": "2023-11-14T22:13:25Z"}
    never = {**well, "lastUpdated": "0001-01-01T00:00:00Z"}
    deleted = replace(SYNCED, node_deleted=True)
    for status, with_node, body in [
        (SYNCED, True, {**well, "nodeEligible": True, "healthy": True}),
        (SYNCED, False, {**well, "healthy": True}),
        (WAITING, True, {**late, "nodeEligible": True, "healthy": False}),
        (WAITING, False, {**late, "healthy": False}),
        (deleted, True, {**late, "nodeEligible": False, "healthy": True}),
        (deleted, False, {**well, "healthy": True}),
        (STARTING, True, {**never, "nodeEligible": True, "healthy": False}),
        (STARTING, False, {**well, "healthy": True}),
    ]:
        assert json.loads(health_body(status, now, with_node=with_node)) == body


def test_a_status_survives_json() -> None:
    status = Status(
        version="1", node="n", node_ports_on="172.30.1.2", source="store", pid=7, started=1.5, services=3,
        without_endpoints=12, idle=("a/b", "c/d"),
        node_deleted=True, synced=2.5, sync_seconds=0.25, sync_cause="a change", sync_operations=9, syncs=4,
        pending=2, pending_since=3.5, refused=(("a/b", "too long"), ("c/d", "\x1b[31m")), problems=("é", ""),
        error="e", last_error="l", last_error_at=4.5, sync_period=60.0,
    )  # fmt: skip
    assert from_json(to_json(status)) == status
    assert from_json(to_json(Status())) == Status()


def test_a_status_of_another_version_is_read() -> None:
    assert from_json('{"synced": 3, "new": {"field": 1}}') == Status(synced=3.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "not a status"),
        ("{}", "not a status"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff", "codec"),
        ('{"synced": "now"}', "field synced"),
        ('{"synced": true}', "field synced"),
        ('{"synced": NaN}', "field synced"),
        ('{"synced": -1}', "field synced"),
        (f'{{"synced": 1{"0" * 400}}}', "field synced"),
        ('{"synced": 0, "services": 1.5}', "field services"),
        ('{"synced": 0, "services": true}', "field services"),
        ('{"synced": 0, "node_deleted": 1}', "field node_deleted"),
        ('{"synced": 0, "node": null}', "field node"),
        ('{"synced": 0, "problems": "many"}', "field problems"),
        ('{"synced": 0, "problems": [1]}', "field problems"),
        ('{"synced": 0, "advice": [1]}', "field advice"),
        ('{"synced": 0, "idle": [1]}', "field idle"),
        ('{"synced": 0, "idle": "many"}', "field idle"),
        ('{"synced": 0, "without_endpoints": "many"}', "field without_endpoints"),
        ('{"synced": 0, "refused": ["ab"]}', "field refused"),
        ('{"synced": 0, "refused": [["a"]]}', "field refused"),
        ('{"synced": 0, "refused": [["a", 1]]}', "field refused"),
    ],
)
def test_what_is_no_status_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_json(text)


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample, as Prometheus writes its name and labels."""
    found = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0.1")


@pytest.mark.proves("H3")
@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("kubeproxy_sync_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_sync_full_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_network_programming_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_conntrack_reconciler_deleted_entries_total", "counter", {"ip_family"}),
        ("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "counter", {"ip_family"}),
        ("kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total", "counter", {"ip_family"}),
        ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "gauge", {"ip_family"}),
        ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "gauge", {"ip_family"}),
        ("kubeproxy_sync_proxy_rules_service_changes_pending", "gauge", set()),
        ("kubeproxy_sync_proxy_rules_service_changes_total", "counter", set()),
        ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "gauge", set()),
        ("kubeproxy_sync_proxy_rules_endpoint_changes_total", "counter", set()),
        ("kubeproxy_sync_proxy_rules_no_local_endpoints_total", "gauge", {"ip_family", "traffic_policy"}),
        ("kubeproxy_proxy_healthz_total", "counter", {"code"}),
        ("kubeproxy_proxy_livez_total", "counter", {"code"}),
        ("nodeport_nft_services", "gauge", set()),
        ("nodeport_nft_refused_services", "gauge", set()),
        ("nodeport_nft_repairs_total", "counter", {"cause"}),
        ("nodeport_nft_build_info", "gauge", {"version"}),
        ("nodeport_nft_problems", "gauge", {"part"}),
        ("process_resident_memory_bytes", "gauge", set()),
    ],
)
def test_names_types_and_labels_are_kube_proxys(metrics: Metrics, name: str, kind: str, labels: set[str]) -> None:
    metrics.no_local_endpoints(Family.IPV4, internal=0, external=0)
    metrics.probed(Probe.HEALTHZ, 200)
    metrics.probed(Probe.LIVEZ, 200)
    metrics.problems("store", 0)
    text = metrics.exposition().decode()
    assert f"# TYPE {name} {kind}\n" in text
    (family,) = [
        family
        for family in text_string_to_metric_families(text)
        if family.name == (name.removesuffix("_total") if kind == "counter" else name)
    ]
    assert {key for sample in family.samples for key in sample.labels} - {"le"} == labels
    assert "_created" not in text


@pytest.mark.proves("H3")
def test_buckets_are_kube_proxys(metrics: Metrics) -> None:
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if "le" in sample.labels and sample.labels["ip_family"] == "IPv4":
                found.setdefault(family.name, []).append(float(sample.labels["le"]))
    latency = found.pop("kubeproxy_network_programming_duration_seconds")
    assert latency[:6] == [0.0, 0.25, 0.5, 1.0, 2.0, 3.0]
    assert latency[60:65] == [58.0, 59.0, 60.0, 65.0, 70.0]
    assert latency[-9:] == [115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0, float("inf")]
    assert len(found) == 4
    for buckets in found.values():
        assert buckets == [*SYNC_BUCKETS, float("inf")]


@pytest.mark.proves("H3")
def test_changes_wait_until_a_sync_succeeds(metrics: Metrics) -> None:
    prefix = "kubeproxy_sync_proxy_rules_"
    metrics.queued()
    assert samples(metrics)[f"{prefix}last_queued_timestamp_seconds{{ip_family=IPv4}}"] == 0
    metrics.queued(services=2, endpoints=3)
    metrics.queued(endpoints=1)
    metrics.failed()
    found = samples(metrics)
    pending = [f"{prefix}{kind}_changes_{what}" for kind in ("service", "endpoint") for what in ("pending", "total")]
    assert [found[name] for name in pending] == [2, 2, 4, 4]
    assert found[f"{prefix}last_queued_timestamp_seconds{{ip_family=IPv4}}"] > 0
    assert found[f"{prefix}last_timestamp_seconds{{ip_family=IPv4}}"] == 0
    metrics.synced(full=False, seconds=0.01, endpoints_left=1)
    found = samples(metrics)
    assert [found[name] for name in pending] == [0, 2, 1, 4]
    assert found[f"{prefix}last_timestamp_seconds{{ip_family=IPv6}}"] > 0


@pytest.mark.proves("H3")
def test_a_sync_counts_for_each_family(metrics: Metrics) -> None:
    metrics.synced(full=True, seconds=0.5, waited=(0.7, -3.0))
    metrics.synced(full=False, seconds=0.25)
    metrics.failed()
    found = samples(metrics)
    for family in ("IPv4", "IPv6"):
        sums = {
            name: found[f"kubeproxy_{name}_duration_seconds_sum{{ip_family={family}}}"]
            for name in (
                "sync_proxy_rules",
                "sync_full_proxy_rules",
                "sync_partial_proxy_rules",
                "network_programming",
            )
        }
        assert list(sums.values()) == [0.75, 0.5, 0.25, 0.7]  # a clock ahead of ours makes no negative time
        assert found[f"kubeproxy_network_programming_duration_seconds_count{{ip_family={family}}}"] == 2
        assert found[f"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{{ip_family={family}}}"] == 1


@pytest.mark.proves("H3")
def test_a_family_that_is_not_programmed_has_no_series() -> None:
    metrics = Metrics("0.1", (Family.IPV4,))
    metrics.synced(full=True, seconds=0.5)
    metrics.failed()
    text = metrics.exposition().decode()
    assert "IPv4" in text
    assert "IPv6" not in text


@pytest.mark.proves("H3")
def test_the_rest_is_counted(metrics: Metrics) -> None:
    metrics.flows_deleted(Family.IPV6, 5, 0.5)
    metrics.no_local_endpoints(Family.IPV4, internal=1, external=2)
    metrics.counted(services=10, refused=1)
    metrics.without_endpoints(Family.IPV6, 4)
    metrics.repaired(RepairCause.OUTSIDE_CHANGE)
    metrics.probed(Probe.LIVEZ, 503)
    metrics.problems("store", 2)
    metrics.problems("store", 1)
    found = samples(metrics)
    local = "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=IPv4,traffic_policy=%s}"
    for name, value in {
        "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=IPv6}": 5,
        "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=IPv4}": 0,
        "kubeproxy_conntrack_reconciler_sync_duration_seconds_sum{ip_family=IPv6}": 0.5,
        local % "internal": 1,
        local % "external": 2,
        "nodeport_nft_services": 10,
        "nodeport_nft_refused_services": 1,
        "nodeport_nft_services_without_endpoints{ip_family=IPv4}": 0,
        "nodeport_nft_services_without_endpoints{ip_family=IPv6}": 4,
        "nodeport_nft_repairs_total{cause=outside_change}": 1,
        "nodeport_nft_repairs_total{cause=full_check}": 0,
        "kubeproxy_proxy_livez_total{code=503}": 1,
        "nodeport_nft_build_info{version=0.1}": 1,
        "nodeport_nft_problems{part=store}": 1,
    }.items():
        assert found[name] == value, name


def test_the_registry_takes_further_collectors(metrics: Metrics) -> None:
    class Extra(Collector):
        def collect(self) -> list[GaugeMetricFamily]:
            return [GaugeMetricFamily("extra", "", value=4)]

    metrics.registry.register(Extra())
    assert samples(metrics)["extra"] == 4


def test_how_full_connection_tracking_is_stands_among_them(metrics: Metrics) -> None:
    told: list[Tracked | None] = [Tracked(3, 10), None]
    metrics.registry.register(ConntrackSize(lambda: told.pop(0)))
    found = samples(metrics)
    assert found["nodeport_nft_conntrack_entries"] == 3
    assert found["nodeport_nft_conntrack_limit"] == 10
    assert "nodeport_nft_conntrack_limit" not in samples(metrics)  # where the kernel tracks nothing


def test_two_daemons_in_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics("0.1")
    other.counted(services=3, refused=0)
    assert samples(metrics)["nodeport_nft_services"] == 0
