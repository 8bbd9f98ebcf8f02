"""What the system may have too little of for this process, in words: memory, threads, descriptors.

None of it is a defect of ours, and all of it may be over soon.
"""

from __future__ import annotations

import errno
import re


def scarcity(error: BaseException) -> str:
    """What there is too little of, with the remedy; "" where that is not the matter."""
    if isinstance(error, BaseExceptionGroup):
        found = {scarcity(each) for each in error.exceptions}
        return "" if "" in found else "; ".join(sorted(found))
    code = error.errno if isinstance(error, OSError) else 0
    if code in (errno.EMFILE, errno.ENFILE):
        return "too many open files; raise the limit (ulimit -n, the unit's LimitNOFILE, sysctl fs.file-max)"
    if (
        isinstance(error, MemoryError)
        or code == errno.ENOMEM
        or (
            # The dynamic loader's words for a library that finds no room.
            isinstance(error, ImportError) and re.search("failed to map segment|annot allocate memory", str(error))
        )
    ):
        return "out of memory; free some, or raise the limit (ulimit -v, the unit's or cgroup's MemoryMax)"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):  # the words of CPython's threading
        return (
            "no thread can be started; free memory, or raise the limit of processes "
            "(ulimit -u, the unit's TasksMax, the cgroup's pids.max)"
        )
    return ""
