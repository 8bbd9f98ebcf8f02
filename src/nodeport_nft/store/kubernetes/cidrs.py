"""ServiceCIDRs, from the API's documents to the model. No kind of ``kinds``: nobody writes one here.

Source: ServiceCIDRSpec of networking.k8s.io/v1: one or two networks, of different families. As for kube-proxy, all of
them count, whatever their conditions say: clusterIPs may still be in one that is being deleted.
"""

from __future__ import annotations

from typing import Any

from nodeport_nft.model import ServiceCIDR
from nodeport_nft.notation import parse_network, subdomain_fault
from nodeport_nft.problems import Problem, Problems, shown


def parse_service_cidr(raw: dict[str, Any]) -> tuple[ServiceCIDR, tuple[Problem, ...]]:
    """A ServiceCIDR that a server has validated, and what is told of networks that are passed over.

    Raises Problems where its name is none.
    """
    metadata, spec = raw.get("metadata"), raw.get("spec")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    fault = subdomain_fault(name) if isinstance(name, str) else f"{shown(name)} is not a name"
    if fault or not isinstance(name, str):
        raise Problems((Problem("", "ServiceCIDR", "metadata.name", fault),))
    cidrs = spec.get("cidrs") if isinstance(spec, dict) else None
    networks, notes = [], []
    for index, text in enumerate(cidrs if isinstance(cidrs, list) else ()):
        try:
            networks.append(parse_network(text if isinstance(text, str) else "", host_bits=True))
        except ValueError:
            note = f"{shown(text)} is not a network; passed over"
            notes.append(Problem("", f"ServiceCIDR//{name}", f"spec.cidrs[{index}]", note))
    return ServiceCIDR(name, tuple(networks)), tuple(notes)
