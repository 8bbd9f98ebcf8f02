"""A hosts file (hosts(5)) that gives the Services their names where no cluster DNS does.

The names are those of the Kubernetes DNS specification: ``NAME.NAMESPACE.svc.CLUSTER_DOMAIN`` and its shorter forms;
the bare name for one namespace only, as a pod of that namespace would see it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from nodeport_nft.model import ObjectName, Service, ServiceType

MARKER = "# Written by nodeport-nft; changes are overwritten."
"""First line of a hosts file of ours: what lacks it is somebody else's and is left alone."""


def hosts_lines(services: Iterable[Service], *, domain: str, namespace: str = "default") -> tuple[str, ...]:
    """One line for each clusterIP, sorted by namespace and name."""
    lines = []
    for service in sorted(services, key=lambda s: s.key):
        if service.type is ServiceType.EXTERNAL_NAME:
            continue
        full = f"{service.name}.{service.namespace}"
        names = [full, f"{full}.svc", f"{full}.svc.{domain}"]
        if service.namespace == namespace:
            names.insert(0, service.name)
        lines += [f"{ip} {' '.join(names)}" for ip in service.cluster_ips]
    return tuple(lines)


def kept_lines(text: str, keys: Collection[ObjectName]) -> tuple[str, ...]:
    """The lines of a hosts file of ours that give these Services their names."""
    wanted = {f"{key.name}.{key.namespace}" for key in keys}
    return tuple(line for line in text.splitlines() if text.startswith(MARKER) and wanted & set(line.split()))


def hosts_file(lines: Iterable[str]) -> str:
    """The whole file: our marker, loopback, and the lines."""
    return "\n".join([MARKER, "127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", *lines]) + "\n"
