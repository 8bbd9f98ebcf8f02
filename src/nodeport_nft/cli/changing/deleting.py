"""What kubectl takes besides where it deletes, and which has no meaning where an object is gone at once."""

from __future__ import annotations

from typing import Annotated

import typer

Cascade = Annotated[str | None, typer.Option("--cascade", metavar="MODE", hidden=True)]
Force = Annotated[bool, typer.Option("--force", hidden=True)]
GracePeriod = Annotated[int | None, typer.Option("--grace-period", metavar="SECONDS", hidden=True)]
Now = Annotated[bool, typer.Option("--now", hidden=True)]
Wait = Annotated[bool | None, typer.Option("--wait/--no-wait", hidden=True)]
Limit = Annotated[str | None, typer.Option("--timeout", metavar="DURATION", hidden=True)]
Evicting = Annotated[bool, typer.Option("--ignore-daemonsets", hidden=True)]
Emptying = Annotated[bool, typer.Option("--delete-emptydir-data", "--delete-local-data", hidden=True)]
Deleting = Annotated[bool, typer.Option("--disable-eviction", hidden=True)]
"""The last three, and some of the others, are kubectl's for draining a node, whose pods it evicts."""
