"""``python -m nodeport_nft.kernel.apart [--check]``: run the nft commands on stdin as one batch.

In a process of its own for ``nft.BULK``'s reason. ``--check``: the kernel looks at them and carries out none.
"""

import ctypes
import signal
import sys

from nodeport_nft.kernel.nft import CHECK, KernelError, Nft
from nodeport_nft.scarcity import scarcity

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Exit 0 with the output on stdout; else 1, with the reason on stderr."""
    # Nobody would hear of what is committed after the parent's end.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        sys.stdout.write(Nft().run(sys.stdin.read(), dry=CHECK in sys.argv))
    except (KernelError, MemoryError) as error:
        print(scarcity(error) or error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
