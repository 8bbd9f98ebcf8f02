"""``--tcp``, ``--udp``, ``--sctp``: PORT[:TARGET] → the ports of a Service."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

TCPPorts = Annotated[
    list[str] | None,
    typer.Option("--tcp", metavar="PORT[:TARGET]", help="TCP port and the pods' port (number or name); repeatable."),
]
UDPPorts = Annotated[list[str] | None, typer.Option("--udp", metavar="PORT[:TARGET]", help="The same for UDP.")]
SCTPPorts = Annotated[list[str] | None, typer.Option("--sctp", metavar="PORT[:TARGET]", help="The same for SCTP.")]

_NUMBER = re.compile(r"[0-9]{1,5}")


def number_or_name(text: str) -> int | str:
    """A target port: a number where it is one, else a port's name."""
    return int(text) if _NUMBER.fullmatch(text) else text


def parse_ports(tcp: list[str] | None, udp: list[str] | None, sctp: list[str] | None) -> list[dict[str, Any]]:
    """The ports of the options. Raises Problems with all that are none.

    A single port has no name, as in most manifests; several are called by their text ("8000-80"), as kubectl does,
    and by their protocol where two of a text differ in it alone.
    """
    from nodeport_nft.problems import Problem, Problems

    problems = []
    ports: list[dict[str, Any]] = []
    for protocol, texts in (("TCP", tcp), ("UDP", udp), ("SCTP", sctp)):
        for text in (part for option in texts or [] for part in option.split(",")):
            number, colon, target = text.partition(":")
            if not _NUMBER.fullmatch(number) or (colon and not target):
                remedy = "write PORT or PORT:TARGET, such as 8000:80"
                problems.append(Problem("", "", f"--{protocol.lower()}", f"{text!r} is not a port; {remedy}"))
                continue
            name = text.replace(":", "-")
            if any(port["protocol"] != protocol and port["name"] == name for port in ports):
                name = f"{name}-{protocol.lower()}"
            target_port = number_or_name(target or number)
            ports.append({"name": name, "port": int(number), "protocol": protocol, "targetPort": target_port})
    if problems:
        raise Problems(tuple(problems))
    if len(ports) == 1:
        del ports[0]["name"]
    return ports
