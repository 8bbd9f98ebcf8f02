"""Large tables are loaded in many commits, and packets see all of them at once or nothing (K1)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from lab.namespaces import Namespace, in_namespace
from nodeport_nft.compile import TABLE, compile_schema
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink import others
from nodeport_nft.kernel.netlink.batch import BatchWriter
from nodeport_nft.kernel.netlink.dumps import Interrupted
from nodeport_nft.kernel.netlink.others import read_base_chains
from nodeport_nft.kernel.netlink.transactions import portions
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family
from nodeport_nft.plan import Replace, Transaction, plan_replacement
from nodeport_nft.ruleset import Chain, Element, Goto, InSet, Jump, Memory, Table, Value
from tests.builders import FACTS
from tests.user_namespaces import UNSHARE, need_user_namespaces

pytestmark = pytest.mark.proves("K1")

FRONTENDS, SLOTS = 1500, 6
OWN = "firewall/default/web"
LEARNED = "affinity/default/web/http/1"
Result = TypeVar("Result")


@pytest.fixture
def namespace(private_namespaces: None) -> Iterator[Namespace]:  # noqa: ARG001 (it has to come first)
    made = Namespace()
    yield made
    made.close()


def large(family: Family, verdict: str = "service/8") -> Table:
    """A table with elements of every kind, and with chains and sets of a service; the last leads to ``verdict``."""
    schema = compile_schema(family, FACTS)
    address = "10.96.{}.{}" if family is Family.IPV4 else "fd00:10:96::{:x}:{:x}"
    elements: dict[str, list[Element]] = {
        OWN: [Element(("192.0.2.0/24" if family is Family.IPV4 else "2001:db8::/32",))],
        "service-cidrs": [Element(("10.96.0.0/12" if family is Family.IPV4 else "fd00:10:96::/112",))],
    }
    for number in range(FRONTENDS):
        vip, owner = address.format(1 + number // 200, 1 + number % 200), f"default/service-{number}:http"
        last = number == FRONTENDS - 1
        value: Value = Goto(verdict if last else "service/8")
        elements.setdefault("service-ips", []).append(Element((vip, "tcp", 80), value, owner))
        elements.setdefault("cluster-ips", []).append(Element((vip,)))
        elements.setdefault("service-endpoints", []).extend(
            Element((vip, "tcp", 80, slot), (vip, 8080 + slot), owner) for slot in range(SLOTS)
        )
    rules = (InSet((schema.new_map(OWN).key[0],), OWN), Jump("refuse")), (Jump("firewall-node-ports/default/web"),)
    chains = {name: Chain(name, own) for name, own in ((OWN, rules), ("firewall-node-ports/default/web", ()))}
    return Table(
        schema,
        {name: {element.key: element for element in held} for name, held in elements.items()},
        {name: schema.new_map(name) for name in (OWN, LEARNED)},
        chains,
        {LEARNED: (Memory((address.format(1, 1),), 7_200_000, 7_000_000),)},
    )


def tables(verdict: str = "service/8") -> list[Table]:
    return [large(Family.IPV4), large(Family.IPV6, verdict)]


def replacing(made: list[Table]) -> list[Transaction]:
    return [plan_replacement(table, table.memories) for table in made]


def holds(nft: Nft, made: list[Table]) -> bool:
    """Whether the kernel has just these tables."""
    for table in made:
        listed = nft.list_table(table.schema)
        if listed is None or listed.differences:
            return False
        assert {name: dict(held) for name, held in listed.elements.items() if held} == table.elements
        assert dict(listed.own_maps) == table.maps
        assert dict(listed.own_chains) == table.chains
        assert [(m.key, m.timeout) for m in listed.memories[LEARNED]] == [
            (m.key, m.timeout) for m in table.memories[LEARNED]
        ]
    return True


def hooked() -> set[str]:
    return {chain.family for chain in read_base_chains() if chain.table == TABLE}


def inside(namespace: Namespace, run: Callable[[], Result]) -> Result:
    return in_namespace(namespace, run, timeout=120)


def test_packets_see_nothing_until_all_is_there(namespace: Namespace) -> None:
    def run() -> None:
        made, writer, nft = tables(), BatchWriter(), Nft()
        batches = list(portions(made))
        assert len(batches) > 4
        for batch in batches[:-1]:
            writer.commit(batch)
            assert not hooked()
        assert not holds(nft, made), "it is not taken for whole"
        writer.commit(batches[-1])
        assert hooked() == {"ip", "ip6"}
        assert holds(nft, made)

    inside(namespace, run)


def test_what_is_loaded_is_what_one_commit_would_have_written(namespace: Namespace) -> None:
    def run() -> None:
        made, nft = tables(), Nft()
        assert nft.apply(replacing(made)) > 4
        loaded = listing()
        assert holds(nft, made)
        assert nft.apply(replacing(made)) == 1, "packets see it now"
        assert listing() == loaded
        assert holds(nft, made)

    inside(namespace, run)


def listing() -> list[str]:
    """Both tables as nft lists them, without the order of elements, counters and times."""
    ran = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True, timeout=60)
    lines = [line.strip().removeprefix("elements = { ").rstrip(",} ") for line in ran.stdout.splitlines()]
    return sorted(line.partition(" expires ")[0] for line in lines)


def test_where_packets_are_led_to_a_table_it_is_exchanged_in_one_commit(namespace: Namespace) -> None:
    def run() -> None:
        nft = Nft()
        nft.apply([plan_replacement(Table(compile_schema(Family.IPV6, FACTS)))])
        made = tables()
        assert nft.apply(replacing(made)) == 1
        assert holds(nft, made)

    inside(namespace, run)


def test_where_it_is_not_known_whether_packets_are_led_to_a_table_it_is_exchanged_in_one_commit(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[bytes]:
        raise Interrupted
        yield

    def run() -> None:
        made, nft = tables(), Nft()
        nft.apply(replacing(made))
        with monkeypatch.context() as patched:
            patched.setattr(others, "dump", interrupted)  # somebody commits all the time
            assert nft.apply(replacing(made)) == 1
        assert holds(nft, made)

    inside(namespace, run)


def test_it_is_the_namespace_of_the_sockets_in_which_packets_are_led_to_a_table(namespace: Namespace) -> None:
    with namespace.entered():
        nft = Nft()
    made = tables()
    assert nft.apply(replacing(made)) > 4
    assert nft.apply(replacing(made)) == 1
    assert holds(nft, made)
    nft.close()


def test_a_load_that_is_refused_leaves_nothing_and_nobody_is_blamed(namespace: Namespace, tmp_path: Path) -> None:
    def run() -> None:
        kernel = KernelTables(str(tmp_path))
        with pytest.raises(KernelError, match=r"ip6 nodeport-nft service-ips: No such file(?s:.*)"):
            kernel.apply(replacing(tables(verdict="firewall/not/there")))
        assert not kernel.nft.has_table("ip", TABLE)
        assert not kernel.nft.has_table("ip6", TABLE)
        assert kernel.others() == (), "all of it was our own doing"
        kernel.apply(replacing(tables()))
        assert kernel.others() == ()
        assert holds(kernel.nft, tables())

    inside(namespace, run)


def test_a_load_of_what_no_table_can_have_leaves_nothing(namespace: Namespace) -> None:
    def run() -> None:
        nft, [four, six] = Nft(), tables()
        six.elements["service-ips"]["nonsense",] = Element(("nonsense",))  # type: ignore[index]
        with pytest.raises(KernelError, match="nothing was changed"):
            nft.apply([Transaction(t.schema.family, TABLE, (Replace(t),)) for t in (four, six)])
        assert not nft.has_table("ip", TABLE)
        assert not nft.has_table("ip6", TABLE)

    inside(namespace, run)


KILLED = """
import os, signal, sys
from nodeport_nft.kernel.nft import Nft
from tests.netns.test_loading import replacing, tables

class Dying(Nft):
    def _commit(self, batch):
        super()._commit(batch)
        if self.commits == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

Dying().apply(replacing(tables()))
"""


@pytest.mark.parametrize("commits", [1, 4])
def test_who_is_killed_in_between_leaves_what_no_packet_sees_and_the_next_replaces(
    namespace: Namespace, commits: int
) -> None:
    def run() -> None:
        command = [sys.executable, "-c", KILLED, str(commits)]
        ran = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60, check=False)
        assert ran.returncode == -signal.SIGKILL
        made, nft = tables(), Nft()
        assert nft.has_table("ip", TABLE)
        assert not hooked()
        listed = nft.list_table(made[0].schema)
        assert listed is not None
        assert "chain nat-prerouting" in listed.differences
        assert nft.apply(replacing(made)) > 4, "no packet sees it, so that it need not be one commit"
        assert holds(nft, made)

    inside(namespace, run)


IN_A_USER_NAMESPACE = """
from pathlib import Path
from nodeport_nft.kernel.netlink.transactions import encode
from nodeport_nft.kernel.nft import Nft
from tests.netns.test_loading import holds, replacing, tables
most = 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())
print("too long" if len(encode(replacing(tables()))) > most else "short")
nft = Nft()
nft.apply(replacing(tables()))
assert holds(nft, tables())
"""


def test_what_no_socket_takes_at_once_is_loaded_all_the_same() -> None:
    """In a user namespace the send buffer cannot be forced larger (EMSGSIZE)."""
    need_user_namespaces()
    command = [*UNSHARE, sys.executable, "-c", IN_A_USER_NAMESPACE]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    if ran.stdout == "short\n":
        pytest.skip("this kernel takes the tables as a whole in a user namespace, too")
