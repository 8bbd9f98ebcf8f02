"""The Typer application: every command is registered here, in the order and groups in which ``--help`` shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from nodeport_nft import __version__
from nodeport_nft.cli import about, colour, configuration, drain, node, objects, show, stores
from nodeport_nft.cli.changing import apply, create, edit, expose, labels
from nodeport_nft.cli.changing.dry_run import Command, OfCreate
from nodeport_nft.cli.colour import Colour
from nodeport_nft.cli.doctor import doctor
from nodeport_nft.cli.explain import explain
from nodeport_nft.cli.get.command import get
from nodeport_nft.cli.graph import graph
from nodeport_nft.cli.options import AllNamespaces, put
from nodeport_nft.cli.status import status
from nodeport_nft.cli.sync import sync
from nodeport_nft.cli.top import top
from nodeport_nft.cli.trace import trace
from nodeport_nft.cli.verbs import WIDTH, Commands, Verbs
from nodeport_nft.cli.waiting import wait

LOOK = "Look at objects"
CHANGE = "Change objects"
NODE = "This node"
STORE = "The store"
PROGRAM = "The program"

app = typer.Typer(
    cls=Verbs,
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
        str | None, typer.Option("--kubeconfig", metavar="PATH", help="How to come to an API server.")
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


_of_service = typer.Typer(
    cls=Commands,
    help="Create a Service.",
    epilog="Example: nodeport-nft create service clusterip my-ser --tcp=8000:80",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _word, _command, _short, _example in (
    ("clusterip", create.create_clusterip, "With an address inside of the cluster", "my-ser --tcp=8000:80"),
    ("nodeport", create.create_nodeport, "And a port on each node", "my-ser --tcp=8000:80"),
    ("loadbalancer", create.create_loadbalancer, "And addresses from outside", "my-ser --tcp=8000:80"),
    ("externalname", create.create_externalname, "A name for another name", "my-ser --external-name db.example"),
):
    _epilog = f"Example: nodeport-nft create service {_word} {_example}"
    _of_service.command(_word, cls=Command, short_help=_short, epilog=_epilog)(_command)
_create = typer.Typer(
    cls=OfCreate,
    epilog="Example: nodeport-nft create -f web.yaml",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode=None,
)
_create.callback()(create.create)
_create.add_typer(_of_service, name="service")
_create.add_typer(_of_service, name="svc", hidden=True)

# short_help is the command's line in the list, of which nothing is cut: the first sentence of its help where it is
# short enough for one line.

app.command(
    "get",
    rich_help_panel=LOOK,
    short_help="List services, endpoints, endpointslices, pods or nodes",
    epilog="Example: nodeport-nft get services -o wide",
)(get)
app.command(
    "describe",
    rich_help_panel=LOOK,
    short_help="Show objects in detail, and why a Service has no endpoints",
    epilog="Example: nodeport-nft describe service my-ser",
)(show.describe)
app.command(
    "explain",
    rich_help_panel=LOOK,
    short_help="Say what fields of manifests mean here",
    epilog="Example: nodeport-nft explain service.spec.ports",
)(explain)
app.command(
    "graph",
    rich_help_panel=LOOK,
    short_help="Draw a Service with its frontends, endpoints and nodes",
    epilog="Example: nodeport-nft graph my-ser -o svg > my-ser.svg",
)(graph)
app.command(
    "trace",
    rich_help_panel=LOOK,
    short_help="Follow a connection through a node's tables to its endpoints",
    epilog="Example: nodeport-nft trace pod/web-1 svc/my-ser",
)(trace)
app.command(
    "hosts",
    rich_help_panel=LOOK,
    short_help="Print lines for a hosts file with the services' names",
    epilog="Example: nodeport-nft hosts -f web.yaml",
)(show.hosts)

app.command(
    "apply",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Store the objects of manifests",
    epilog="Example: nodeport-nft apply -f web.yaml",
)(apply.apply)
app.add_typer(
    _create, name="create", rich_help_panel=CHANGE, short_help="Create objects of manifests, or a Service without one"
)
app.command(
    "replace",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Have objects be as manifests say, and nothing else of them",
    epilog="Example: nodeport-nft replace -f web.yaml",
)(apply.replace)
app.command(
    "edit",
    rich_help_panel=CHANGE,
    short_help="Change objects in an editor",
    epilog="Example: nodeport-nft edit service my-ser",
)(edit.edit)
app.command(
    "expose",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Create a Service for a pod, or for another one's pods",
    epilog="Example: nodeport-nft expose pod web-1 --port 80 --type NodePort",
)(expose.expose)
app.command(
    "label",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Set labels of objects, or take them away",
    epilog="Example: nodeport-nft label pod web-1 tier=front canary-",
)(labels.label)
app.command(
    "annotate",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Set annotations of objects, or take them away",
    epilog="Example: nodeport-nft annotate svc web nodeport-nft/weights=10.244.1.2=3",
)(labels.annotate)
app.command(
    "delete",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Delete objects, and free the numbers that they held",
    epilog="Example: nodeport-nft delete service my-ser",
)(objects.delete)
app.command(
    "drain",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Let nodes or endpoints get no new connections",
    epilog="Example: nodeport-nft drain worker-2",
)(drain.drain)
app.command(
    "uncordon",
    cls=Command,
    rich_help_panel=CHANGE,
    short_help="Let them get new connections again",
    epilog="Example: nodeport-nft uncordon worker-2",
)(drain.uncordon)
app.command(
    "wait",
    rich_help_panel=CHANGE,
    short_help="Wait until every node of the cluster has programmed it",
    epilog="Example: nodeport-nft wait --for=synced --timeout 30s",
)(wait)

app.command(
    "sync",
    rich_help_panel=NODE,
    short_help="Program this node, once or for as long as it runs",
    epilog="Example: nodeport-nft sync -f web.yaml --once",
)(sync)
app.command(
    "diff",
    rich_help_panel=NODE,
    short_help="Print what sync would change in the kernel",
    epilog="Example: nodeport-nft diff -f web.yaml",
)(node.diff)
app.command(
    "render",
    rich_help_panel=NODE,
    short_help="Print the ruleset for a node, without a kernel",
    epilog="Example: nodeport-nft render -f web.yaml --node-ip 172.30.1.2 | nft -f -",
)(node.render)
app.command(
    "status",
    rich_help_panel=NODE,
    short_help="Tell how this node's daemon does",
    epilog="Example: nodeport-nft status -o json",
)(status)
app.command(
    "doctor",
    rich_help_panel=NODE,
    short_help="Look for all that can be wrong on this node",
    epilog="Example: nodeport-nft doctor --connect",
)(doctor)
app.command(
    "top",
    rich_help_panel=NODE,
    short_help="Watch new connections by Service, or by endpoint",
    epilog="Example: nodeport-nft top endpoints web --once -o json",
)(top)
app.command(
    "cleanup",
    rich_help_panel=NODE,
    short_help="Remove our tables and all else that was left on the node",
    epilog="Example: nodeport-nft cleanup",
)(node.cleanup)

app.command(
    "check",
    rich_help_panel=STORE,
    short_help="Look for what is wrong in the store, and mend it",
    epilog="Example: nodeport-nft check --repair",
)(stores.check)
app.add_typer(stores.store, name="store", rich_help_panel=STORE)

app.add_typer(configuration.config, name="config", rich_help_panel=PROGRAM)
app.command(
    "api-resources",
    rich_help_panel=PROGRAM,
    short_help="List the kinds of object, and what they may be called",
    epilog="Example: nodeport-nft api-resources -o name",
)(about.api_resources)
app.command("api-versions", hidden=True, epilog="Example: nodeport-nft api-versions")(about.api_versions)
app.command(
    "completion",
    rich_help_panel=PROGRAM,
    short_help="Print what has a shell complete words by the Tab key",
    epilog="Example: nodeport-nft completion bash > /etc/bash_completion.d/nodeport-nft",
)(about.completion)
app.command(
    "version",
    rich_help_panel=PROGRAM,
    short_help="Print versions: the program's, and what it runs on",
    epilog="Example: nodeport-nft version -o yaml",
)(about.version)
app.command(
    "help",
    rich_help_panel=PROGRAM,
    short_help="Say what a command does, as its --help",
    epilog="Example: nodeport-nft help get",
)(about.help_)
