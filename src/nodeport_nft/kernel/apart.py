"""``python -m nodeport_nft.kernel.apart``: run the nft commands on stdin as one batch, for ``nft.BULK``'s reason."""

import sys

from nodeport_nft.kernel.nft import KernelError, Nft


def main() -> None:
    """Exit 0 with the output on stdout; else 1, with the reason on stderr."""
    try:
        sys.stdout.write(Nft().run(sys.stdin.read()))
    except KernelError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
