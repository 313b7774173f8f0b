# SPDX-License-Identifier: LGPL-3.0-or-later
"""Renaming and removing a task: state.json and the task's files change as a whole, whoever is killed meanwhile.

The rules: it is done under the gates of the names, and not while the task runs. First the gates' records say what is to
be done; with the change of state.json it is decided; then history and limits follow, and the records are cleared. If
that is cut off, whoever next comes to one of the gates, and each tick, finishes it before anything else: each step does
nothing if it was done before.
"""

from __future__ import annotations

import json
import os

from ..errors import Busy, Conflict, NoSuchTask, Unusable, WebschedulerError
from ..store import history, history_cleaning, locks, state
from ..store.files import close, file_name, open_locked, replace_file
from . import dead_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Intent, Iterator, TypeVar


    T = TypeVar("T")


def carry_out(home: str, intent: Intent, now: float, commit: Callable[[], T]) -> T:
    """Rename or remove a task; returns what `commit` returned, which changes state.json. Raises Conflict while the task
    runs; Unusable, which says so if state.json has changed and its files have not."""
    names = _names(intent)

    for name in names:
        finish(home, name)
        dead_runs.record_dead_runs(home, name, now, locks.GATE_PATIENCE)

    return _under_gates(home, names, [], lambda gates: _change(home, intent, now, names, gates, commit))


def remove(home: str, name: str, now: float, keep_logs: bool = False,
           check: Callable[[Any], object] = lambda row: None) -> None:
    """Remove a task and, unless `keep_logs`, its history. check: is called with the row, and may raise. Raises
    NoSuchTask, and Conflict while it runs."""
    from ..store import chains  # clean-up needs this module, and not that one

    def change(tasks: state.Tasks) -> None:
        if name not in tasks:  # a row that is not an object, after a wrong edit by hand, can be removed, too
            raise NoSuchTask(name, tasks)

        check(tasks.pop(name))
        chains.rename(tasks, name, None)

    carry_out(home, {"old": name, "new": None, "keepLogs": keep_logs, "slug": None}, now,
              lambda: state.update(home, change))


def check_idle(home: str, name: str, now: float) -> None:
    """Raises BadInput while the task runs, Busy while that cannot be told."""
    finish(home, name)
    dead_runs.record_dead_runs(home, name, now, locks.GATE_PATIENCE)

    with locks.Gate(home, name) as gate:
        _check_idle(home, name, gate)


def _change(home: str, intent: Intent, now: float, names: list[str], gates: list[locks.Gate],
            commit: Callable[[], T]) -> T:
    """`carry_out`, under the gates of the names."""
    for name, gate in zip(names, gates):
        _check_idle(home, name, gate)

    tasks = state.read(home)

    if intent["old"] not in tasks or (len(names) < 2 and intent["new"]):
        return commit()  # nothing to change, or no file

    row = tasks[intent["old"]]
    intent["slug"] = row.get("slug") if isinstance(row, dict) else None

    try:
        for gate in gates:
            _intend(gate, json.dumps(intent))
    except OSError as error:
        for gate in gates:
            _intend(gate, "")
        raise Unusable(f"{gates[0].path} cannot be written: {error.strerror}")

    try:
        result = commit()
    except BaseException:
        try:
            _complete(home, intent, gates, _is_done(home, intent))
        except WebschedulerError:
            pass  # whoever comes to a gate finishes it
        raise

    _complete(home, intent, gates, True)
    return result


def _under_gates(home: str, names: list[str], gates: list[locks.Gate], act: Callable[[list[locks.Gate]], T]) -> T:
    """Call `act` with the gates of the names, besides `gates`, which are held already."""
    if not names:
        return act(gates)

    with locks.Gate(home, names[0]) as gate:
        return _under_gates(home, names[1:], [*gates, gate], act)


def _check_idle(home: str, name: str, gate: locks.Gate) -> None:
    if gate.intent:
        raise Busy(f"{name} is being renamed or removed: try again")

    if dead_runs.take_over(home, name):
        raise Conflict(f"{name} is running: wait for its end, or `webscheduler cancel {file_name(name)}`")

    if locks.runs(home, name, taken=True):
        raise Busy(f"a run of {name} is being recorded: try again")


def finish(home: str, name: str) -> None:
    """Finish what was cut off. Raises Unusable."""
    with locks.Gate(home, name) as gate:
        text = gate.intent

    if not text:
        return

    try:
        intent: Intent = json.loads(text)
        names = _names(intent)
    except (ValueError, KeyError, TypeError, AttributeError):
        intent = {"old": "", "new": "", "keepLogs": True, "slug": None}  # a power cut tore it
        names = [name]

    def act(gates: list[locks.Gate]) -> None:
        if any(gate.intent == text for gate in gates):
            _complete(home, intent, [gate for gate in gates if gate.intent in ("", text)], _is_done(home, intent))

    _under_gates(home, names, [], act)


def finish_all(home: str) -> None:
    """Finish all that was cut off. What cannot be finished waits for who comes to its gate."""
    with os.scandir(os.path.join(home, "locks")) as entries:
        names = [entry.name[:-5] for entry in entries
                 if entry.name.endswith(".lock") and entry.stat().st_size > locks.RECORD_SIZE]

    for name in names:
        try:
            finish(home, name)
        except (Busy, Unusable, OSError):
            pass


def _names(intent: Intent) -> list[str]:
    """The tasks whose gates are taken, in this order; of two with the same gate, one."""
    names = sorted(filter(None, (intent["old"], intent["new"])), key=file_name)
    return [*{file_name(name): name for name in names}.values()]


def _is_done(home: str, intent: Intent) -> bool:
    """Whether state.json was changed."""
    tasks: dict[str, Any] = state.read(home)

    def has(name: str) -> bool:
        row = tasks.get(name)
        return name in tasks and (not intent["slug"] or (isinstance(row, dict) and row.get("slug") == intent["slug"]))

    return bool(intent["old"]) and not has(intent["old"]) and (not intent["new"] or has(intent["new"]))


def _complete(home: str, intent: Intent, gates: list[locks.Gate], done: bool) -> None:
    """What comes after the change of state.json, if that was made; then the gates say nothing any more."""
    old, new = intent["old"], intent["new"]

    try:
        if done and new:
            _take_limits(gates, new)
            _join(history.path(home, old), history.path(home, new))
        elif done and not intent["keepLogs"]:
            _unlink(history.path(home, old))

        for gate in gates:
            _intend(gate, "")
    except (OSError, Unusable) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Unusable(f"{old} has been {'renamed' if new else 'removed'}, but its files could not follow ({why}): "
                       "they do as soon as they can" if done else f"{gates[0].path} cannot be written: {why}")


def _intend(gate: locks.Gate, intent: str) -> None:
    """Write the intent, so that a power cut does not lose it; an empty one is done. Raises OSError."""
    if intent:
        gate.save()
        os.pwrite(gate.descriptor, intent.encode(), locks.RECORD_SIZE)
        os.fsync(gate.descriptor)
    else:
        os.ftruncate(gate.descriptor, locks.RECORD_SIZE)


def _take_limits(gates: list[locks.Gate], new: str) -> None:
    """Let the gate of the new name know the last start and the like, where another one knows later ones."""
    for gate in gates:
        if os.path.basename(gate.path) == f"{file_name(new)}.lock":
            gate.last_start = max(each.last_start for each in gates)
            gate.last_ts = max(each.last_ts for each in gates)
            gate.skips = {reason: max(each.skips[reason] for each in gates) for reason in gate.skips}
            gate.save()


def _join(source: str, target: str) -> None:
    """Move a history; where another one is, both become one, by time. Whoever does it again finds where it was."""
    joined = target[: -len("jsonl")] + "joined"  # written only as a whole, from files that are still there

    if not _is_there(source):
        if _is_there(joined):
            os.replace(joined, target)
    elif not _is_there(target):
        os.replace(source, target)
    else:
        locked = [open_locked(path, history.PATIENCE) for path in sorted((source, target))]

        try:
            with open(source, "rb") as one, open(target, "rb") as other:
                replace_file(joined, history_cleaning.merged(_lines(other), _lines(one)))

            os.unlink(source)
            os.replace(joined, target)
        finally:
            for descriptor in locked:
                close(descriptor)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # by who was cut off


def _is_there(path: str) -> bool:
    """Whether there is such a file. Raises OSError where that cannot be told; os.path.exists says no."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False

    return True


def _lines(source: Any) -> Iterator[tuple[float, bytes]]:
    """(when it ended, the line) of the lines that can be read, oldest first."""
    return history_cleaning.by_time(text for _, text, entry in history_cleaning.read(source) if entry is not None)
