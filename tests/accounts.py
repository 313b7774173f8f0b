# SPDX-License-Identifier: LGPL-3.0-or-later
"""Processes of another account, which only root can start: what it may not see, and what the machine denies it.

Rule: what is to be seen by it is put where it can be seen; nothing of this machine is opened for it.
It may import the package and the standard library.
"""

from __future__ import annotations

import atexit
import functools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock

from tests import PACKAGE
from tests.installation import PATIENCE

# Debian's own, since the one that runs the tests may lie in a directory of root's.
PYTHON = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable


@functools.lru_cache(maxsize=1)
def package() -> Path:
    """A directory with a copy of the package, compiled, where every account may read it."""
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory)
    os.chmod(directory, 0o755)
    shutil.copytree(PACKAGE, Path(directory) / "webscheduler",
                    ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([PYTHON, "-m", "compileall", "-q", directory], check=True)
    return Path(directory)


@contextmanager
def place() -> Iterator[Path]:
    """A directory that every account may enter."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def give(path: Path, uid: int) -> None:
    """Make the account the owner of a directory and all that is in it."""
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid)


def run(
    words: Sequence[str], uid: int | None, processes: int | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Python with these words, as the account (None: this one), which may have so many processes."""

    def become() -> None:
        if processes is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))

        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)

    path = os.pathsep.join([str(package()), str(Path(filelock.__file__).parents[1])])
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "LANG": "C.UTF-8", **variables}
    return subprocess.run([PYTHON, *words], preexec_fn=become, capture_output=True, text=True, cwd="/",
                          env=environment, timeout=PATIENCE, errors="surrogateescape")
