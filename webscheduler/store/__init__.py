# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is on disk: the formats of the home directory's files, and how each is read and written.

May import the modules at the top of the package (words, errors, times, signing) and nothing else of it. Begin with
`task` (what a task is), then `state` (where tasks are kept) and `locks` (who may run, and who is running).
"""

from __future__ import annotations

import os


def close(descriptor: int) -> None:
    """Close a descriptor, once. An error says nothing of what was synced, and the number is free all the same, so that
    another thread may have it by now (close(2), "Dealing with error returns from close()")."""
    try:
        os.close(descriptor)
    except OSError:
        pass
