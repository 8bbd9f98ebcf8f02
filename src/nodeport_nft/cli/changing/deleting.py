"""What kubectl takes besides where it deletes, and which has no meaning where an object is gone at once."""

from __future__ import annotations

from typing import Annotated

import typer

Cascade = Annotated[str | None, typer.Option("--cascade", metavar="MODE", hidden=True)]
Force = Annotated[bool, typer.Option("--force", hidden=True)]
GracePeriod = Annotated[int | None, typer.Option("--grace-period", metavar="SECONDS", hidden=True)]
Now = Annotated[bool, typer.Option("--now", hidden=True)]
Wait = Annotated[bool | None, typer.Option("--wait/--no-wait", hidden=True)]
