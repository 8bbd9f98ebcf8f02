"""``python -m bench [SCENARIO …] [--full] …``: everyone side by side, as tables and as JSON. As root.

A scenario is a file in ``bench/scenarios`` by its name; without any, all of them that take minutes, with ``--full``
the others too. See ``bench/__init__.py`` for who is measured and how.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, server_of, tests_own_server
from bench.contestants.chains import Chains
from bench.contestants.program import Program, compile_program
from bench.contestants.served import KubeProxy, ServedProgram
from bench.forwarding import Forwarder
from bench.machine import machine
from bench.report import RESULT, tables
from bench.running import Makers, run
from bench.scenario import DIRECTORY, ScenarioWrong, read_scenarios
from lab.namespaces import LabError, enter_private_namespaces


def main(words: Sequence[str]) -> int:
    arguments = _parser().parse_args(words)
    if bool(arguments.kube_proxy) and not arguments.kubeconfig:
        print("--kube-proxy wants a --kubeconfig too", file=sys.stderr)
        return 2
    try:
        scenarios = read_scenarios(arguments.scenarios, full=arguments.full, names=arguments.names)
    except ScenarioWrong as error:
        print(error, file=sys.stderr)
        return 2
    # Whoever is told to end takes with it what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as stack:
        try:
            makers = _makers(arguments, stack)
        except (LabError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        compile_program()
        measured: list[dict[str, Any]] = []
        result = {"machine": machine(), "command": ["python", "-m", "bench", *words], "scenarios": measured}
        for scenario in scenarios:
            begin = time.monotonic()
            results = run(scenario, makers)
            measured.append(
                {
                    "name": scenario.name,
                    "services": scenario.services,
                    "endpoints": scenario.endpoints,
                    "seconds": round(time.monotonic() - begin, 1),
                    "samples": results.samples,
                    "notes": results.notes,
                }
            )
            # After each: what was measured by then is kept, whatever becomes of the rest.
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(tables(result))
    print(
        f"\n{arguments.out} has every sample; `python -m bench.report {arguments.out}` makes tables and plots of it."
    )
    return 0


def _makers(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Makers:
    """Everyone who is to be measured; this process is in namespaces of its own after that.

    Raises LabError, and ValueError where the API server has no IPv4 address.
    """
    makers: Makers = {Program.name: Program, Chains.name: Chains}
    if arguments.kubeconfig:
        kubeconfig, load = Path(arguments.kubeconfig).resolve(), None
        forwarder = stack.enter_context(Forwarder(server_of(kubeconfig)))
        enter_private_namespaces()
    else:
        enter_private_namespaces()
        if arguments.api_server:
            kubeconfig, load = stack.enter_context(tests_own_server())
            forwarder = stack.enter_context(Forwarder(server_of(kubeconfig)))
    if arguments.kubeconfig or arguments.api_server:
        cluster = Cluster(kubeconfig, forwarder, load)
        stack.callback(cluster.close)
        if arguments.kubeconfig:
            cluster.attach_here()
        makers[ServedProgram.name] = partial(ServedProgram, cluster=cluster)
        if arguments.kube_proxy:
            program = Path(arguments.kube_proxy).resolve()
            makers[KubeProxy.name] = partial(KubeProxy, cluster=cluster, program=program)
    only = set(arguments.only or makers)
    return {name: make for name, make in makers.items() if name in only}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, add_help=True)
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help="names of files in the folder of scenarios")
    parser.add_argument("--full", action="store_true", help="also the scenarios that take long")
    parser.add_argument("--scenarios", type=Path, default=DIRECTORY, metavar="FOLDER", help="another folder of them")
    parser.add_argument("--only", action="append", metavar="NAME", help="one of those measured; again for more")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE", help=f"default: {RESULT}")
    parser.add_argument("--kube-proxy", metavar="PATH", help="the program, which is measured too")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="of an API server that is for nothing else; it is filled"
    )
    parser.add_argument("--api-server", action="store_true", help="the program over the tests' own API server too")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
