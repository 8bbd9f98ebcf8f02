"""kubectl's flags which a command here has not: what to do instead, in one line.

A flag that a command of ours gets leaves this table by itself: its own flags are looked for first.
"""

from __future__ import annotations

from collections.abc import Mapping

from nodeport_nft.cli.elsewhere import ARGUMENTS

_KUSTOMIZE = "kubectl kustomize DIR | nodeport-nft apply -f - takes what it makes"
_SERVER = "name the API server by --kubeconfig PATH, or etcd by --store etcd://HOST:PORT/PREFIX"
_CONTEXT = "a cluster of the kubeconfig has it; name its context by --context NAME"
_USER = "a user of the kubeconfig has it; name its context by --context NAME"
_FULL = "errors are told in full; leave it out, and --log-format of sync is for the daemon's log"
_OUT = "has no meaning here; leave it out"
_NO_DELETE = "apply deletes nothing; leave it out"
_WHOLE = "sync -f --prune takes manifests for all there is"
_ONE_VERSION = "each kind has one version here; leave it out"
_NO_STATUS = "a status is a part of its object here; leave it out, and kubectl changes it at an API server"
_PATHS = "write -o jsonpath=TEMPLATE, or -o json | jq"
_BY_NAME = "name the nodes: get nodes -l SELECTOR -o name | xargs nodeport-nft {command}"

FLAGS: Mapping[str, str] = {
    # of every command of kubectl's
    **dict.fromkeys(("-k", "--kustomize"), _KUSTOMIZE),
    **dict.fromkeys(("-s", "--server"), _SERVER),
    "--token": "a kubeconfig says who you are; name it by --kubeconfig PATH",
    "--user": "a context of the kubeconfig says who you are; name it by --context NAME",
    "--cluster": "a context of the kubeconfig says which cluster; name it by --context NAME",
    "--as": "a user of the kubeconfig has it (as:); name its context by --context NAME",
    **dict.fromkeys(("--as-group", "--as-uid", "--as-user-extra", "--username", "--password"), _USER),
    **dict.fromkeys(("--client-certificate", "--client-key"), _USER),
    **dict.fromkeys(("--certificate-authority", "--insecure-skip-tls-verify", "--tls-server-name"), _CONTEXT),
    **dict.fromkeys(("--disable-compression", "--cache-dir", "--match-server-version", "--kuberc"), _OUT),
    **dict.fromkeys(("--warnings-as-errors", "--profile", "--profile-output", "--log-flush-frequency"), _OUT),
    "--request-timeout": "requests have limits of their own; leave it out",
    **dict.fromkeys(("-v", "--v", "--vmodule", "--stderrthreshold", "--logtostderr", "--alsologtostderr"), _FULL),
    # of several
    "--field-manager": "fields are managed by nodeport-nft; leave it out",
    "--record": "nothing is kept of what was; leave it out",
    "--save-config": "what was applied is what is stored; leave it out",
    "--windows-line-endings": "an editor writes lines as it likes; leave it out",
    "--raw": "there is no API server here; get KIND -o json has objects, status -o json this node's daemon",
    "--subresource": _NO_STATUS,
    "--template": _PATHS,
    "--allow-missing-template-keys": "what is not there is empty in -o jsonpath; leave it out",
    "--local": "name stored objects; --dry-run=client -o yaml prints what they would be",
    "--output-version": _ONE_VERSION,
    "--api-version": _ONE_VERSION,
    # of one
    "apply --all": f"apply deletes nothing; delete KIND --all does, and {_WHOLE}",
    "apply --prune": f"apply deletes nothing; delete KIND -l SELECTOR does, and {_WHOLE}",
    "apply --prune-allowlist": _NO_DELETE,
    "apply --force": "replace --force -f FILE deletes objects and creates them anew",
    "apply --cascade": _NO_DELETE,
    "apply --grace-period": _NO_DELETE,
    "apply --openapi-patch": _OUT,
    "apply --overwrite": "what manifests say is what is stored; leave it out",
    "api-resources --api-group": "api-resources | grep GROUP picks them",
    "api-resources --cached": _OUT,
    "api-resources --categories": "get all is pods and services; leave it out",
    "api-resources --sort-by": "api-resources --no-headers | sort puts them in another order",
    "api-resources --verbs": "every kind can be read and changed; leave it out",
    "config view --minify": "config view shows what is in force; leave it out",
    "config view --raw": "config view shows what is in force; leave it out",
    "config view --flatten": "config view shows what is in force; leave it out",
    "delete -i": "nothing is asked back; --dry-run says what would be deleted",
    "delete --interactive": "nothing is asked back; --dry-run says what would be deleted",
    "diff -R": "directories are always read with all below them; leave it out",
    "diff --recursive": "directories are always read with all below them; leave it out",
    "diff --server-side": _OUT,
    "diff --force-conflicts": _OUT,
    "drain -l": _BY_NAME,
    "drain --selector": _BY_NAME,
    "drain --pod-selector": "drain endpoint IP takes one endpoint out of use",
    "edit --output-patch": "patch KIND NAME changes a few fields",
    "explain -o": "explain has one form, as text; leave it out",
    "explain --output": "explain has one form, as text; leave it out",
    "expose -f": "name the pod or the Service: expose pod NAME --port PORT",
    "expose --filename": "name the pod or the Service: expose pod NAME --port PORT",
    "expose --load-balancer-ip": "nobody assigns such addresses here; --external-ip IP is one that it answers on",
    "expose --overrides": "write --dry-run=client -o yaml, change that, and create -f it",
    "expose --override-type": "write --dry-run=client -o yaml, change that, and create -f it",
    "get --server-print": "-o yaml has all of an object; leave it out",
    "get --export": "-o yaml is fit for apply -f as it is; leave it out",
    "get --include-uninitialized": _OUT,
    "get --all": "a kind alone is all of them; leave it out",
    "patch -l": "name the objects: get KIND -l SELECTOR -o name | xargs nodeport-nft patch -p PATCH",
    "patch --selector": "name the objects: get KIND -l SELECTOR -o name | xargs nodeport-nft patch -p PATCH",
    "top --containers": "nodeport-nft top endpoints has new connections by endpoint; kubectl top has CPU and memory",
    "trace --tcp": "write --protocol tcp",
    "trace --udp": "write --protocol udp",
    "trace --sctp": "write --protocol sctp",
    "uncordon -l": _BY_NAME,
    "uncordon --selector": _BY_NAME,
    "version --short": "it is as short as that; leave it out",
    **dict.fromkeys(
        (
            "wait -l",
            "wait --selector",
            "wait -f",
            "wait --filename",
            "wait --all",
            "wait -A",
            "wait --all-namespaces",
        ),
        ARGUMENTS["wait"],
    ),
}
"""By the flag; with the command's name before it, for that command alone. ``{command}`` is its name."""
