"""Kubernetes Services on any Linux node, as nftables maps."""

__version__ = "0.1.0"
