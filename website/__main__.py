"""``python -m website [OUT]``: builds the site into OUT, else into ``build/docs``. Exit code 1: it could not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from website.closed import requests_to_others
from website.pages import ROOT, BrokenPageError, stage


def main(out: Path) -> int:
    """Build the site; says on stderr what is wrong, with file and line."""
    staged = out.with_name(f"{out.name}-source")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    try:
        stage(staged)
    except BrokenPageError as error:
        print(error, file=sys.stderr)
        return 1
    # -W --keep-going: every warning is told, and all of them are errors; -n: so is a reference to nothing.
    options = ("-W", "--keep-going", "-n", "-q", "-E", "-d", str(out.with_name(f"{out.name}-doctrees")))
    command = [sys.executable, "-m", "sphinx", *options, "-c", str(Path(__file__).parent), str(staged), str(out)]
    if subprocess.run(command, check=False).returncode:
        print(f"the pages in {staged} are copies; website/pages.py says of which files", file=sys.stderr)
        return 1
    if asked := requests_to_others(out):
        print(*asked, sep="\n", file=sys.stderr)
        return 1
    print(f"{out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else ROOT / "build" / "docs"))
