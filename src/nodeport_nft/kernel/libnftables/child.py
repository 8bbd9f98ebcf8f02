"""``python -m nodeport_nft.kernel.libnftables.child FD``: libnftables where it never meets the kernel.

It is a compiler here: nft's language in, netlink messages out; or the other way round for listings. Its netlink
socket is replaced by descriptor FD, at whose other end ``library`` answers in the kernel's place and takes what is to
be written. So whatever ends libnftables ends this process alone, and nothing is half done by that.

Imports as little as it can: it is started while a change waits.
"""

import mmap
import os
import signal
import socket
import stat
import struct
import sys

_LIBRARY = "libnftables.so.1"

REQUEST = struct.Struct("=Q")
"""Bytes of the commands that follow."""

REPLY = struct.Struct("=iQQ")
"""libnftables' code, bytes of its output, bytes of its words about errors; both follow."""

NO_MEMORY, NO_LIBRARY = 64, 65
"""Exit codes: too little memory for a command, which would end libnftables; no libnftables, and why on stderr."""

_ROOM, _ROOM_EACH = 16 << 20, 8
"""Bytes that a command may need, and for each of its characters; rather too many than too few."""


def main() -> None:
    """Run one command after the other until the parent ends or wants no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the parent
    try:
        import nftables

        library = nftables.Nftables(_LIBRARY)
    except (ImportError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(NO_LIBRARY)
    _replace_socket(int(sys.argv[1]))
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    while header := requests.read(REQUEST.size):
        (size,) = REQUEST.unpack(header)
        text = requests.read(size)
        _make_sure_of_room(size)
        # Not the binding's own method: it wants all of it to be UTF-8, and others may name their tables as they like.
        context = library._Nftables__ctx
        code = library.nft_run_cmd_from_buffer(context, text)
        parts = library.nft_ctx_get_output_buffer(context), library.nft_ctx_get_error_buffer(context)
        replies.write(REPLY.pack(code, *map(len, parts)) + b"".join(parts))
        replies.flush()


def _replace_socket(given: int) -> None:
    """Put the descriptor that we were given in the place of libnftables' socket, which it does not tell."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (numbers, not paths)
        try:
            if descriptor == given or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            found = socket.socket(fileno=descriptor)
        except OSError:
            continue  # closed meanwhile, as that of the listing is
        family = found.family
        found.detach()  # it is not ours
        if family == socket.AF_NETLINK:
            os.dup2(given, descriptor)
    os.close(given)


def _make_sure_of_room(size: int) -> None:
    try:
        mmap.mmap(-1, _ROOM + _ROOM_EACH * size).close()  # address space alone: nothing touches it
    except OSError:
        sys.exit(NO_MEMORY)


if __name__ == "__main__":
    main()
