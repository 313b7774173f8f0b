# SPDX-License-Identifier: LGPL-3.0-or-later
"""The words that files, URLs, commands and pages share, as data: statuses, reasons, triggers, strategies, the keys of
history, languages.

The rules: no other module lists them. Each word has its sentence here, which the command line, the panel, the docs and
the translations use. Code compares words, never sentences.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Entry

DUE = "@due"  # the built-in task that runs all due tasks
PROBE = "@probe"  # the group of the tasks of a probe, which get the strategy that they ask for

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

TRIGGERS = {"url": "URL", "cli": "command line", "admin": "panel", "due": "schedule",
            "after": "another task", "api": "API"}

# Where a run happens: from the strategy that survives most to the one that needs least. The index and the choice of
# `auto` keep this order.
FORK, CLOSE, SYNC = "fork", "close", "sync"
STRATEGIES = {FORK: "a process of its own; the response does not wait for it",
              CLOSE: "in the request, after the response is sent", SYNC: "in the request, before the response"}
DETACHED = (FORK,)  # those whose runs need nothing of the request any more

# The keys of a line of history, in the order in which they are written, and their values where nothing is known. What
# they mean: `shapes.Entry`.
ENTRY: Entry = {
    "command": None, "startedAt": None, "finishedAt": None,  # type: ignore[typeddict-item]
    "duration": None, "status": None, "exitCode": None,  # type: ignore[typeddict-item]
    "output": "", "errorOutput": "", "run": None, "reason": None, "strategy": None, "trigger": None,
    "triggeredAt": None, "ip": None, "scheduledFor": None, "signal": None, "attempt": None, "count": 1,
    "after": None, "cpuSeconds": None, "maxRssBytes": None,
}
HISTORY_FORMAT = 1

LANGUAGES = {"en": "English", "fr": "Français"}  # of the panel; each but English has a catalogue, admin/CODE.json
