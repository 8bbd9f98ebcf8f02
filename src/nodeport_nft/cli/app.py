"""The Typer application: every command is registered here, in the order and groups in which ``--help`` shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from nodeport_nft import __version__
from nodeport_nft.cli import colour
from nodeport_nft.cli.colour import Colour
from nodeport_nft.cli.lazily import Entry
from nodeport_nft.cli.options import AllNamespaces, put
from nodeport_nft.cli.verbs import WIDTH, Verbs

LOOK = "Look at objects"
CHANGE = "Change objects"
NODE = "This node"
STORE = "The store"
PROGRAM = "The program"

COMMANDS = (
    Entry(
        "get",
        "get.command:get",
        LOOK,
        "List services, endpoints, endpointslices, pods or nodes",
        "get services -o wide",
    ),
    Entry(
        "describe",
        "show:describe",
        LOOK,
        "Show objects in detail, and why a Service has no endpoints",
        "describe service my-ser",
    ),
    Entry(
        "explain",
        "explain:explain",
        LOOK,
        "Say what fields of manifests mean here",
        "explain service.spec.ports",
    ),
    Entry(
        "graph",
        "graph:graph",
        LOOK,
        "Draw a Service with its frontends, endpoints and nodes",
        "graph my-ser -o svg > my-ser.svg",
    ),
    Entry(
        "trace",
        "trace:trace",
        LOOK,
        "Follow a connection through a node's tables to its endpoints",
        "trace pod/web-1 svc/my-ser",
    ),
    Entry(
        "hosts",
        "show:hosts",
        LOOK,
        "Print lines for a hosts file with the services' names",
        "hosts -f web.yaml",
    ),
    Entry(
        "apply",
        "changing.apply:apply",
        CHANGE,
        "Store the objects of manifests",
        "apply -f web.yaml",
        tries=True,
    ),
    Entry(
        "create",
        "changing.creating:create",
        CHANGE,
        "Create objects of manifests, or a Service without one",
    ),
    Entry(
        "replace",
        "changing.apply:replace",
        CHANGE,
        "Replace whole objects by those of manifests",
        "replace -f web.yaml",
        tries=True,
    ),
    Entry(
        "edit",
        "changing.edit:edit",
        CHANGE,
        "Change objects in an editor",
        "edit service my-ser",
    ),
    Entry(
        "patch",
        "changing.patch:patch",
        CHANGE,
        "Change a few fields of objects",
        """patch svc web -p '{"spec":{"type":"NodePort"}}'""",
        tries=True,
    ),
    Entry(
        "expose",
        "changing.expose:expose",
        CHANGE,
        "Create a Service for a pod, or for another one's pods",
        "expose pod web-1 --port 80 --type NodePort",
        tries=True,
    ),
    Entry(
        "label",
        "changing.labels:label",
        CHANGE,
        "Set labels of objects, or take them away",
        "label pod web-1 tier=front canary-",
        tries=True,
    ),
    Entry(
        "annotate",
        "changing.labels:annotate",
        CHANGE,
        "Set annotations of objects, or take them away",
        "annotate svc web nodeport-nft/weights=10.244.1.2=3",
        tries=True,
    ),
    Entry(
        "delete",
        "objects:delete",
        CHANGE,
        "Delete objects, and free the numbers that they held",
        "delete service my-ser",
        tries=True,
    ),
    Entry(
        "drain",
        "drain:drain",
        CHANGE,
        "Let nodes or endpoints get no new connections",
        "drain worker-2",
        tries=True,
    ),
    Entry(
        "uncordon",
        "drain:uncordon",
        CHANGE,
        "Let them get new connections again",
        "uncordon worker-2",
        tries=True,
    ),
    Entry(
        "wait",
        "waiting:wait",
        CHANGE,
        "Wait until every node of the cluster has programmed it",
        "wait --for=synced --timeout 30s",
    ),
    Entry(
        "sync",
        "sync:sync",
        NODE,
        "Program this node, once or for as long as it runs",
        "sync -f web.yaml --once",
    ),
    Entry(
        "diff",
        "node:diff",
        NODE,
        "Print what sync would change in the kernel",
        "diff -f web.yaml",
    ),
    Entry(
        "render",
        "node:render",
        NODE,
        "Print the ruleset for a node, without a kernel",
        "render -f web.yaml --node-ip 172.30.1.2 | nft -f -",
    ),
    Entry(
        "status",
        "status:status",
        NODE,
        "Tell how this node's daemon does",
        "status -o json",
    ),
    Entry(
        "doctor",
        "doctor:doctor",
        NODE,
        "Look for all that can be wrong on this node",
        "doctor --connect",
    ),
    Entry(
        "top",
        "top:top",
        NODE,
        "Watch new connections by Service, or by endpoint",
        "top endpoints web --once -o json",
    ),
    Entry(
        "cleanup",
        "node:cleanup",
        NODE,
        "Remove our tables and all else that was left on the node",
        "cleanup",
    ),
    Entry(
        "check",
        "stores:check",
        STORE,
        "Look for what is wrong in the store, and mend it",
        "check --repair",
    ),
    Entry(
        "store",
        "stores:store",
        STORE,
        "Copy a store",
    ),
    Entry(
        "config",
        "configuration:config",
        PROGRAM,
        "Show the configuration in force",
    ),
    Entry(
        "api-resources",
        "about:api_resources",
        PROGRAM,
        "List the kinds of object, and what they may be called",
        "api-resources -o name",
    ),
    Entry(
        "api-versions",
        "about:api_versions",
        example="api-versions",
    ),
    Entry(
        "completion",
        "about:completion",
        PROGRAM,
        "Print the script that lets a shell complete words",
        "completion bash > /etc/bash_completion.d/nodeport-nft",
    ),
    Entry(
        "version",
        "about:version",
        PROGRAM,
        "Print versions: the program's, and what it runs on",
        "version -o yaml",
    ),
    Entry(
        "help",
        "about:help_",
        PROGRAM,
        "Say what a command does, as its --help",
        "help get",
    ),
)


class Program(Verbs):
    """The group of these."""

    entries = COMMANDS


app = typer.Typer(
    cls=Program,
    help="Kubernetes Services on any Linux node, programmed into nftables.\n\n"
    "Options may stand before a command or behind it; COMMAND -h has its own.",
    epilog="Example: nodeport-nft apply -f web.yaml && nodeport-nft sync --once",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)


def _version(wanted: bool) -> None:
    if wanted:
        put(f"nodeport-nft {__version__}")
        raise typer.Exit


def _choose_colour(given: Colour) -> Colour:
    colour.wanted = given
    return given


@app.callback()
def _root(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace.")] = None,
    all_namespaces: AllNamespaces = False,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="PATH", help="A file, etcd://HOST:PORT/PREFIX or kubernetes:."),
    ] = None,
    kubeconfig: Annotated[
        str | None, typer.Option("--kubeconfig", metavar="PATH", help="How to reach an API server.")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig.")
    ] = None,
    config: Annotated[str | None, typer.Option("--config", metavar="PATH", help="Configuration file.")] = None,
    color: Annotated[
        Colour,
        typer.Option(
            "--color",
            metavar="auto|always|never",
            callback=_choose_colour,
            help="Colours; auto: on terminals.",
            show_default=False,
        ),
    ] = Colour.auto,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Flags that a command takes may stand before it, as kubectl has it: ``Verbs`` moves them behind it."""
