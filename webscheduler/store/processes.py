# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which runs live, for readers, and which processes a run has, by /proc.

The rules: a reader takes no lock, and writes nothing. A process may shed any mark of its run, so several are looked
for: the run's session or process group; its id in the environment (proc(5), /proc/PID/environ); the claim open with its
lock, as only those have it that inherited it (/proc/PID/fdinfo); a parent with one of these. What is older than the
command is never of the run.
"""

from __future__ import annotations

import os

from ..errors import Unusable
from . import locks
from .files import close, file_name, lock_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Facts, Iterable


    Table = dict[int, list[bytes]]


def live_runs(home: str, name: str | None = None) -> list[Facts]:
    """Facts of the runs that live, for readers: found by pid and start time of their processes, without any lock."""
    return claimed_runs(home, name)[0]


def claimed_runs(home: str, name: str | None = None) -> tuple[list[Facts], list[Facts]]:
    """(facts of the runs that live; facts of those that are over and not recorded yet, which may have `outcome`)."""
    found: list[Facts] = []
    ended: list[Facts] = []

    for entry in locks.runs(home):
        path = os.path.join(home, "runs", entry)
        claimed = entry.lstrip(locks.TAKEN)

        if name is not None and not claimed.startswith(f"{file_name(name)}@"):
            continue

        try:
            with open(path, "rb") as file:
                facts = locks.facts_of(file.fileno())
        except OSError:
            continue

        lives = entry == claimed and _lives(path, facts)
        (found if lives else ended).append(facts)

    return found, ended


def _lives(path: str, facts: Facts) -> bool:
    if not locks.is_here(facts.get("place", locks.place())):
        return _lives_elsewhere(path, facts)

    # Killed before it named the command in the claim.
    if "command" not in facts and "supervisor" in facts and not locks.alive(facts["supervisor"]):
        command = command_of(facts.get("run", ""))
        facts.update({"command": command} if command else {})

    # The process that made the claim may be a server, which outlives the run.
    known = ("command", "supervisor") if "supervisor" in facts else ("starter",)
    return any(locks.alive(facts.get(who)) for who in known)


def claimed_run(home: str, name: str | None, run: str) -> tuple[Facts | None, Any]:
    """(facts of the run while it lives; how it ended, as a line of history with `recorded` False, if only its claim
    says it)."""
    alive, ended = ([facts for facts in found if facts.get("run") == run] for found in claimed_runs(home, name))
    outcomes = [{**facts["outcome"], "recorded": False} for facts in ended if "outcome" in facts]
    return next(iter(alive), None), next(iter(outcomes), None)


def table() -> Table:
    """The fields of /proc/PID/stat behind the name (state, parent, group, session, ...; field 19 is the start time) of
    each living process that /proc shows, by pid."""
    try:
        found = {int(entry): locks.stat_fields(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()}
    except OSError:
        return {}

    return {pid: fields for pid, fields in found.items() if fields and fields[0] not in (b"Z", b"X")}


def command_of(run: str) -> list[int] | None:
    """The identity of the command of a run whose claim does not name it: of the processes that carry the run's id, the
    first, since it started the others."""
    found = [locks.identity(pid) for pid in table() if _carries(pid, run)]
    # One that has ended since has no start time any more.
    return min((who for who in found if who[1]), key=lambda who: (who[1], who[0]), default=None)


def of_run(run: str, command: list[int], adopts: int, spared: Iterable[int]) -> list[list[int]]:
    """The identities of the living processes of a run.

    adopts: the pid of a supervisor that its orphans come to (PR_SET_CHILD_SUBREAPER), else 0. spared: pids that are
    left alone, with their ancestors.
    """
    now = table()
    kept: set[int] = set()

    for pid in spared:
        while pid in now and pid not in kept:
            kept.add(pid)
            pid = int(now[pid][1])

    younger = {pid: fields for pid, fields in now.items() if pid not in kept and int(fields[19]) >= command[1]}
    # A session or group keeps its number from being given to another process; without members it may have been.
    # Of a command whose start is not known (0), only what carries a mark is believed to be of it.
    own = command[1] > 0 and (command[0] not in now or int(now[command[0]][19]) == command[1])
    found = {pid for pid, fields in younger.items()
             if (own and command[0] in (int(fields[2]), int(fields[3]))) or _carries(pid, run) or _holds(pid, run)}
    parents = found | ({adopts} if adopts else set())  # 0 is the parent of the first process of all

    while more := {pid for pid, fields in younger.items() if int(fields[1]) in parents and pid not in found}:
        found |= more
        parents = more

    return [[pid, int(younger[pid][19])] for pid in sorted(found)]


def _carries(pid: int, run: str) -> bool:
    """Whether the run's id was in the environment of the program that the process runs."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{locks.RUN_VARIABLE}={run}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _holds(pid: int, run: str) -> bool:
    """Whether the process inherited the run's claim. Who merely reads it has opened it itself: without the lock."""
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            # The link, not the file: that may be on a network file system which does not answer.
            if f"@{run}" in os.readlink(f"/proc/{pid}/fd/{entry}"):
                with open(f"/proc/{pid}/fdinfo/{entry}", "rb") as file:
                    if b"\nlock:" in file.read():
                        return True
    except OSError:
        pass

    return False


def _lives_elsewhere(path: str, facts: Facts) -> bool:
    """Whether a run lives whose pids mean nothing here: its claim is locked, or a process carries its id.

    Its lock is tried under the gate, which is not waited for; so a reader makes no idle task look busy.
    """
    runs, file = os.path.split(path)
    gate = os.path.join(os.path.dirname(runs), "locks", file.rpartition("@")[0] + ".lock")
    opened: list[int] = []

    try:
        for each in (gate, path):
            opened.append(os.open(each, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))

            if not lock_file(opened[-1]):
                return True
    except FileNotFoundError:
        return False  # recorded meanwhile
    except (OSError, Unusable):
        return True
    finally:
        for descriptor in opened:
            close(descriptor)

    return command_of(str(facts.get("run"))) is not None
