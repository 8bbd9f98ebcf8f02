"""``python -m fuzz``: fuzz all targets one after the other, or one of them, or try one input again.

Exits with 1 if anything fell. Ctrl-C ends it with the summary.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import nodeport_nft
from fuzz.engine import Session
from fuzz.targets import TARGETS


def main() -> int:
    options = _options()
    if os.environ.get("PYTHONHASHSEED") != "0":  # what a set gives first would differ from run to run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "fuzz", *sys.argv[1:]])
    package = str(Path(nodeport_nft.__file__).parent) + os.sep
    chosen = [target for target in TARGETS if options.target in (None, target.name)]
    if options.replay:
        return _replay(Session(chosen[0], options.seed, package), options.replay)
    fell = 0
    try:
        for target in chosen:
            fell += _fuzz(Session(target, options.seed, package), options, options.seconds / len(chosen))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130 if not fell else 1
    return 1 if fell else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (60)")
    parser.add_argument("--runs", type=float, default=float("inf"), help="inputs a target, at most")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same inputs (1)")
    parser.add_argument("--target", choices=[target.name for target in TARGETS], help="this one alone")
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"), help="where inputs that fall are written")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try this input alone; needs --target")
    options = parser.parse_args()
    if options.replay and not options.target:
        parser.error("--replay needs --target")
    return options


def _fuzz(session: Session, options: argparse.Namespace, seconds: float) -> int:
    """Fuzz one target; how many kinds of falls there were. Its summary is printed however it ends."""
    try:
        for fall in session.go_on(seconds=seconds, runs=options.runs):
            print(f"{fall.where}: {fall.write(options.output)}", flush=True)
    finally:
        print(
            f"{session.target.name}: {session.runs} inputs, {len(session.corpus)} kept, {session.lines.seen} lines, "
            f"{len(session.falls)} falls",
            flush=True,
        )
    return len(session.falls)


def _replay(session: Session, path: Path) -> int:
    fall = session.attempt(path.read_bytes())
    print(fall.story if fall else "does not fall")
    return 1 if fall else 0


if __name__ == "__main__":
    sys.exit(main())
