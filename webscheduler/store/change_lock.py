# SPDX-License-Identifier: LGPL-3.0-or-later
"""Locks a file that the command line and the panel change, by filelock.

The rules: the lock of FILE is FILE.lock. Its release never fails. A directory that was moved or removed is not made
again, as filelock would do at each try.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import contextmanager, suppress

from ..errors import Busy, Unusable
from .files import close, is_same_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from filelock import BaseFileLock

PAUSE = 0.005  # seconds
OLDEST = (3, 10)


def too_old(version: str) -> bool:
    """Whether that filelock cannot be used: before 3.10, it makes files that others may read."""
    return tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST


@contextmanager
def locked(path: str, patience: float) -> Iterator[None]:
    """Hold the lock of a file. Raises Busy after so many seconds, Unusable if it cannot be locked."""
    lock = _take(path, patience)

    try:
        yield
    finally:
        with suppress(OSError):
            lock.release()


def _take(path: str, patience: float) -> BaseFileLock:
    try:
        import filelock
    except ImportError as error:
        raise Unusable(f"filelock cannot be imported ({error}): install it for {sys.executable}")

    if too_old(filelock.__version__):
        raise Unusable(f"filelock {filelock.__version__} is too old: {sys.executable} -m pip install 'filelock>=3.10'")

    home, name = os.path.split(path)
    lock = filelock.FileLock(f"{path}.lock", timeout=0, mode=0o600)
    deadline = time.monotonic() + patience
    directory = -1

    try:
        directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

        while is_same_file(directory, home):
            try:
                lock.acquire()
            except filelock.Timeout:
                if time.monotonic() > deadline:
                    raise Busy(f"{name} is locked by another process for too long: try again")

                time.sleep(PAUSE)
                continue

            # Without flock, filelock uses a file that outlives its process; we cannot use that.
            if issubclass(type(lock), filelock.SoftFileLock):
                lock.release()
                raise Unusable("files cannot be locked here: move the home to a local disk")

            if is_same_file(directory, home):
                return lock

            lock.release()
            os.unlink(f"{path}.lock")  # moved just now: what filelock has made instead goes
            os.rmdir(home)
    except (OSError, NotImplementedError) as error:  # the latter: there is no flock, in older filelocks
        if os.path.isdir(home):
            raise Unusable(f"{path}.lock cannot be locked: {getattr(error, 'strerror', None) or error}")
    finally:
        close(directory)

    raise Unusable(f"there is no installation at {home}: `webscheduler init` creates one")
