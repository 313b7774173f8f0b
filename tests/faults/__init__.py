# SPDX-License-Identifier: LGPL-3.0-or-later
"""Faults at every system call of a run, and what must hold after each.

    python -m tests.faults [--scenario NAME] [--sample COUNT --seed SEED] [--progress FILE]

Begin with `scenarios`, which says what is done, then `plan`: each call is a place for some faults. `listening` stops
the processes at their calls, `judging` looks at what a fault left, `__main__` does it all and prints the table.
Nothing is replaced in the program: the kernel asks us before each call (seccomp_unotify(2)).
"""
