"""Words of kubectl's, and others that people try, which this tool has no part in: what to do instead, in one line.

A word that becomes a command of ours leaves this table by itself: commands are looked for first.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_PODS = "pods run elsewhere, only connections to them are handled here"

VERBS: Mapping[str, str] = {
    "alpha": "kubectl's trials have no counterpart here",
    "attach": f"{_NO_PODS}; kubectl attach, or ssh to the node and its container runtime, gets you into one",
    "auth": "who may change objects is who may write the store: root for a file, etcd's roles, or kubectl auth can-i",
    "autoscale": f"{_NO_PODS}; what starts them says how many there are",
    "certificate": "no certificates are signed here; kubectl certificate does that in a cluster",
    "cluster-info": "nodeport-nft get nodes says which nodes there are, status how this one does, config view "
    "where the store is",
    "cordon": "nothing is scheduled here; drain NODE lets it get no new connections",
    "cp": f"{_NO_PODS}; kubectl cp, or scp to the node, copies files",
    "debug": f"{_NO_PODS}; trace says where a connection goes and why, status what is wrong with this node",
    "events": "nothing is kept of what was; describe says why endpoints are missing, status what is wrong, and "
    "journalctl -u nodeport-nft what was",
    "exec": f"{_NO_PODS}; kubectl exec, or ssh to the node and its container runtime, gets you into one",
    "kustomize": "kubectl kustomize DIR | nodeport-nft apply -f - does it",
    "list": "get KIND lists objects, such as get services",
    "logs": f"{_NO_PODS}; kubectl logs has a pod's, and journalctl -u nodeport-nft those of this node's daemon",
    "ls": "get KIND lists objects, such as get services",
    "options": "nodeport-nft -h has those of all commands, COMMAND -h those of one",
    "plugin": "there are no plugins; nodeport-nft -h has all commands",
    "port-forward": "a nodePort does that on each node: create service nodeport NAME --tcp=PORT:TARGET, "
    "then connect to NODE:NODEPORT",
    "proxy": "there is no API server here; get KIND -o json has objects, status -o json this node's daemon",
    "ps": "get services lists objects, and status says how this node's daemon does",
    "restart": "objects are not restarted; systemctl restart nodeport-nft is this node's daemon",
    "rm": "delete KIND NAME deletes objects",
    "rollout": f"{_NO_PODS}; what starts them replaces them, and drain endpoint IP takes one out of use first",
    "run": f"{_NO_PODS}; start them elsewhere, and apply -f a Pod with its IP, or Endpoints",
    "scale": f"{_NO_PODS}; what starts them says how many there are",
    "set": "edit KIND NAME, or apply -f, changes a Service's selector",
    "show": "get KIND lists objects, describe KIND NAME shows one in detail",
    "start": "systemctl start nodeport-nft, or sync, programs this node",
    "stop": "systemctl stop nodeport-nft ends the daemon and leaves its rules; cleanup removes them",
    "taint": "nothing is scheduled here; drain NODE lets it get no new connections",
    "undrain": "what undoes drain is uncordon",
}
"""What to do instead, by the word; some are like another command which does the opposite."""

_NOT_KEPT = "objects of this kind have no use here, and are not kept"
_BY_MANIFEST = "write a manifest, and create -f it"
CREATED: Mapping[str, str] = {
    **dict.fromkeys(("namespace", "ns"), "a namespace need not be created; -n NAME with any command is enough"),
    **dict.fromkeys(("deployment", "deploy", "job", "cronjob", "cj"), f"{_NO_PODS}; expose pod NAME makes a Service"),
    **dict.fromkeys(
        ("pod", "node", "endpoints", "endpointslice"), f"nothing makes one of words alone; {_BY_MANIFEST}"
    ),
    **dict.fromkeys(("configmap", "cm", "secret", "serviceaccount", "sa", "token", "quota"), _NOT_KEPT),
    **dict.fromkeys(("role", "rolebinding", "clusterrole", "clusterrolebinding"), _NOT_KEPT),
    **dict.fromkeys(("priorityclass", "poddisruptionbudget", "pdb"), _NOT_KEPT),
    **dict.fromkeys(("ingress", "ing"), f"{_NOT_KEPT}; create service nodeport NAME lets connections in"),
}
"""What to do instead of what kubectl create can make."""

_OF_KUBECONFIG = "contexts are the kubeconfig's, which kubectl config changes; --context NAME chooses one here"
CONTEXTS: Mapping[str, str] = {
    "current-context": f"{_OF_KUBECONFIG}, and config view says which",
    "delete-context": _OF_KUBECONFIG,
    "get-clusters": _OF_KUBECONFIG,
    "get-contexts": _OF_KUBECONFIG,
    "get-users": _OF_KUBECONFIG,
    "rename-context": _OF_KUBECONFIG,
    "set": "write the key into the file that config path names; config view -o yaml has all of them",
    "set-cluster": _OF_KUBECONFIG,
    "set-context": f"{_OF_KUBECONFIG}, -n NAMESPACE a namespace",
    "set-credentials": _OF_KUBECONFIG,
    "unset": "take the key out of the file that config path names",
    "use-context": _OF_KUBECONFIG,
}
"""What to do instead of a command of kubectl config."""

FILES = "name manifests with -f: nodeport-nft {command} -f {word}"
ARGUMENTS: Mapping[str, str] = {
    "wait": "the nodes of the cluster are what is waited for, by wait --for=synced; get pods -w shows who is ready",
}
"""The same for arguments, where a command takes none."""

_WORKLOADS = "no pods are started here; get pods shows those known here, describe svc NAME says which may answer"
KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("namespace", "namespaces", "ns"), "namespaces are only names; get services -A shows which are used"
    ),
    **dict.fromkeys(("event", "events", "ev"), "nothing is kept of what was; describe says what is wrong now"),
    **dict.fromkeys(("deployment", "deployments", "deploy"), _WORKLOADS),
    **dict.fromkeys(("replicaset", "replicasets", "rs"), _WORKLOADS),
    **dict.fromkeys(("daemonset", "daemonsets", "ds"), _WORKLOADS),
    **dict.fromkeys(("statefulset", "statefulsets", "sts"), _WORKLOADS),
    **dict.fromkeys(("job", "jobs", "cronjob", "cronjobs", "cj"), _WORKLOADS),
    **dict.fromkeys(("ingress", "ingresses", "ing"), "hosts and paths of HTTP are the work of a proxy"),
    **dict.fromkeys(
        ("networkpolicy", "networkpolicies", "netpol"), "who may connect to pods is their network's to say"
    ),
    **dict.fromkeys(
        ("configmap", "configmaps", "cm", "secret", "secrets"), "pods use them, and no pods are started here"
    ),
}
"""What is said of kinds that have no use here."""

FLAGS: Mapping[str, str] = {
    "-k": "kubectl kustomize DIR | nodeport-nft apply -f - takes what it makes",
    "--kustomize": "kubectl kustomize DIR | nodeport-nft apply -f - takes what it makes",
    "-s": "name the API server by --kubeconfig PATH, or etcd by --store etcd://HOST:PORT/PREFIX",
    "--server": "name the API server by --kubeconfig PATH, or etcd by --store etcd://HOST:PORT/PREFIX",
    "--token": "a kubeconfig says who you are; name it by --kubeconfig PATH",
    "--user": "a context of the kubeconfig says who you are; name it by --context NAME",
    "--cluster": "a context of the kubeconfig says which cluster; name it by --context NAME",
    "--as": "a user of the kubeconfig has it (as:); name its context by --context NAME",
    "--insecure-skip-tls-verify": "a cluster of the kubeconfig has it; name its context by --context NAME",
    "--request-timeout": "requests have limits of their own; leave it out",
    "--field-manager": "fields are managed by nodeport-nft; leave it out",
    "trace --tcp": "write --protocol tcp",
    "trace --udp": "write --protocol udp",
    "trace --sctp": "write --protocol sctp",
    "get -f": "name kinds and objects; apply --dry-run=client -o yaml -f FILE shows what manifests say",
    "describe -f": "name kinds and objects; apply --dry-run=client -o yaml -f FILE shows what manifests say",
    "--record": "nothing is kept of what was; leave it out",
    "-v": "errors are told in full; leave it out, and --log-format of sync is for the daemon's log",
}
"""The same for flags, where a command has none of that name; with the command's name before it, for that alone."""
