# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which limits of memory and processor time this account has, and which tasks come near them.

The rules: a limit counts if a process of the account can read it, and is that of the process that looks: a web server
may have others than a shell. What runs took is in history.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ..store import history_view
from .findings import OK, WARNING, Finding

NEAR = 80  # percent
RUNS = 20  # of each task, the newest
NONE = 2**60  # bytes; what version 1 of cgroups calls unlimited is a little less than 2**63
PAGE = 4096  # bytes; LVE counts in these, whatever the processor has


def of_costs(home: str, names: Iterable[str], root: str = "/") -> Iterator[Finding]:
    """What the last runs of the tasks took of what the account may have. root: where /proc and /sys are."""
    import resource  # not all systems have it, and this module is read there too

    memory, source = min(_memory(root), default=(0, ""))
    seconds = max(0, resource.getrlimit(resource.RLIMIT_CPU)[0])  # no limit is -1

    if not memory and not seconds:
        yield Finding(OK, "limits", "no limit of memory or processor time can be read here; your host may have some "
                                    "that only its panel shows")
        return

    most = {name: _most(home, name) for name in names}
    near = [(used[0], name) for name, used in most.items() if memory and used[0] * 100 >= memory * NEAR]
    slow = [(used[1], name) for name, used in most.items() if seconds and used[1] * 100 >= seconds * NEAR]

    if near:
        yield Finding(WARNING, "limits",
                      "tasks whose runs take {percent}% or more of the {most} MiB of memory that this account has "
                      "({limit}): {n}, like {task} with {used} MiB; let them work in smaller parts, or ask your host "
                      "for more", percent=NEAR, most=memory // 2**20, limit=source, n=len(near), task=max(near)[1],
                      used=max(near)[0] // 2**20)

    if slow:
        yield Finding(WARNING, "limits",
                      "tasks whose runs take {percent}% or more of the {most} s of processor time after which a "
                      "process is ended (RLIMIT_CPU): {n}, like {task} with {used} s; let them work in smaller parts, "
                      "or ask your host for more", percent=NEAR, most=seconds, n=len(slow), task=max(slow)[1],
                      used=f"{max(slow)[0]:.0f}")

    if not near and not slow:
        yield Finding(OK, "limits", "no run came near those that can be read here (-: none): {memory} MiB of memory "
                                    "({limit}), {cpu} s of processor time; your host may have others",
                      memory=memory // 2**20 or "-", limit=source or "-", cpu=seconds or "-")


def _most(home: str, name: str) -> tuple[int, float]:
    """The most that one of the last runs took: bytes of memory, seconds of processor time."""
    entries = history_view.recent(home, name, RUNS)
    memory, seconds = (max((history_view.cost(entry, key) or 0.0 for entry in entries), default=0.0)
                       for key in ("maxRssBytes", "cpuSeconds"))
    return int(memory), seconds


def _memory(root: str) -> Iterator[tuple[int, str]]:
    """(bytes, what says so) for each limit of memory. That of addresses counts, too: a process has no more memory."""
    import resource

    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    found = [(addresses, "RLIMIT_AS"), *((most, "cgroup") for most in _cgroup(root)), (_lve(root), "LVE")]
    return ((most, source) for most, source in found if 0 < most < NONE)


def _cgroup(root: str) -> Iterator[int]:
    """The limits of this process's control groups and those above them (cgroups(7)), bytes."""
    for line in _read(root, "proc/self/cgroup").splitlines():
        _, controllers, path = (line + "::").split(":")[:3]
        mount, file = ("memory/", "memory.limit_in_bytes") if "memory" in controllers.split(",") else ("", "memory.max")
        parts = [part for part in path.split("/") if part not in ("", "..")]

        # In a container, the path may be that outside, while what is mounted begins with its own group.
        for depth in range(len(parts) + 1) if mount or not controllers else ():
            yield _number(_read(root, "sys/fs/cgroup", mount, *parts[:depth], file))


def _lve(root: str) -> int:
    """The physical memory of the account's LVE (CloudLinux), bytes; 0 where that cannot be read, as in CageFS."""
    head, *rows = [line.split() for line in _read(root, "proc/lve/list").splitlines()] or [[]]

    for row in rows:
        if "lMEMPHY" in head and row[0].rpartition(",")[2] == str(os.getuid()) and len(row) == len(head):
            return _number(row[head.index("lMEMPHY")]) * PAGE

    return 0


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def _read(*parts: str) -> str:
    try:
        with open(os.path.join(*parts), encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
