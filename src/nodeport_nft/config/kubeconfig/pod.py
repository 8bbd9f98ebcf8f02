"""The account of a pod: what kubelet puts into each, with a token that it renews about every hour.

Source: kubernetes.io, "Accessing the Kubernetes API from a Pod".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nodeport_nft.config.kubeconfig.access import SERVICE_ACCOUNT, Access, Cluster, Pem, User


def pod_access(environ: Mapping[str, str], account: str = SERVICE_ACCOUNT) -> Access | None:
    """How a pod comes to the API server of its cluster; None where this is none, or has no account.

    kubelet has made the files, in a place where nobody else comes: they are believed.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    token, ca = Path(account) / "token", Path(account) / "ca.crt"
    if not (host and port and token.exists()):
        return None
    name = f"[{host}]" if ":" in host else host
    cluster = Cluster(f"https://{name}:{port}", ca=Pem(path=str(ca)) if ca.exists() else Pem())
    return Access(cluster, User(token_file=str(token)), f"the pod's account ({account})")
