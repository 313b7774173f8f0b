# SPDX-License-Identifier: LGPL-3.0-or-later
"""The shapes of dicts that modules share, for the type checker: none exists at run time.

The rule: a shape has one name, and stands here as soon as two modules share it. `vocabulary` says what its words mean.
The names of `typing` that most modules need come along, so that one line imports what only the type checker reads.
"""

from __future__ import annotations

__all__ = ["Any", "Callable", "Iterable", "Iterator", "Mapping", "Sequence", "TaskRow", "TypeVar"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypedDict, TypeVar

    from .store.task import TaskRow

    class Entry(TypedDict, total=False):
        """One line of history: the keys of vocabulary.ENTRY, with what each means:
        docs/reference/history.md is made from that."""

        # the task's name
        command: str
        # ISO 8601, in UTC
        startedAt: str
        # ISO 8601, in UTC
        finishedAt: str
        # seconds, by a clock that nobody can set; null where nobody was left to measure
        duration: float | None
        # how it ended: see below
        status: str
        # 0 to 255; 128 + N for signal N; null where it is not known
        exitCode: int | None
        # standard output: at most 64 KiB, its first and last part, with a line between on what is missing; if the
        # disk had no room for it, a line that says so
        output: str
        # standard error, likewise
        errorOutput: str
        # the run's id; null in lines of skips and rejections
        run: str | None
        # why, where the status does not say it: see below
        reason: str | None
        # the strategy that was used: `fork`, `close` or `sync`
        strategy: str | None
        # what started it: `url`, `cli`, `admin` (the panel), `api`, `due` or `after` (another task)
        trigger: str | None
        # when the request came
        triggeredAt: str | None
        # the client's address, if there was a request
        ip: str | None
        # the slot of the schedule that it ran for, if it was due
        scheduledFor: str | None
        # the number of the signal that ended it, else null
        signal: int | None
        # 1, or more for a retry
        attempt: int | None
        # of a skip or rejection: how many calls this line stands for
        count: int
        # the id of the run that it followed (`onSuccess`, `onFailure`), else null
        after: str | None
        # seconds of processor time, of the command and the children that it waited for; null where nobody was left
        # to ask
        cpuSeconds: float | None
        # the most memory that the command, or a child that it waited for, had at once (resident set), bytes; at least
        # what the supervisor that starts it has, some 15 MB; null likewise
        maxRssBytes: int | None

    class Result(Entry, total=False):
        """What a caller that waits for a run gets: its line of history; if that is not written, `recorded` False and
        perhaps `problem`, why. For @due `started` and `left` (names of tasks), `held` (the runs that hold the places,
        if the rest waits for one), and `codes` (name -> 0 success, 1 not successful, 3 skipped)."""

        recorded: bool
        problem: str
        started: list[str]
        left: list[str]
        held: list[Facts]
        codes: dict[str, int]

    class Cost(TypedDict, total=False):
        """What a run cost, as the kernel tells it when the command is waited for (wait4(2))."""

        cpuSeconds: float | None
        maxRssBytes: int | None

    class Outcome(Cost):
        """How a run ended, as its process shows it: the part of an entry that is not in the claim."""

        status: str
        reason: str | None
        exitCode: int | None
        signal: int | None
        duration: float | None
        output: str
        errorOutput: str

    class Notice(TypedDict):
        """A notification. to: the channels that it has still to go to; facts: what is sent beside the subject."""

        id: str
        to: list[str]
        at: str
        subject: str
        facts: dict[str, Any]

    class Notices(TypedDict):
        """notices.json: see runs.notifications.read."""

        waiting: list[Notice]
        told: dict[str, list[str]]
        failing: dict[str, dict[str, str]]

    class Facts(TypedDict, total=False):
        """What a claim says about its run. A process: [pid, start time in clock ticks]; place: boot id and pid
        namespace in which these are true; overtakes: the failed run before whose retry it came before; free: no request
        waits for it; ending: why it is being ended; found: why it
        was taken for dead; deadline, killAt, killedAt: monotonic seconds.
        """

        run: str
        name: str
        startedAt: str
        trigger: str
        triggeredAt: str
        ip: str | None
        scheduledFor: str
        attempt: int
        after: str
        overtakes: str
        free: bool
        starter: list[int]
        place: str
        supervisor: list[int]
        command: list[int]
        strategy: str
        server: str | None
        timeout: float
        deadline: float | None
        cancelled: bool
        ending: str
        found: str
        killAt: float
        killedAt: float
        previousRunId: str | None
        previousRunAt: str | None
        failuresBefore: int
        outcome: Entry

    class Probe(TypedDict, total=False):
        """What a probe saw of a strategy, as in capabilities.json. seconds: how long its job was to run; lived: how
        long it did; ended: `finished`, or what ended it; held: whether the response waited for it; answer: status,
        seconds and perhaps problem of the call."""

        at: str
        package: str
        seconds: float
        lived: float
        ended: str
        held: bool
        answer: dict[str, Any]

    class Death(TypedDict):
        """A run that died, as in capabilities.json; after: how many seconds it had lived at most."""

        at: str
        after: float
        run: str | None

    class Carried(TypedDict):
        """A run that ended by itself after so many seconds, as in capabilities.json."""

        at: str
        seconds: float

    class Seen(TypedDict, total=False):
        """What was seen of a strategy, as in capabilities.json."""

        probe: Probe
        carried: Carried
        deaths: list[Death]

    class Intent(TypedDict):
        """What is to be done with a task's files, as its gate says it. old: its name; new: None if it is removed; slug:
        the task's."""

        old: str
        new: str | None
        keepLogs: bool
        slug: str | None

    class ClockNotes(TypedDict):
        """What clean-up notes of the clock (`store.clock`); times are Unix seconds. id: of the boot since which `boot`
        are the seconds that had passed when the clock showed `wall`; last: what it showed last; since: when it had
        last jumped, or was first seen; horizon: from when ages count; highest: the latest time that it showed since it
        was last good; jump: by how many seconds it jumped then, 0 if it never has; setBack: for each time that it was
        ahead, what it showed right after that, when it was good again, and the latest time that it may have shown."""

        id: str
        boot: float
        wall: float
        last: float
        since: float
        horizon: float
        highest: float
        jump: float
        setBack: list[list[float]]

    class Declared(TypedDict, total=False):
        """A command found in Python code, as in commands.json. target: the module that declares it, or `entry point
        NAME`; the rest is for its task."""

        target: str
        expression: str | None
        intervalSeconds: int | None
        group: str
        description: str

    class Refusal(TypedDict, total=False):
        """A request without a valid signature, as in refused.json; problem: what was wrong, in words."""

        at: str
        ip: str
        method: str
        slug: str
        problem: str
