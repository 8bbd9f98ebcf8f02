"""Coverage-guided fuzzing of what comes from outside: ``python -m fuzz --seconds 60 --seed 1``.

A *target* takes bytes through the program as a stranger's input would go, and swallows the errors that are documented
there. Whatever else comes out of it is a *fall*: another exception, more lines of ours than the input's length
explains, more memory, or no end at all. Inputs that reach lines which no input before them has reached are kept, and
the next ones are made of them (``mutations``); what falls is cut down to little and written to a directory.

The same seed gives the same inputs in the same order, whatever the machine's speed. Nothing but Python's own tracing
is needed: what other fuzzers would do better here is in CONTRIBUTING.md.
"""
