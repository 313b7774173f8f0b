# SPDX-License-Identifier: LGPL-3.0-or-later
"""Notifications: a task fails, has recovered, or is late; and the pings of tasks with a `pingUrl`.

The rules: one notice when a task starts to fail and one when it recovers, not at each run, and none about a task whose
`notify` is false. Each channel is told, also one that was set while the task failed already. A run is recorded, and its
claim released, before anything is sent. What is to be sent is kept in `notices.json`, so what cannot be sent goes with
a later run or tick. Pings are not kept: a late one would tell of the wrong moment.
"""

from __future__ import annotations

import json
import os
import time

from ..errors import Busy, WebschedulerError
from ..store import history_reading, state
from ..store.files import lock_file, read_json, replace_file
from ..store.task import Task, is_internal, load_task
from ..times import format_time
from ..vocabulary import DUE, ENTRY, FAILURES, INTERRUPTED, SUCCESS
from . import channels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Entry, Mapping, Notice, Notices
    from ..store.settings import Settings
    from .supervisor import Signals

KEPT = 100  # notices
TESTS_AT_ONCE = 20
PATIENCE = 10.0  # seconds that a change of the file waits for another


def ping_start(task: Task, signals: Signals) -> int:
    """Ping that the task starts, in a process of its own, so that the run waits for nothing. Returns its pid, or 0."""
    if not task["pingUrl"]:
        return 0

    from .children import start_child

    try:
        return start_child(lambda: int(channels.ping(task["pingUrl"], channels.START) != ""), signals)
    except OSError:
        return 0


def after_run(settings: Settings, task: Task, entry: Entry, late: list[str] | None, pinging: int,
              clock: Callable[[], float]) -> None:
    """Notify of a recorded run, and send what earlier runs could not. late: names that a tick found late; None if it is
    no tick, or one since whose predecessor nothing has changed. pinging: what `ping_start` returned. Never raises."""
    try:
        if task["pingUrl"]:
            _ping_end(settings, task, entry, pinging, clock())

        if configured(settings):
            _note(settings, task, entry, late, clock())
            deliver(settings, clock)
    except (WebschedulerError, OSError):
        pass  # the disk may be full; the next run tries again


def configured(settings: Settings) -> list[str]:
    """The channels that are set, and known to this version."""
    return [name for name in settings["notify"] if name in channels.SENDERS]


def _ping_end(settings: Settings, task: Task, entry: Entry, pinging: int, now: float) -> None:
    """Ping how the run ended, unless it will be tried again."""
    if pinging:
        try:
            os.waitpid(pinging, 0)  # a start that arrives after the end would be one without an end
        except ChildProcessError:
            pass

    if entry["status"] == SUCCESS or _failed_for_good(task, entry["status"], entry["attempt"]):
        signal = channels.SUCCEEDED if entry["status"] == SUCCESS else channels.FAILED
        problem = channels.ping(task["pingUrl"], signal)
        _note_result(settings, f"ping of {task.name}", problem, now)


def _failed_for_good(task: Task, status: str | None, attempt: int | None) -> bool:
    """Whether it failed and no retry follows."""
    return status in FAILURES and (status == INTERRUPTED or (attempt or 1) > task["retries"])


# What is to be told

def _note(settings: Settings, task: Task, entry: Entry, late: list[str] | None, now: float) -> None:
    """Put what is to be told into the file: of this run; and after a tick also of late tasks, and of tasks whose run
    nobody told of, since its supervisor was killed or no channel was set then."""
    def change(notices: Notices) -> bool:
        changed = _judge(settings, notices, task, entry, now)

        if late is not None:
            if late:
                _add(settings, notices, configured(settings), f"late tasks: {len(late)}, the first is {late[0]}",
                     {"late": ", ".join(late[:50])}, now)

            changed = _judge_all(settings, notices, now) or bool(late) or changed

        return changed

    # Most runs have nothing to tell, and should take no lock.
    if change(read(settings.home)):
        update(settings.home, change)


def _judge_all(settings: Settings, notices: Notices, now: float) -> bool:
    """Judge the last run of each task. state.json is read while the file is locked: it never knows less than whoever
    wrote `told`."""
    rows, changed = state.read(settings.home), False
    keys = set()

    for name, row in rows.items():
        key = _key(name, row) if isinstance(row, dict) else ""
        keys.add(key)

        # Few have something to tell; to load all takes longer than all else here.
        if not key or not row.get("enabled") or not (row.get("lastRunStatus") in FAILURES or key in notices["told"]):
            continue

        try:
            task = load_task(name, row)
        except WebschedulerError:
            continue

        if name != DUE:
            changed = _judge(settings, notices, task, None, now) or changed

    for key in [key for key in notices["told"] if key not in keys]:
        del notices["told"][key]
        changed = True

    return changed


def _judge(settings: Settings, notices: Notices, task: Task, entry: Entry | None, now: float) -> bool:
    """Add a notice if a run changed how the task is, for the channels that do not know it yet. entry: the run; None:
    the last one. Returns whether the notices were changed."""
    if not task["notify"] or is_internal(task.name, task):
        return False

    key = _key(task.name, task)
    known = notices["told"].get(key, [])
    new = [channel for channel in configured(settings) if channel not in known]
    status, attempt = (entry["status"], entry["attempt"]) if entry else (task["lastRunStatus"], task["lastRunAttempt"])

    if status == SUCCESS and known:
        to, what = known, "has recovered"
        del notices["told"][key]
    elif new and _failed_for_good(task, status, attempt):
        to, what = new, f"ended as {status}"
        notices["told"][key] = configured(settings)
    else:
        return False

    row: Any = {"command": task.name, "status": status, "startedAt": task["lastRunAt"], "run": task["lastRunId"]}
    facts: Any = entry or history_reading.find(settings.home, [task.name], str(task["lastRunId"])) or row
    _add(settings, notices, to, f"{task.name} {what}", {key: facts[key] for key in ENTRY if key in facts}, now)
    return True


def _key(name: str, task: Mapping[str, Any]) -> str:
    """What a task keeps when it is renamed."""
    return str(task.get("slug") or name)


def _add(settings: Settings, notices: Notices, to: list[str], subject: str, facts: Any, now: float) -> None:
    short = {name: value[-channels.EXCERPT:] if isinstance(value, str) else value for name, value in facts.items()}
    notice: Notice = {"id": os.urandom(8).hex(), "to": [channel for channel in to if channel in configured(settings)],
                      "at": format_time(now), "subject": subject, "facts": short}
    notices["waiting"] = [*notices["waiting"], notice][-KEPT:]


# The file

def read(home: str) -> Notices:
    """notices.json: `waiting`, what could not be sent yet; `told`, the channels that know that a task fails, by its
    slug; `failing`, what does not arrive, since when and why."""
    found = read_json(os.path.join(home, "notices.json"))

    try:
        return {"waiting": [{"id": str(each["id"]), "to": [*each["to"]], "at": str(each["at"]),
                             "subject": str(each["subject"]), "facts": {**each["facts"]}} for each in found["waiting"]],
                "told": {str(key): [*names] for key, names in found["told"].items()},
                "failing": {str(name): {"since": str(why["since"]), "error": str(why["error"])}
                            for name, why in found["failing"].items()}}
    except (KeyError, TypeError, AttributeError):  # none yet, or damaged
        return {"waiting": [], "told": {}, "failing": {}}


def update(home: str, change: Callable[[Notices], object]) -> None:
    """Read, change and replace notices.json under its lock. Raises OSError, Unusable, Busy."""
    path = os.path.join(home, "notices.json")

    with open(path + ".lock", "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as lock:
        if not lock_file(lock.fileno(), PATIENCE):
            raise Busy(f"{path} is locked by another process for too long")

        notices = read(home)
        change(notices)
        replace_file(path, json.dumps(notices).encode() + b"\n")


def _note_result(settings: Settings, channel: str, problem: str, now: float, notice: str = "") -> None:
    """Note whether something arrived: the notice with this id, a ping or a test."""
    def change(notices: Notices) -> None:
        if problem:
            since = notices["failing"].get(channel, {}).get("since", format_time(now))
            notices["failing"][channel] = {"since": since, "error": problem}
            return

        notices["failing"].pop(channel, None)

        for each in notices["waiting"]:
            if each["id"] == notice:
                each["to"].remove(channel)

        notices["waiting"] = [each for each in notices["waiting"] if each["to"]]

    if problem or notice or channel in read(settings.home)["failing"]:
        update(settings.home, change)


# Sending

def deliver(settings: Settings, clock: Callable[[], float]) -> None:
    """Send what waits, the oldest first. A channel that fails once is left for the next run, and so is what is still
    there after LIMIT seconds. Raises OSError, Unusable."""
    end, down = time.monotonic() + channels.LIMIT, set[str]()

    def following() -> tuple[Notice, str] | None:
        able = [channel for channel in configured(settings) if channel not in down]
        return next(((notice, channel) for notice in read(settings.home)["waiting"] for channel in notice["to"]
                     if channel in able), None) if time.monotonic() < end else None

    # Who does not get the lock leaves: its holder looks once more after its release.
    while following():
        with open(os.path.join(settings.home, "notices.sending"), "ab",
                  opener=lambda name, flags: os.open(name, flags, 0o600)) as lock:
            if not lock_file(lock.fileno()):
                return

            # A disk that is full would send each again with every run, since none could be removed.
            update(settings.home, lambda _: None)

            while found := following():
                notice, channel = found
                problem = channels.send(settings, channel, notice, clock())
                down |= {channel} if problem else set()
                _note_result(settings, channel, problem, clock(), notice["id"])


def failing(settings: Settings) -> dict[str, dict[str, Any]]:
    """What does not arrive: `since` (ISO 8601), `error`, and `kept`, how many notices wait. By channel, or `ping of
    NAME`."""
    notices = read(settings.home)
    rows = state.read(settings.home) if notices["failing"] else {}
    known = {*configured(settings), *(f"ping of {name}" for name, row in rows.items()
                                      if isinstance(row, dict) and row.get("pingUrl"))}
    return {channel: {**found, "kept": sum(channel in each["to"] for each in notices["waiting"])}
            for channel, found in notices["failing"].items() if channel in known}


def try_all(settings: Settings, tasks: dict[str, Task], where: str, clock: Callable[[], float]) -> dict[str, str]:
    """Send a test to each channel and ping URL, and then what was kept: what went wrong, or empty, by channel. A ping
    says how the task is: a test changes nothing at the service."""
    from concurrent.futures import ThreadPoolExecutor  # of many pings each may take LIMIT seconds

    notice: Notice = {"id": "", "to": [], "at": "", "subject": f"a test from {where}",
                      "facts": {"command": "test", "status": SUCCESS}}
    sends: dict[str, Callable[[], str]] = {
        channel: lambda channel=channel: channels.send(settings, channel, notice, clock())  # type: ignore[misc]
        for channel in configured(settings)}
    sends.update({f"ping of {name}": lambda task=task: channels.ping(  # type: ignore[misc]
        task["pingUrl"], channels.FAILED if task["lastRunStatus"] in FAILURES else channels.SUCCEEDED)
        for name, task in tasks.items() if task["pingUrl"]})

    try:
        with ThreadPoolExecutor(TESTS_AT_ONCE) as pool:
            results = dict(zip(sends, pool.map(lambda send: send(), sends.values())))
    except RuntimeError:  # the account may have no more threads
        results = {channel: send() for channel, send in sends.items()}

    for channel, problem in results.items():
        _note_result(settings, channel, problem, clock())

    deliver(settings, clock)
    return results
