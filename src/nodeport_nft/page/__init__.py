"""The page that the daemon shows on its metrics port, where ``statusPage`` is on: to look at, not to change anything.

``reading`` makes values of what the daemon has, ``pace`` rates of what the kernel has counted, ``drawing`` an SVG of
a graph; ``answers`` makes HTML of them, by the templates beside it, and says who gets it.

All of it runs in one thread of its own. That thread reads what the main thread changes, without a lock, so that no
sync ever waits for somebody who looks on: what was changed meanwhile is read once more.
"""
