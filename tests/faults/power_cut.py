# SPDX-License-Identifier: LGPL-3.0-or-later
"""What an ext4 loses that is cut off a moment after an answer: `python -m tests.faults.power_cut`.

An ext4 in a file is shut down (EXT4_IOC_SHUTDOWN, nothing of its log flushed), checked and mounted again. Needs root,
and loop devices; the tests skip it where it cannot be done.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.installation import Installation, until
from webscheduler.store import history_reading, state

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
GOING_DOWN, NO_FLUSH = 0x8004587D, 2  # linux/fs.h, ext4's ioctl.c
PROGRAMS = ("mkfs.ext4", "e2fsck", "mount", "umount")
KINDS = {"ended": ["/bin/true"], "in progress": ["/bin/sleep", "20"]}
AFTER = 0.1  # seconds


class Loss(NamedTuple):
    """What is there after it. claim: a claim of the run; line: its line; known: state.json tells of the run; usable:
    state.json is whole, every line is, and the next trigger runs and is recorded."""

    claim: bool
    line: bool
    known: bool
    usable: bool


def possible() -> str:
    """Why it cannot be done here; empty if it can."""
    missing = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
    why = "needs root" if os.geteuid() else f"{', '.join(missing)} is missing" if missing else ""

    if why:
        return why

    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(make(folder), folder):
                return ""
        except subprocess.CalledProcessError as error:
            return f"no loop device: {error.stderr.decode().strip()}"


def make(folder: str) -> str:
    """An ext4 in a new file of this folder; the file."""
    file = os.path.join(folder, "disk")

    with open(file, "wb") as disk:
        disk.truncate(48 * 1024 * 1024)

    _call("mkfs.ext4", "-q", "-F", file)
    return file


@contextlib.contextmanager
def mounted(file: str, folder: str) -> Iterator[Path]:
    """The file, mounted below the folder."""
    place = Path(folder, "mount")
    place.mkdir(exist_ok=True)
    _call("mount", "-o", "loop", file, str(place))

    try:
        yield place
    finally:
        # What ended just now may keep a file of it open for a moment.
        until(lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0, "the unmounting")


def _call(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": PATH})


def cut(kind: str, after: float = AFTER) -> Loss:
    """Trigger a run of that kind, cut the disk off so many seconds after its answer, and look what is there."""
    with tempfile.TemporaryDirectory() as folder:
        file = make(folder)

        with mounted(file, folder) as place:
            installation = Installation(place / "home")
            installation.add(argv=KINDS[kind])
            installation.cgi(installation.signed())  # what the first run does besides
            end(installation)
            os.sync()
            run = installation.cgi(installation.signed()).document["run"]
            time.sleep(after)
            descriptor = os.open(place, os.O_RDONLY)
            fcntl.ioctl(descriptor, GOING_DOWN, struct.pack("I", NO_FLUSH))
            os.close(descriptor)
            installation.end()

        # Who made a mount namespace meanwhile has the dead file system mounted still, and a new mount of the same file
        # would be that.
        file = shutil.copyfile(file, os.path.join(folder, "copy"))
        # 1: it repaired something, as it should
        subprocess.run(["e2fsck", "-fy", file], check=False, capture_output=True, env={**os.environ, "PATH": PATH})

        with mounted(file, folder) as place:
            installation = Installation(place / "home")
            claim = any(path.name.endswith(run) for path in installation.claims())
            line = history_reading.find_by_scanning(str(installation.home), "task", run) is not None
            known = installation.row()["lastRunId"] == run

            try:
                return Loss(claim, line, known, _usable(installation))
            finally:
                installation.end()  # a supervisor refreshes the index after its record


def end(installation: Installation) -> None:
    """End what runs, and have it recorded."""
    for facts in installation.facts():
        for who in ("command", "supervisor"):
            with contextlib.suppress(ProcessLookupError, KeyError):
                os.kill(facts[who][0], signal.SIGKILL if who == "command" else 0)

    installation.idle()


def _usable(installation: Installation) -> bool:
    try:
        installation.history()
        state.read_strictly(str(installation.home))
        run = installation.cgi(installation.signed()).document["run"]
        time.sleep(0.5)
        end(installation)
    except (ValueError, AssertionError):
        return False

    return [line["run"] for line in installation.runs()].count(run) == 1


def main() -> int:
    why = possible()

    if why:
        print(f"cannot be done: {why}", file=sys.stderr)
        return 2

    for kind in KINDS:
        for after in (0.0, AFTER, 1.0, 8.0):
            found = [cut(kind, after) for _ in range(10)]
            counts = {name: sum(getattr(loss, name) for loss in found) for name in Loss._fields}
            print(json.dumps({"run": kind, "cut off after": after, "of": len(found), **counts}), flush=True)

    return 0


if __name__ == "__main__":
    raise SystemExit(main())
