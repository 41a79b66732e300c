"""
Rivals: what other downloaders and the loop of the tutorials do where the world misbehaves, beside what we do.

``python -m benchmarks.rivals`` installs the newest releases of parfive, pypdl and pooch into an environment of its own,
plays rows of the fault matrix to each of them over loopback sockets, and prints who survives what; ``--write`` puts the
table into ``docs/rivals.md``. A claim that no longer holds is withdrawn there by the same run.
"""
