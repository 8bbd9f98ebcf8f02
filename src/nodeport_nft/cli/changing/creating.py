"""``create`` and what stands below it, as one application."""

from __future__ import annotations

import typer

from nodeport_nft.cli.changing import create as make
from nodeport_nft.cli.changing.dry_run import Command, OfCreate
from nodeport_nft.cli.verbs import Commands

_of_service = typer.Typer(
    cls=Commands,
    help="Create a Service.",
    epilog="Example: nodeport-nft create service clusterip my-ser --tcp=8000:80",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _word, _command, _short, _example in (
    ("clusterip", make.create_clusterip, "With an address inside of the cluster", "my-ser --tcp=8000:80"),
    ("nodeport", make.create_nodeport, "And a port on each node", "my-ser --tcp=8000:80"),
    ("loadbalancer", make.create_loadbalancer, "And addresses from outside", "my-ser --tcp=8000:80"),
    ("externalname", make.create_externalname, "A name for another name", "my-ser --external-name db.example"),
):
    _epilog = f"Example: nodeport-nft create service {_word} {_example}"
    _of_service.command(_word, cls=Command, short_help=_short, epilog=_epilog)(_command)
create = typer.Typer(
    cls=OfCreate,
    epilog="Example: nodeport-nft create -f web.yaml",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode=None,
)
create.callback()(make.create)
create.add_typer(_of_service, name="service")
create.add_typer(_of_service, name="svc", hidden=True)
