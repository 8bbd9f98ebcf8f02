"""The Typer application: every command is registered here, in the order ``--help`` shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from nodeport_nft import __version__
from nodeport_nft.cli import drain, node, objects, show, stores
from nodeport_nft.cli.changing import apply, create
from nodeport_nft.cli.changing.dry_run import Command, CommandGroup
from nodeport_nft.cli.explain import explain
from nodeport_nft.cli.get.command import get
from nodeport_nft.cli.graph import graph
from nodeport_nft.cli.options import BAD_INPUT, AllNamespaces, fail, put
from nodeport_nft.cli.status import status
from nodeport_nft.cli.sync import sync
from nodeport_nft.cli.top import top
from nodeport_nft.cli.trace import trace
from nodeport_nft.cli.verbs import Verbs
from nodeport_nft.cli.waiting import wait

app = typer.Typer(
    cls=Verbs,
    help="Kubernetes Services on any Linux node, programmed into nftables.",
    epilog="Example: nodeport-nft apply -f web.yaml && nodeport-nft sync --once",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        put(f"nodeport-nft {__version__}")
        raise typer.Exit


_ELSEWHERE = {
    "cordon": "nothing is scheduled here; drain NODE lets it get no new connections",
    "undrain": "what undoes drain is uncordon",
}
"""Words that people try, and that are like another command which does the opposite."""


def _elsewhere(word: str, hint: str) -> Callable[[list[str] | None], None]:
    def command(_: Annotated[list[str] | None, typer.Argument(metavar="...")] = None) -> None:
        fail(f"{word} is no command: {hint}", BAD_INPUT)

    return command


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="As with the command: its namespace.")
    ] = None,
    all_namespaces: AllNamespaces = False,
    store: Annotated[str | None, typer.Option("--store", metavar="STORE", help="Its store.")] = None,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", metavar="PATH", help="Its kubeconfig.")] = None,
    context: Annotated[str | None, typer.Option("--context", metavar="NAME", help="And context.")] = None,
    config: Annotated[str | None, typer.Option("--config", metavar="PATH", help="Its configuration.")] = None,
) -> None:
    """Flags that a command takes may stand before it, as kubectl has it: ``Verbs`` moves them behind it."""


_of_service = typer.Typer(
    help="Create a Service.",
    epilog="Example: nodeport-nft create service clusterip my-ser --tcp=8000:80",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _word, _command, _example in (
    ("clusterip", create.create_clusterip, "my-ser --tcp=8000:80"),
    ("nodeport", create.create_nodeport, "my-ser --tcp=8000:80"),
    ("loadbalancer", create.create_loadbalancer, "my-ser --tcp=8000:80"),
    ("externalname", create.create_externalname, "my-ser --external-name db.example"),
):
    _epilog = f"Example: nodeport-nft create service {_word} {_example}"
    _of_service.command(_word, cls=Command, epilog=_epilog)(_command)
_create = typer.Typer(
    cls=CommandGroup,
    epilog="Example: nodeport-nft create -f web.yaml",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode=None,
)
_create.callback()(create.create)
_create.add_typer(_of_service, name="service")
_create.add_typer(_of_service, name="svc", hidden=True)

app.command("apply", cls=Command, epilog="Example: nodeport-nft apply -f web.yaml")(apply.apply)
app.add_typer(_create, name="create")
app.command("replace", cls=Command, epilog="Example: nodeport-nft replace -f web.yaml")(apply.replace)
app.command("delete", cls=Command, epilog="Example: nodeport-nft delete service my-ser")(objects.delete)
app.command("drain", cls=Command, epilog="Example: nodeport-nft drain worker-2")(drain.drain)
app.command("uncordon", cls=Command, epilog="Example: nodeport-nft uncordon worker-2")(drain.uncordon)
app.command("get", epilog="Example: nodeport-nft get services -o wide")(get)
app.command("describe", epilog="Example: nodeport-nft describe service my-ser")(show.describe)
app.command("graph", epilog="Example: nodeport-nft graph my-ser -o svg > my-ser.svg")(graph)
app.command("explain", epilog="Example: nodeport-nft explain service.spec.ports")(explain)
app.command("wait", epilog="Example: nodeport-nft wait --for=synced --timeout 30s")(wait)
app.command("hosts", epilog="Example: nodeport-nft hosts -f web.yaml")(show.hosts)
app.command("sync", epilog="Example: nodeport-nft sync -f web.yaml --once")(sync)
app.command("render", epilog="Example: nodeport-nft render -f web.yaml --node-ip 172.30.1.2 | nft -f -")(node.render)
app.command("diff", epilog="Example: nodeport-nft diff -f web.yaml")(node.diff)
app.command("status", epilog="Example: nodeport-nft status -o json")(status)
app.command(
    "trace", epilog="Example: nodeport-nft trace 192.0.2.7 172.30.1.2 --port 30080 -f web.yaml --node-name worker-1"
)(trace)
app.command("top", epilog="Example: nodeport-nft top endpoints web --once -o json")(top)
app.command("check", epilog="Example: nodeport-nft check --repair")(stores.check)
app.add_typer(stores.store, name="store")
for _word, _hint in _ELSEWHERE.items():
    app.command(_word, hidden=True, context_settings={"ignore_unknown_options": True})(_elsewhere(_word, _hint))
app.command("cleanup", epilog="Example: nodeport-nft cleanup")(node.cleanup)
