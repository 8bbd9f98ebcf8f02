"""Who changed our tables, told by the real kernel's events: own writes are nobody's, others' are told (K8)."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select

import pytest

from lab.namespaces import Namespace, in_namespace
from nodeport_nft.compile import TABLE
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.events import TableEvents
from nodeport_nft.kernel.nft import Nft
from tests.by_text import run_text
from tests.user_namespaces import UNSHARE, need_user_namespaces

pytestmark = pytest.mark.proves("K8")

BASE = "".join(
    f"add table {family} {TABLE}\nadd set {family} {TABLE} numbers {{ type inet_service; }}\n"
    for family in ("ip", "ip6")
)
ONE = f"add element ip {TABLE} numbers {{ 1 }}\n"
TWO = f"add element ip {TABLE} numbers {{ 2 }}\n"
SIX = f"add element ip6 {TABLE} numbers {{ 1 }}\n"
OTHER = "add table ip theirs\nadd table inet nodeport-nft\n"
BULK = f"add element ip {TABLE} numbers {{ {', '.join(map(str, range(1000, 5000)))} }}\n"
SMALL_BUFFER = 4096


@pytest.fixture
def namespace(private_namespaces: None) -> Iterator[Namespace]:  # noqa: ARG001 (it has to come first)
    made = Namespace()
    yield made
    made.close()


Step = Callable[["Watched"], None]


class Watched:
    """The tables, with a writer of our own and one that is not."""

    def __init__(self) -> None:
        self.nft = Nft()
        run_text(self.nft, BASE)
        self.events = TableEvents()

    def own(self, text: str) -> None:
        before = self.events.generation()
        run_text(self.nft, text)
        self.events.wrote(before, 1)

    def own_away(self, *steps: Step) -> None:
        with self.events.away():
            for step in steps:
                step(self)

    def foreign(self, text: str) -> None:
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True, timeout=60)

    def shrink(self) -> None:
        """Let the socket hold a few messages only."""
        self.events._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)


def own(text: str) -> Step:
    return lambda tables: tables.own(text)


def foreign(text: str) -> Step:
    return lambda tables: tables.foreign(text)


def told(namespace: Namespace, *steps: Step, shrink: bool = False) -> tuple[tuple[str, ...], int]:
    """What is told after these steps, and how often the socket had overflowed by then."""

    def run() -> tuple[tuple[str, ...], int]:
        tables = Watched()
        if shrink:
            tables.shrink()
        lost: list[bool] = []
        drain = tables.events._drain

        def noted() -> bool:
            lost.append(drain())
            return lost[-1]

        tables.events._drain = noted  # type: ignore[method-assign]  # it is still the one that drains
        for step in steps:
            step(tables)
        others = tables.events.read()
        assert tables.events.read() == (), "told once"
        return others, sum(lost)

    return in_namespace(namespace, run)


NOBODY = {
    "an own write": (own(ONE),),
    "two own writes": (own(ONE), own(TWO)),
    "an own write to IPv6": (own(SIX),),
    "a table of another name or family": (foreign(OTHER),),
    "both": (own(ONE), foreign(OTHER), own(TWO)),
}
SOMEBODY = {
    "a foreign write": (foreign(ONE),),
    "a foreign write to IPv6": (foreign(SIX),),
    "before an own write": (foreign(ONE), own(TWO)),
    "after an own write": (own(ONE), foreign(TWO)),
    "between own writes": (own(ONE), foreign(TWO), own(SIX)),
    "the table is lost": (foreign(f"delete table ip {TABLE}"),),
    "everything is lost": (foreign("flush ruleset"),),
    "a chain": (foreign(f"add chain ip {TABLE} theirs"),),
}


@pytest.mark.parametrize("case", NOBODY)
def test_what_is_nobodys(namespace: Namespace, case: str) -> None:
    assert told(namespace, *NOBODY[case]) == ((), 0)


@pytest.mark.parametrize("case", SOMEBODY)
def test_others_are_told_by_name(namespace: Namespace, case: str) -> None:
    others, lost = told(namespace, *SOMEBODY[case])
    assert len(others) == 1
    assert others[0].startswith("nft (pid ")
    assert lost == 0


def test_a_foreign_write_while_we_write_is_told(namespace: Namespace) -> None:
    def during(tables: Watched) -> None:
        before = tables.events.generation()
        tables.foreign(ONE)
        run_text(tables.nft, TWO)
        tables.events.wrote(before, 1)

    others, _ = told(namespace, during)
    assert any(who.startswith("nft (pid ") for who in others)


def test_a_write_of_ours_that_is_refused_hides_nobody(namespace: Namespace) -> None:
    def refused(tables: Watched) -> None:
        tables.foreign(ONE)
        before = tables.events.generation()
        tables.events.wrote(before, 0)

    assert len(told(namespace, refused)[0]) == 1


OVERFLOWS_OF_OURS = {
    "alone": (own(BULK),),
    "after a small one": (own(ONE), own(BULK)),
    "before a small one": (own(BULK), own(ONE)),
}
OVERFLOWS_WITH_OTHERS = {
    "before": (foreign(ONE), own(BULK)),
    "after": (own(BULK), foreign(ONE)),
    "between": (own(ONE), foreign(TWO), own(BULK)),
    "theirs": (foreign(BULK),),
}


@pytest.mark.parametrize("case", OVERFLOWS_OF_OURS)
def test_events_lost_by_own_writes_alone_are_nobodys(namespace: Namespace, case: str) -> None:
    others, lost = told(namespace, *OVERFLOWS_OF_OURS[case], shrink=True)
    assert lost, "or this proves nothing"
    assert others == ()


@pytest.mark.parametrize("case", OVERFLOWS_WITH_OTHERS)
def test_events_lost_do_not_hide_others(namespace: Namespace, case: str) -> None:
    others, lost = told(namespace, *OVERFLOWS_WITH_OTHERS[case], shrink=True)
    assert lost, "or this proves nothing"
    assert others


def test_after_events_were_lost_what_follows_is_told_right(namespace: Namespace) -> None:
    def lose(tables: Watched) -> None:
        tables.own(BULK)
        assert tables.events.read() == ()

    assert told(namespace, lose, foreign(OTHER), shrink=True)[0] == ()
    others, _ = told(namespace, foreign("flush ruleset\n" + BASE), lambda _: None)
    assert len(others) == 1


def test_looking_and_running_dry_change_and_tell_nothing(namespace: Namespace) -> None:
    def run() -> tuple[tuple[str, ...], int, bool]:
        tables = Watched()
        before, listing = tables.events.generation(), run_text(tables.nft, "list ruleset")
        run_text(tables.nft, ONE + f"delete table ip6 {TABLE}\n", dry=True)
        assert run_text(tables.nft, "list ruleset") == listing
        return tables.events.read(), tables.events.generation() - before, bool(listing)

    assert in_namespace(namespace, run) == ((), 0, True)


IN_A_PID_NAMESPACE = """
import os, subprocess
from tests.netns.test_events import ONE, OTHER, TWO, SIX, Watched
assert os.getpid() == 1
tables = Watched()
tables.own(ONE)
tables.foreign(OTHER)
assert tables.events.read() == ()
tables.own(TWO)
tables.foreign(SIX)
[who] = tables.events.read()
assert who.startswith("nft (pid "), who
print("well")
"""


def test_in_a_pid_namespace_of_its_own(namespace: Namespace) -> None:
    root = Path(__file__).parents[2]

    def run() -> str:
        command = ["unshare", "--pid", "--fork", sys.executable, "-c", IN_A_PID_NAMESPACE]
        ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
        return ran.stdout + ran.stderr

    assert in_namespace(namespace, run, timeout=90) == "well\n"


def away(*steps: Step) -> Step:
    return lambda tables: tables.own_away(*steps)


AWAY_ALONE = {
    "one write": (away(own(BULK)),),
    "several": (away(own(BULK), own(ONE), own(SIX)),),
    "nothing": (away(),),
    "beside others": (own(ONE), away(own(BULK)), own(SIX)),
    "twice": (away(own(BULK)), away(own(TWO))),
}
AWAY_WITH_OTHERS = {
    "before": (foreign(ONE), away(own(BULK))),
    "after": (away(own(BULK)), foreign(ONE)),
    "within, before": (away(foreign(ONE), own(BULK)),),
    "within, after": (away(own(BULK), foreign(ONE)),),
    "within, beside our own": (own(ONE), away(own(BULK), foreign(TWO)), own(SIX)),
    "alone": (away(foreign(ONE)),),
}


@pytest.mark.parametrize("case", AWAY_ALONE)
def test_what_we_write_while_nobody_listens_is_nobodys(namespace: Namespace, case: str) -> None:
    assert told(namespace, *AWAY_ALONE[case]) == ((), 0)


@pytest.mark.parametrize("case", AWAY_WITH_OTHERS)
def test_what_others_write_while_nobody_listens_is_told(namespace: Namespace, case: str) -> None:
    others, lost = told(namespace, *AWAY_WITH_OTHERS[case])
    assert others
    assert lost == 0, "nothing overflows"


def test_who_listens_again_is_told_of_single_elements(namespace: Namespace) -> None:
    def run() -> tuple[int, tuple[str, ...], int]:
        tables = Watched()
        tables.own_away(own(BULK), foreign(ONE))
        waiting = len(tables.events._events.recv(1 << 16)) if select([tables.events], [], [], 0)[0] else 0
        assert tables.events.read()
        assert tables.events.elements is None, "which they were is not known"
        tables.foreign(TWO)
        others = tables.events.read()
        return waiting, others, len(tables.events.elements or ())

    waiting, others, elements = in_namespace(namespace, run)
    assert waiting == 0, "the kernel has told nobody"
    assert len(others) == elements == 1
    assert others[0].startswith("nft (pid ")


def test_who_cannot_listen_again_is_told_by_the_count_and_listens_later(namespace: Namespace) -> None:
    def run() -> list[object]:
        tables = Watched()
        join = tables.events._join

        def refuse(membership: int) -> None:
            if membership == 1:  # NETLINK_ADD_MEMBERSHIP
                raise KernelError("no memory")
            join(membership)

        tables.events._join = refuse  # type: ignore[method-assign]
        tables.own_away(own(BULK))
        found: list[object] = [tables.events.read()]
        for text in (ONE, TWO):
            tables.foreign(text)
            found.append(bool(tables.events.read()))
        tables.events._join = join  # type: ignore[method-assign]
        tables.events.listen()
        found.append(tables.events.read())
        tables.foreign(SIX)
        tables.events.read()
        return [*found, len(tables.events.elements or ())]

    assert in_namespace(namespace, run) == [(), True, True, (), 1]


# --- a transaction that is too long -------------------------------------------

TOO_LONG = """
import sys
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.errors import KernelError
from nodeport_nft.reconcile import NodeState, Reconciler
from tests.builders import FACTS
from tests.by_text import run_text

tables = KernelTables(sys.argv[1])
known = tables.read(FACTS)
try:
    Reconciler(tables, NodeState(FACTS, known), known).sync()
except KernelError as error:
    print(error)
    assert not run_text(tables.nft, "list tables")
"""


def test_where_the_kernel_takes_no_long_batch_it_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    """In a user namespace the send buffer cannot be forced larger (EMSGSIZE); our tables alone are too long then."""
    need_user_namespaces()
    command = [*UNSHARE, sys.executable, "-c", TOO_LONG, str(tmp_path / "store.db")]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    if not ran.stdout:
        pytest.skip("this kernel takes the tables as a whole in a user namespace, too")
    assert "Message too long" in ran.stdout
    assert "nothing was changed" in ran.stdout
