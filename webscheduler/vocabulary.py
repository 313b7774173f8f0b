"""The words that files, URLs, commands and pages share, as data: statuses, reasons, triggers, strategies, entries.

The rule: each of them is spelt here and nowhere else as a list; whoever shows one looks up its sentence here, which the
translations translate. A name of this module is never a sentence, and a sentence is never compared.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Entry(TypedDict, total=False):
        """One line of history; ENTRY has the keys in the order in which they are written. Times are ISO 8601."""

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
        """How a run ended, as far as its process shows it: the part of an entry that is not in the claim."""

        status: str
        reason: str | None
        exitCode: int | None
        signal: int | None
        duration: float | None
        output: str
        errorOutput: str

    class Facts(TypedDict, total=False):
        """What a claim says of its run. A process is [pid, start time in clock ticks]; deadline: monotonic seconds."""

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
        previousRunAt: str | None
        failuresBefore: int
        outcome: Entry

DUE = "@due"  # the built-in task that runs all due tasks

# How a run, or a call that led to none, ended. `running` is in state.json alone.
SUCCESS, FAILED, TIMEOUT, INTERRUPTED = "success", "failed", "timeout", "interrupted"
SKIPPED, REJECTED, RUNNING = "skipped", "rejected", "running"
STATUSES = {SUCCESS: "Success", FAILED: "Failed", TIMEOUT: "Timed out", INTERRUPTED: "Interrupted",
            SKIPPED: "Skipped", REJECTED: "Rejected", RUNNING: "Running"}
FINISHED = (SUCCESS, FAILED, TIMEOUT, INTERRUPTED, SKIPPED, REJECTED)
FAILURES = (FAILED, TIMEOUT, INTERRUPTED)

# Why: each reason with the status that it belongs to and its sentence.
REASONS = {
    "locked": (SKIPPED, "was running already"),
    "rate_limited": (SKIPPED, "called again too soon"),
    "disabled": (SKIPPED, "the task is disabled"),
    "too_late": (SKIPPED, "the missed slot was too old"),
    "ip_denied": (REJECTED, "address not allowed"),
    "cancelled": (INTERRUPTED, "cancelled by hand"),
    "terminated": (INTERRUPTED, "the host told it to end"),
    "found_dead": (INTERRUPTED, "its process was gone"),
    "supervisor_gone": (INTERRUPTED, "its supervisor was gone"),
    "time_limit": (INTERRUPTED, "ended at its time limit"),
    "not_started": (FAILED, "could not be started"),
    "no_process": (FAILED, "the host gave no process"),
}
# What a request writes to history itself, at most once a minute. The gate's record counts them in this order.
COUNTED_REASONS = ("locked", "rate_limited", "disabled", "too_late", "ip_denied")

TRIGGERS = {"url": "URL", "cli": "command line", "admin": "panel", "due": "schedule"}
# Where a run happens: from the strategy that survives most to the one that needs least.
STRATEGIES = {"fork": "a process of its own; the response does not wait for it",
              "close": "in the request, after the response is sent", "sync": "in the request, before the response"}

# The keys of a line of history, in the order in which they are written, and what stands where nothing is known.
ENTRY: dict[str, Any] = {
    "command": None, "startedAt": None, "finishedAt": None, "duration": None, "status": None, "exitCode": None,
    "output": "", "errorOutput": "", "run": None, "reason": None, "strategy": None, "trigger": None,
    "triggeredAt": None, "ip": None, "scheduledFor": None, "signal": None, "attempt": None, "count": 1,
}
HISTORY_FORMAT = 1
