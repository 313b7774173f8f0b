# SPDX-License-Identifier: LGPL-3.0-or-later
"""The home as a place on this machine: who can open its files, where it lies, and on what. Checks of `doctor`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from .findings import ERROR, OK, WARNING, Finding
from .home import FOLDERS, document_root_above

LEAST_FREE, LEAST_FILES = 50 * 1024 * 1024, 1000
NETWORKS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs")


def of_files(home: str) -> Iterator[Finding]:
    wrong, closed = [], []
    owner = os.stat(home).st_uid

    for path in (home, *_below(home)):
        status = os.lstat(path)
        needed = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600

        if stat.S_ISLNK(status.st_mode):
            continue

        if status.st_mode & needed != needed:
            closed.append(path)

        if status.st_mode & 0o077 or status.st_uid != owner:
            wrong.append(path)

    if closed:
        yield Finding(ERROR, "home", "files that their owner cannot use: {n}, like {path}: `chmod -R u+rwX {home}`",
                      n=len(closed), path=closed[0], home=home)

    if wrong:
        yield Finding(ERROR, "home", "files that others own or can open: {n}, like {path}: `chown -R $(id -u) {home}; "
                                    "chmod -R go-rwx {home}`", n=len(wrong), path=wrong[0], home=home)
    else:
        yield Finding(OK, "home", "only its owner can open {home}", home=home)

    for name in FOLDERS:
        if not os.path.isdir(os.path.join(home, name)):
            yield Finding(ERROR, "home", "{name}/ is missing: `webscheduler init` creates it again", name=name)


def _below(home: str) -> Iterator[str]:
    """The files whose modes are checked; those in commands/ have rules of their own."""
    for parent, folders, files in os.walk(home):
        folders[:] = [folder for folder in folders if os.path.join(parent, folder) != os.path.join(home, "commands")]
        yield from (os.path.join(parent, name) for name in (*folders, *files) if name != ".gitignore")


def of_place(home: str, environ: dict[str, Any] | None) -> Iterator[Finding]:
    root = document_root_above(home, environ)

    if root:
        yield Finding(ERROR, "home", "it is inside {root}, so a web server may show every secret: move it and set "
                                    "WEBSCHEDULER_HOME or the HOME line of webscheduler.cgi", root=root)

    kind, options = _mounted(os.path.realpath(home) + "/")

    if kind in NETWORKS:
        alone = kind.startswith("nfs") and not {"nolock", "local_lock=all", "local_lock=flock"}.isdisjoint(
            options.split(","))
        yield Finding(ERROR if alone else WARNING, "locks",
                      "the home is on {kind} without locks between machines: move it to a local disk" if alone else
                      "the home is on {kind}: locks work only if its server supports them", kind=kind)


def _mounted(place: str) -> tuple[str, str]:
    """Type and options of the file system of a directory (its path ends with `/`), as proc(5) shows them; empty if it
    does not, as in a jail: chroot(2) leaves out what is mounted above it."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [row for line in file if len(row := line.split()) > 3]
    except OSError:
        mounts = []

    inside = [row for row in mounts if place.startswith(row[1].replace("\\040", " ").rstrip("/") + "/")]
    _, _, kind, options, *_ = max(reversed(inside), key=lambda row: len(row[1]), default=("", "", "", ""))
    return kind, options  # of the last of two at the same place


def of_disk(home: str) -> Iterator[Finding]:
    free = os.statvfs(home)
    room = free.f_bavail * free.f_frsize
    full = room < LEAST_FREE or (free.f_files and free.f_favail < LEAST_FILES)
    yield Finding(ERROR if full else OK, "disk",
                  "{room} MiB and {n} files are left: free some space, or `webscheduler config "
                  "set logRetentionDays 7`" if full else "{room} MiB are free", room=room // 2**20, n=free.f_favail)
