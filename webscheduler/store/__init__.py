# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is on disk: the formats of the home directory's files, and how each is read and written.

May import the modules at the top of the package (words, errors, times, signing) and nothing else of it. Begin with
`task` (what a task is), then `state` (where tasks are kept) and `locks` (who may run, and who is running).
"""

from __future__ import annotations

import os

NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def close(descriptor: int) -> None:
    """Close a descriptor, once: after an error, too, its number is free (close(2), "Dealing with error returns")."""
    try:
        os.close(descriptor)
    except OSError:
        pass


def file_name(name: str) -> str:
    """What a task's files are called: everything but `[A-Za-z0-9_.-]` becomes `_`."""
    return "".join(c if c in NAME_CHARACTERS else "_" for c in name)
