"""The words that files, URLs, commands and pages share, as data: statuses, reasons, triggers, strategies, the keys of
history, languages.

The rules: no other module lists them. Each word has its sentence here, which the command line, the panel, the docs and
the translations use. Code compares words, never sentences.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

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
HISTORY: dict[str, tuple[object, str]] = {
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
ENTRY: Entry = {key: default for key, (default, _) in HISTORY.items()}  # type: ignore[assignment]
HISTORY_FORMAT = 1

LANGUAGES = {"en": "English", "fr": "Français"}  # of the panel; each but English has a catalogue, admin/CODE.json
