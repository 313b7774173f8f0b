# SPDX-License-Identifier: LGPL-3.0-or-later
"""Collects the results of a probe, and removes its tasks: for whoever made its calls, or else for a tick.

The rule: nothing is left of a probe, whether or not anybody asks for its results. Without the times of the answers,
nothing is said of `close`: a server may have kept the client waiting.
"""

from __future__ import annotations

import re

from .. import __version__
from ..errors import WebschedulerError
from ..store import capabilities, history_reading, locks, state
from ..store.task import is_internal
from ..times import format_time, instant
from ..vocabulary import STRATEGIES
from . import dead_runs, task_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..fetching import Answer
    from ..shapes import Entry, Probe

    Collected = tuple[str, dict[str, Probe], list[str]]

MARGIN = 60  # seconds that a request may wait behind the others


def collect(home: str, answers: dict[str, Answer] | None, now: float) -> Collected | None:
    """Store the results and remove the tasks: (kind of server, results by strategy, the strategies whose calls did not
    arrive); None while a job runs. All are empty if there is no probe. answers: of the calls, by strategy; None if
    nobody tells: then calls are waited for as long as they may still come. Raises BadInput, Unusable."""
    rows = _rows(home)
    found: dict[str, Probe] = {}
    kind, missing = "", []

    for strategy in STRATEGIES:
        name = capabilities.probe_task(strategy)

        if name not in rows:
            continue

        if dead_runs.record_dead_runs(home, name, now) or locks.runs(home, name, taken=True):
            return None

        seconds = int(rows[name]["timeout"]) - MARGIN
        entry = next((entry for entry in history_reading.entries(home, name) if entry.get("run")), None)

        if entry is None:
            missing.append(strategy)

            if answers is None and 0 <= now - instant(rows[name].get("createdAt")) < 3 * (seconds + MARGIN):
                return None
        elif answers is not None or strategy != "close":
            server, found[strategy] = _result(strategy, seconds, (answers or {}).get(strategy), entry, now)
            kind = kind or server

    stop(home, now)

    if kind:
        capabilities.store_probe(home, kind, found)

    return kind, found, missing


def collect_left(home: str, now: float) -> bool:
    """Collect what nobody asked for, as a tick does; whether nothing is left. Never raises."""
    try:
        return collect(home, None, now) is not None
    except (WebschedulerError, OSError, ValueError, KeyError, TypeError):
        return False


def _result(strategy: str, seconds: int, answer: Answer | None, entry: Entry, now: float) -> tuple[str, Probe]:
    """(kind of server, or empty; the result)."""
    beat = re.findall(r"^(\S+) ([\d.]+)$", entry["output"], re.MULTILINE)[-1:] or [("-", "0")]
    kind, lived = beat[0][0].strip("-"), float(beat[0][1])
    waited = answer.seconds if answer else 0.0

    if entry["strategy"] != strategy:
        ended, lived = "the host gave no process", 0.0
    elif entry["status"] == "success":
        ended, lived = "finished", float(seconds)
    elif entry["status"] == "interrupted":
        ended = "SIGTERM" if entry["reason"] == "terminated" else "killed without a trace"
    elif entry["signal"]:
        ended = f"only the job was ended, by signal {entry['signal']}"
    else:
        ended = f"{entry['status']}, exit code {entry['exitCode']}"

    return kind, {
        "at": format_time(now), "package": __version__, "seconds": seconds, "lived": round(lived, 1), "ended": ended,
        "held": strategy != "sync" and waited > 0.8 * max(1.0, lived) > 0.0,
        "answer": {"status": answer.status if answer else 0, "seconds": waited,
                   **({"problem": answer.problem} if answer and answer.problem else {})}}


def stop(home: str, now: float) -> None:
    """Remove the tasks of a probe. Raises BadInput while one runs."""
    for name in _rows(home):
        task_files.remove(home, name, now)


def _rows(home: str) -> state.Tasks:
    return {name: row for name, row in state.read(home).items() if is_internal(name, row)}
