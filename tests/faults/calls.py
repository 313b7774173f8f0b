# SPDX-License-Identifier: LGPL-3.0-or-later
"""System calls: their numbers, what one is about, and which errors it may end with.

Rules: only what a manual page or a file system (NFS, btrfs) is known to return. Pipes have no errors but those of
their making. What the interpreter reads for itself has no place in a plan, but for modules, where a scenario asks so.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig
from typing import NamedTuple

from tests import LIBRARY, PACKAGE

MACHINE = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
ARCHITECTURE = (0xC000003E, 0xC00000B7)  # linux/audit.h
NUMBERS = {  # x86_64, aarch64; -1: none of that name
    "read": (0, 63), "write": (1, 64), "open": (2, -1), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80),
    "lstat": (6, -1), "pread64": (17, 67), "pwrite64": (18, 68), "pipe": (22, -1), "dup2": (33, -1),
    "sendfile": (40, 71), "clone": (56, 220), "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221),
    "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46), "rename": (82, -1),
    "mkdir": (83, -1), "rmdir": (84, -1), "link": (86, -1), "unlink": (87, -1), "chmod": (90, -1), "fchmod": (91, 52),
    "setsid": (112, 157), "getdents64": (217, 61), "openat": (257, 56), "mkdirat": (258, 34), "newfstatat": (262, 79),
    "unlinkat": (263, 35), "renameat": (264, 38), "linkat": (265, 37), "fchmodat": (268, 53), "utimensat": (280, 88),
    "dup3": (292, 24), "pipe2": (293, 59), "renameat2": (316, 276), "copy_file_range": (326, 285), "statx": (332, 291),
    "clone3": (435, 435),
}  # fmt: skip
BY_NUMBER = {numbers[MACHINE or 0]: name for name, numbers in NUMBERS.items() if numbers[MACHINE or 0] >= 0}
ALIKE = {"newfstatat": "stat", "lstat": "stat", "statx": "stat", "openat": "open", "clone": "fork", "clone3": "fork",
         "vfork": "fork", "unlinkat": "unlink", "renameat": "rename", "renameat2": "rename", "dup3": "dup2",
         "pipe2": "pipe", "mkdirat": "mkdir", "linkat": "link", "fchmodat": "chmod", "fdatasync": "fsync",
         "pread64": "read", "pwrite64": "write"}  # fmt: skip
PATH_FIRST = {"open", "stat", "lstat", "execve", "rename", "mkdir", "rmdir", "link", "unlink", "chmod"}
PATH_SECOND = {"openat", "mkdirat", "newfstatat", "unlinkat", "renameat", "renameat2", "linkat", "fchmodat",
               "utimensat", "statx"}  # fmt: skip
OF_DESCRIPTOR = {"read", "write", "close", "fstat", "pread64", "pwrite64", "flock", "fsync", "fdatasync", "ftruncate",
                 "fchmod", "getdents64", "dup2", "dup3", "sendfile", "copy_file_range"}  # fmt: skip
CHANGES = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "ENOMEM")  # of a directory
FITTING = {
    "open": ("EIO", "EMFILE", "ENOMEM", "EACCES"), "write": ("ENOSPC", "EDQUOT", "EIO"),
    "read": ("EIO",), "getdents64": ("EIO", "ENOMEM"), "close": ("EIO", "ENOSPC", "EDQUOT"),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"), "ftruncate": ("EIO", "EROFS", "ENOSPC"), "flock": ("ENOLCK", "EIO"),
    "rename": CHANGES, "mkdir": CHANGES, "link": CHANGES, "unlink": ("EIO", "EROFS", "EACCES", "ENOSPC"),
    "rmdir": CHANGES, "stat": ("EIO", "EACCES", "ENOMEM"), "fstat": ("EIO",), "chmod": ("EIO", "EROFS"),
    "fchmod": ("EIO", "EROFS"), "utimensat": ("EIO", "EROFS", "EACCES"), "sendfile": ("EIO", "ENOSPC"),
    "copy_file_range": ("EIO", "ENOSPC", "EDQUOT"),
}  # fmt: skip
IMPORTING = ("EIO", "EMFILE", "ENOMEM")  # of an open of a module
CREATING = ("ENOSPC", "EDQUOT", "EROFS")  # besides, of an open that may create or write
ANYWHERE = {"fork": ("EAGAIN", "ENOMEM"), "execve": ("EAGAIN", "ENOMEM", "EMFILE", "EACCES", "EIO"),
            "pipe": ("EMFILE", "ENOMEM"), "open": ("EMFILE", "ENOMEM")}  # fmt: skip
RUN = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
OWN_NAME = re.compile(r"\.[0-9a-f.]+\.tmp")
INTERPRETER = tuple({os.path.realpath(path) for path in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)}
                    | {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix})  # fmt: skip


class Place(NamedTuple):
    """A call of a scenario: the n-th of its name about the same by one process. changes: it may create or write; size:
    bytes that it writes; ends: it writes to the end of a file opened for that."""

    process: str
    name: str
    about: str
    number: int
    changes: bool = False
    size: int = 0
    ends: bool = False

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self[:4]

    def __str__(self) -> str:
        return f"{self.process}: {self.name} {self.about} #{self.number}"


def errors_of(name: str, about: str, changes: bool) -> tuple[str, ...]:
    """The errors that a call may end with."""
    if about.startswith("module "):
        return IMPORTING if name == "open" else ()

    if not about.startswith("home"):
        return ANYWHERE.get(name, ())

    return FITTING.get(name, ANYWHERE.get(name, ())) + (CREATING if name == "open" and changes else ())


def named(path: str, home: str) -> str:
    """What a path is called in a plan, the same in each run; empty if it is the interpreter's own."""
    if path == home or path.startswith(home + "/"):
        return OWN_NAME.sub(".N.tmp", RUN.sub("RUN", "home" + path[len(home):]))

    if home.startswith(path + "/"):
        return "above"

    if path.startswith("/proc/"):
        return re.sub(r"(?<=/)\d+", "N", path)

    if path.startswith((*INTERPRETER, str(PACKAGE), str(LIBRARY))) or "/lib/python" in path or path.endswith(".zip"):
        return ""

    return re.sub(r"^(pipe|socket|anon_inode):.*", r"\1", path)


def module(path: str) -> str:
    """What a file that is imported is called in a plan; empty if it is none."""
    found = re.search(r"/((?:[\w-]+/)*[\w-]+)(?:\.cpython-\d+\.pyc|\.py)$", path.replace("__pycache__/", ""))
    folder = max((each for each in (str(LIBRARY), *INTERPRETER) if path.startswith(each + "/")), key=len, default="")
    return "module " + os.path.relpath(found[0], folder) if found and folder else ""


def text_at(pid: int, address: int, size: int = 4096) -> bytes:
    """Memory of another process, up to `size` bytes."""
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)

    try:
        return os.pread(descriptor, min(size, 4096 - address % 4096) if size == 4096 else size, address)
    finally:
        os.close(descriptor)


def path_at(pid: int, address: int) -> str:
    """The C string at an address of another process."""
    found = text_at(pid, address)

    if b"\0" not in found:  # it goes on in the next page
        found += text_at(pid, address + len(found))

    return os.fsdecode(found.partition(b"\0")[0])


def opened(pid: int, descriptor: int) -> str:
    """What a descriptor of another process means."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}").removesuffix(" (deleted)")
    except OSError:
        return ""
