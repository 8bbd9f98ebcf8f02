"""The kernel and libnftables: whether our tables can be written here at all."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from nodeport_nft.compile import compile_schema
from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.flowtable import check_flowtables, left_out
from nodeport_nft.kernel.netlink.batch import OWNED
from nodeport_nft.kernel.nft import too_old
from nodeport_nft.model import Family, NodeFacts
from nodeport_nft.plan import plan_replacement
from nodeport_nft.ruleset import Table

_SECONDS = 30.0  # until a program that tells its version is given up

_LOAD_MODULES = "modprobe -a nf_tables nft_chain_nat nft_numgen nft_masq nft_reject nft_fib_inet nf_conntrack"
_END_OWNER = "end the process that owns the table: the table goes with it, unless it has the flag persist"

_LOADING = "import nftables; nftables.Nftables('libnftables.so.1')"


def _privileges(examination: Examination) -> Iterator[Finding]:
    if examination.may_administer:
        yield ok("CAP_NET_ADMIN, which all of nftables and connection tracking needs")
    else:
        yield failed(
            "CAP_NET_ADMIN is missing",
            "neither tables nor chains can be read or written, and much below is not looked at",
            "run it as root (sudo nodeport-nft doctor)",
        )


def _version(_: Examination) -> Iterator[Finding]:
    release = platform.release()
    old = too_old(release)
    for text in old:
        yield of_text(State.FAILED, text, "the kernel refuses our tables, or treats them otherwise")
    if not old:
        yield ok(f"Linux {release}")


def _features(examination: Examination) -> Iterator[Finding]:
    """Asks the kernel whether it would take our tables, empty; nothing is written."""
    refused = False
    for family in Family:
        schema = compile_schema(family, NodeFacts(examination.name, flowtable=examination.config.flowtable))
        try:
            examination.nft.check([plan_replacement(Table(schema))])
        except KernelError as error:
            if not examination.may_administer:
                raise
            refused = True
            yield failed(
                f"the kernel does not take our IPv{family.value} table: {' '.join(str(error).split())}",
                "no Service can be served",
                _END_OWNER if OWNED in str(error) else _LOAD_MODULES,
            )
    if not refused:
        yield ok("the kernel takes our tables (asked, nothing was written)")


def _libnftables(_: Examination) -> Iterator[Finding]:
    # -P: else Python would look for it where doctor was started, and run what anybody has put there, as root.
    done = subprocess.run(  # noqa: S603 (words of our own)
        [sys.executable, "-P", "-c", _LOADING], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        yield failed(
            f"libnftables cannot be loaded: {said[-1] if said else f'code {done.returncode}'}",
            "chains of other firewalls cannot be looked through",
            "apt-get install libnftables1",
        )
        return
    program = shutil.which("nft")
    version = ""
    if program:
        told = subprocess.run(  # noqa: S603 (words of our own)
            [program, "--version"], capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        found = re.search(r"v([0-9.]+)", told.stdout)
        version = f", nft {found[1]}" if found else ""
    yield ok(f"libnftables is there{version or ', the program nft is not (it is not needed)'}")


def _flowtable(examination: Examination) -> Iterator[Finding]:
    if not examination.config.flowtable:
        yield skipped("flowtable is not switched on")
        return
    try:
        check_flowtables(examination.nft)
    except KernelError as error:
        yield of_text(State.FAILED, str(error), "the daemon does not start with it")
        return
    missing = left_out(examination.host.links)
    for text in missing:
        yield of_text(State.WARNING, text, "connections on these links take the way through all chains")
    if not missing:
        yield ok("the kernel has flowtables")


CHECKS = (
    Check("privileges", "privileges", _privileges),
    Check("kernel-version", "kernel version", _version),
    Check("nftables", "nftables in the kernel", _features),
    Check("libnftables", "libnftables", _libnftables),
    Check("flowtable", "flowtable", _flowtable),
)
