"""Words of kubectl's, and others that people try, which this tool has no part in: what to do instead, in one line.

A word that becomes a command of ours leaves this table by itself: commands are looked for first.
"""

from __future__ import annotations

from collections.abc import Mapping

from nodeport_nft.kinds import RESOURCES

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
    "convert": "kinds have one version here: v1, and discovery.k8s.io/v1 of EndpointSlices; kubectl convert makes it",
    "cp": f"{_NO_PODS}; kubectl cp, or scp to the node, copies files",
    "debug": f"{_NO_PODS}; trace says where a connection goes and why, status what is wrong with this node",
    "events": "nothing is kept of what was; describe says why endpoints are missing, status what is wrong, and "
    "journalctl -u nodeport-nft what was",
    "exec": f"{_NO_PODS}; kubectl exec, or ssh to the node and its container runtime, gets you into one",
    "kuberc": "there are no preferences; an alias of your shell has flags that you always give",
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
    "set": """write patch svc NAME -p '{"spec":{"selector":{"$patch":"replace","app":"web"}}}'""",
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
        (word for one in RESOURCES for word in one.words if one.kind != "Service"),
        f"nothing makes one of words alone; {_BY_MANIFEST}",
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
MANIFESTS = (
    "{word} names a kind, and what {command} takes is manifests: name them with -f FILE; patch and edit take kinds"
)
ARGUMENTS: Mapping[str, str] = {
    "apply edit-last-applied": "what was applied is what is stored; edit KIND NAME changes it",
    "apply set-last-applied": "what was applied is what is stored, and nothing is noted of it; leave it out",
    "apply view-last-applied": "what was applied is what is stored; get KIND NAME -o yaml shows it",
    "wait": "the nodes of the cluster are what is waited for, by wait --for=synced; get pods -w shows who is ready",
}
"""The same for arguments, where a command takes none: by its name, or its name and the argument."""

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
    **dict.fromkeys(
        ("servicecidr", "servicecidrs", "ipaddress", "ipaddresses", "ip"),
        "config view shows where clusterIPs come from (serviceClusterIPRange), get svc -A who has which",
    ),
    **dict.fromkeys(
        ("ingressclass", "ingressclasses", "gateway", "gateways", "gtw", "httproute", "httproutes"),
        "hosts and paths of HTTP are the work of a proxy",
    ),
    **dict.fromkeys(
        ("componentstatus", "componentstatuses", "cs"), "status says how this node does, get nodes the others"
    ),
    **dict.fromkeys(("lease", "leases"), "get nodes says which nodes are alive"),
    **dict.fromkeys(("apiservice", "apiservices"), "api-resources lists the kinds that are known here"),
    **dict.fromkeys(
        (
            *("serviceaccount", "serviceaccounts", "sa", "role", "roles", "rolebinding", "rolebindings"),
            *("clusterrole", "clusterroles", "clusterrolebinding", "clusterrolebindings"),
        ),
        "who may change objects is who may write the store",
    ),
    **dict.fromkeys(
        (
            *(
                "persistentvolume",
                "persistentvolumes",
                "pv",
                "persistentvolumeclaim",
                "persistentvolumeclaims",
                "pvc",
            ),
            *("storageclass", "storageclasses", "sc", "horizontalpodautoscaler", "horizontalpodautoscalers", "hpa"),
            *("poddisruptionbudget", "poddisruptionbudgets", "pdb", "resourcequota", "resourcequotas", "quota"),
            *("limitrange", "limitranges", "limits", "replicationcontroller", "replicationcontrollers", "rc"),
            *("priorityclass", "priorityclasses", "pc"),
        ),
        "no pods are started here",
    ),
    **dict.fromkeys(
        ("customresourcedefinition", "customresourcedefinitions", "crd", "crds"),
        "api-resources lists the kinds that are known here",
    ),
}
"""What is said of kinds that have no use here."""
