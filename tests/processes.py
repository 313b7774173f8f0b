# SPDX-License-Identifier: LGPL-3.0-or-later
"""The processes of an installation, as /proc shows them. It may import the standard library only.

One that ends loses its environment first, then its files, and its locks last: who waits for its end looks at these.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def processes_of(home: Path) -> list[int]:
    """Every living process, other than this one, that has to do with the home."""
    needle, found = os.fsencode(home), []

    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            with suppress(OSError):
                words = Path("/proc", pid, "environ").read_bytes() + Path("/proc", pid, "cmdline").read_bytes()
                found += [int(pid)] if needle in words else []

    return found


def is_left(home: Path) -> bool:
    """Whether a process of the home lives, or one that ends still has a lock of it."""
    return bool(processes_of(home)) or has_locks(home)


def has_locks(home: Path) -> bool:
    """Whether somebody has a file of the home locked (flock(2)), as the claim of a run is until all of that is dead."""
    return any(_is_locked(os.path.join(folder, name)) for folder, _, names in os.walk(home) for name in names)


def _is_locked(file: str) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # removed since, a link, or not for us
        return False

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)

    return False
