"""The words that files, URLs, commands and pages share, as data: statuses, reasons, triggers, strategies, the keys of
history, languages.

The rules: no other module lists them. Each word has its sentence here, which the command line, the panel, the docs and
the translations use. Code compares words, never sentences.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Entry(TypedDict, total=False):
        """One line of history; HISTORY says what each key means. Times are ISO 8601."""

        command: str
        startedAt: str
        finishedAt: str
        duration: float | None
        status: str
        exitCode: int | None
        output: str
        errorOutput: str
        run: str | None
        reason: str | None
        strategy: str | None
        trigger: str | None
        triggeredAt: str | None
        ip: str | None
        scheduledFor: str | None
        signal: int | None
        attempt: int | None
        count: int

    class Outcome(TypedDict):
        """How a run ended, as its process shows it: the part of an entry that is not in the claim."""

        status: str
        reason: str | None
        exitCode: int | None
        signal: int | None
        duration: float | None
        output: str
        errorOutput: str

    class Facts(TypedDict, total=False):
        """What a claim says about its run. A process: [pid, start time in clock ticks]; deadline: monotonic seconds."""

        run: str
        name: str
        startedAt: str
        trigger: str
        triggeredAt: str
        ip: str | None
        scheduledFor: str
        attempt: int
        starter: list[int]
        supervisor: list[int]
        command: list[int]
        strategy: str
        server: str
        timeout: float
        deadline: float | None
        cancelled: bool
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

    class Seen(TypedDict, total=False):
        """What was seen of a strategy, as in capabilities.json."""

        probe: Probe
        deaths: list[Death]

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

DUE = "@due"  # the built-in task that runs all due tasks

# How a run ended, or a call that started none. `running` is in state.json alone.
SUCCESS, FAILED, TIMEOUT, INTERRUPTED = "success", "failed", "timeout", "interrupted"
SKIPPED, REJECTED, RUNNING = "skipped", "rejected", "running"
STATUSES = {SUCCESS: "Success", FAILED: "Failed", TIMEOUT: "Timed out", INTERRUPTED: "Interrupted",
            SKIPPED: "Skipped", REJECTED: "Rejected", RUNNING: "Running"}
FINISHED = (SUCCESS, FAILED, TIMEOUT, INTERRUPTED, SKIPPED, REJECTED)
FAILURES = (FAILED, TIMEOUT, INTERRUPTED)

# Why: each reason with the status that it belongs to, and its sentence.
LOCKED, RATE_LIMITED, DISABLED, TOO_LATE, IP_DENIED = "locked", "rate_limited", "disabled", "too_late", "ip_denied"
CANCELLED, TERMINATED, FOUND_DEAD = "cancelled", "terminated", "found_dead"
SUPERVISOR_GONE, TIME_LIMIT = "supervisor_gone", "time_limit"
NOT_STARTED, NO_PROCESS = "not_started", "no_process"
REASONS = {
    LOCKED: (SKIPPED, "was running already"),
    RATE_LIMITED: (SKIPPED, "called again too soon"),
    DISABLED: (SKIPPED, "the task is disabled"),
    TOO_LATE: (SKIPPED, "the missed slot was too old"),
    IP_DENIED: (REJECTED, "address not allowed"),
    CANCELLED: (INTERRUPTED, "cancelled by hand"),
    TERMINATED: (INTERRUPTED, "the host told it to end"),
    FOUND_DEAD: (INTERRUPTED, "its process was gone"),
    SUPERVISOR_GONE: (INTERRUPTED, "its supervisor was gone"),
    TIME_LIMIT: (INTERRUPTED, "ended at its time limit"),
    NOT_STARTED: (FAILED, "could not be started"),
    NO_PROCESS: (FAILED, "the host gave no process"),
}
# What a request itself writes to history, at most once a minute. A gate's record has their counts in this order, so a
# new one goes to the end.
COUNTED_REASONS = (LOCKED, RATE_LIMITED, DISABLED, TOO_LATE, IP_DENIED)

TRIGGERS = {"url": "URL", "cli": "command line", "admin": "panel", "due": "schedule"}

# Where a run happens: from the strategy that survives most to the one that needs least. The index and the choice of
# `auto` keep this order.
FORK, CLOSE, SYNC = "fork", "close", "sync"
STRATEGIES = {FORK: "a process of its own; the response does not wait for it",
              CLOSE: "in the request, after the response is sent", SYNC: "in the request, before the response"}
DETACHED = (FORK,)  # those whose runs need nothing of the request any more

# The keys of a line of history, in the order in which they are written: the value where nothing is known, and what it
# means (docs/reference/history.md is made from it).
HISTORY: dict[str, tuple[Any, str]] = {
    "command": (None, "the task's name"),
    "startedAt": (None, "ISO 8601, in UTC"),
    "finishedAt": (None, "ISO 8601, in UTC"),
    "duration": (None, "seconds, by a clock that nobody can set; null where nobody was left to measure"),
    "status": (None, "how it ended: see below"),
    "exitCode": (None, "0 to 255; 128 + N for signal N; null where it is not known"),
    "output": ("", "standard output: at most 64 KiB, its first and last part, with a line between on what is missing"),
    "errorOutput": ("", "standard error, likewise"),
    "run": (None, "the run's id; null in lines of skips and rejections"),
    "reason": (None, "why, where the status does not say it: see below"),
    "strategy": (None, "the strategy that was used: `fork`, `close` or `sync`"),
    "trigger": (None, "what started it: `url`, `cli`, `admin` (the panel) or `due`"),
    "triggeredAt": (None, "when the request came"),
    "ip": (None, "the client's address, if there was a request"),
    "scheduledFor": (None, "the slot of the schedule that it ran for, if it was due"),
    "signal": (None, "the number of the signal that ended it, else null"),
    "attempt": (None, "1, or more for a retry"),
    "count": (1, "of a skip or rejection: how many calls this line stands for"),
}
ENTRY: dict[str, Any] = {key: default for key, (default, _) in HISTORY.items()}
HISTORY_FORMAT = 1

LANGUAGES = {"en": "English", "fr": "Français"}  # of the panel; each but English has a catalogue, admin/CODE.json
