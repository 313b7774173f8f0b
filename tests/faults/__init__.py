# SPDX-License-Identifier: LGPL-3.0-or-later
"""Faults at every system call of a run, and what must hold after each.

    python -m tests.faults [--scenario NAME] [--only FAULT] [--sample COUNT --seed SEED] [--progress FILE]

Begin with `scenarios`, which says what is done. Each of its calls is a place for some faults (`calls` says which);
`listening` stops the processes there, `judging` looks at what a fault left, `__main__` does it all and prints a table.
Nothing is replaced in the program: the kernel asks us before each call (seccomp_unotify(2)). `power_cut` is apart.
"""
