# SPDX-License-Identifier: LGPL-3.0-or-later
"""What verbs ask of an installation: of the one in a home of this machine. `elsewhere` asks one elsewhere the same.

The rule: verbs print what they get from `of`, and do not know where it comes from, so that a verb has the same words,
the same JSON and the same exit status here and elsewhere.
"""

from __future__ import annotations

import os
import time

from .. import editing, signing
from ..commands import registry
from ..errors import BadInput, NoSuchTask, Unusable
from ..runs import health
from ..schedule import slots
from ..store import chains, history, processes, state
from ..store.settings import Settings, check_base_url, load_settings
from ..store.task import Task, file_name, is_internal, load_task, load_tasks, shown
from .terminal import local_time, print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any, BinaryIO, Union

    from ..host.findings import Finding
    from ..shapes import Entry, Facts, Result
    from .elsewhere import Elsewhere

    # A task's document; the facts of its runs in progress; why its schedule never runs, or empty. Of a task that cannot
    # be loaded the document is its `name` and the `error`.
    Shown = tuple[dict[str, Any], list[Facts], str]
    Leaders = dict[str, dict[str, list[str]]]  # by field: the tasks that name a task in it, by that task's name
    Place = Union["Here", Elsewhere]

PATIENCE = 12.0  # seconds for a run to end
PAUSE = 0.25


def of(args: Namespace) -> Place:
    """The installation that a command line is about."""
    return args.place or Here(args.home)


class Here:
    """The installation in a home. Errors are those of `editing`, `state` and the like."""

    def __init__(self, home: str) -> None:
        self.home = home

    def listed(self, group: str | None, failing: bool, whole: bool) -> tuple[list[Shown], Leaders]:
        """The tasks of the group, or all; failing: of these the ones that need attention. whole: as JSON shows them,
        with their URLs. Tasks that cannot be loaded come last. With them, what leads to which task."""
        settings, now = load_settings(self.home), time.time()
        rows, alive = health.as_they_are(self.home, read_tasks(self.home), now)
        good, broken = load_tasks(shown(rows))
        states = health.states(settings, dict(good), now) if failing else {}
        return [*(_shown(settings, task, alive, now, whole) for task in good.values()
                  if group in (None, task["group"]) and states.get(task.name) != "healthy"),
                *(({"name": name, "error": problem}, [], "") for name, problem in broken.items())], leaders(rows)

    def shown(self, name: str) -> Shown:
        settings, now = load_settings(self.home), time.time()
        rows, alive = health.as_they_are(self.home, read_tasks(self.home, name), now)
        return _shown(settings, load_task(name, editing.row_of(rows, name)), alive, now)

    def leaders(self) -> Leaders:
        return leaders(state.read(self.home))

    def create(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Add a task; its document, with its secret."""
        settings = load_settings(self.home)
        task = editing.create(settings, name, fields, time.time())
        return {**editing.public(settings, task, time.time()), "secret": task["secret"]}

    def edit(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Change a task; its document."""
        settings, now = load_settings(self.home), time.time()
        return editing.public(settings, editing.edit(settings, name, fields, now), now)

    def check(self, names: list[str]) -> None:
        """Raises NoSuchTask unless there are tasks with these names."""
        tasks = state.read_strictly(self.home)

        for name in names:
            if name not in tasks:
                raise NoSuchTask(name, tasks)

    def remove(self, name: str, keep_logs: bool) -> None:
        editing.remove(self.home, name, time.time(), keep_logs)

    def rename(self, old: str, new: str) -> None:
        editing.rename(self.home, old, new, time.time())

    def names_in(self, group: str) -> list[str]:
        return [name for name, row in shown(state.read_strictly(self.home)).items()
                if isinstance(row, dict) and row.get("group", "default") == group]

    def set_enabled(self, names: list[str], enabled: bool) -> None:
        """Enable or disable tasks: all, or on an error none."""
        editing.set_enabled(self.home, names, enabled, time.time())

    def url(self, name: str, kind: str, base: str | None) -> str:
        """A URL of the task; kind: `trigger`, `status` or `timed`. base: in place of the setting."""
        task = editing.with_keys(self.home, name)
        base = base_url(load_settings(self.home), base)

        if kind == "status":
            return signing.status_url(base, task["slug"], task["secret"])

        if task["signature"] == ("static" if kind == "timed" else "timed"):
            raise BadInput(f"{task.name} accepts no timed signatures: `webscheduler edit NAME --signature either`"
                           if kind == "timed" else
                           f"{task.name} accepts timed signatures only: `webscheduler url NAME --timed` makes one")

        return signing.trigger_url(base, task["slug"], task["secret"], int(time.time()) if kind == "timed" else None)

    def rotate_secret(self, name: str, keep_old: int) -> dict[str, Any]:
        """Give a task a new secret, and let the old one be valid for so many seconds; its document, with the secret."""
        settings, now = load_settings(self.home), time.time()  # read before: an error after would lose the secret
        task = editing.rotate_secret(self.home, name, keep_old, now)
        return {**editing.public(settings, task, now), "secret": task["secret"]}

    def end_old_secret(self, name: str) -> dict[str, Any]:
        """End the time of the secret that the task had before; its document."""
        return editing.public(load_settings(self.home), editing.end_old_secret(self.home, name), time.time())

    def commands(self) -> list[dict[str, Any]]:
        return registry.documents(load_settings(self.home))

    def report(self) -> dict[str, Any]:
        """How it is as a whole: see `overall`."""
        from ..host.overall import overall

        return overall(load_settings(self.home), time.time(), local_time)

    def findings(self, offline: bool) -> list[Finding]:
        """What a check of it finds. offline: without calls of its own URL."""
        from ..errors import WebschedulerError
        from ..host import doctor, url_check

        found = doctor.examine(self.home, time.time())

        try:
            return found if offline else found + url_check.examine(load_settings(self.home))
        except WebschedulerError:  # it is already among the findings
            return found

    def run(self, name: str, quiet: bool) -> Result | None:
        """Run a task and wait for its end; None if it is running already. Its output is in the entry. quiet: nothing is
        printed meanwhile, as is never here."""
        from ..runs.by_hand import run_by_hand

        return run_by_hand(self.home, name, "cli", time.time, own=True)

    def live_runs(self, name: str) -> list[Facts]:
        alive = processes.live_runs(self.home, name)

        if not alive:  # what runs can be ended even where state.json cannot be read
            editing.row_of(state.read(self.home), name)

        return alive

    def cancel(self, name: str, run: str) -> tuple[bool, Entry | None]:
        """End a run: whether it ended in time, and its line of history."""
        from ..runs import cancel
        from ..store import history_reading

        ended = cancel.end(self.home, name, run, PATIENCE)
        return ended, history_reading.find(self.home, [name], run) if ended else None

    def entries(self, name: str | None, status: str | None, limit: int, whole: bool) -> list[Entry]:
        """The last lines of history of a task, or of all, newest first; status: only those that ended so; whole: their
        output is needed, too."""
        from ..store import history_view

        return history_view.newest(self.home, history_view.chosen(self.home, name), status, limit)

    def one(self, name: str | None, run: str) -> dict[str, Any]:
        """A run with its output, even while it runs. name: of its task, if that is known."""
        from ..runs import output
        from ..store import history_view

        facts, entry = output.look(self.home, name, history_view.chosen(self.home, name), run)

        if facts is not None:
            return {**output.in_progress(facts, run), "output": output.so_far(self.home, run, output.LIVE_LIMIT)}

        if entry is None:
            raise BadInput(f"no run has the id {run[:60]!r}: `webscheduler logs` shows them")

        return {**entry}

    def watch(self, name: str, run: str) -> Iterator[str]:
        """What a run prints, until it is recorded, or its process is gone."""
        from ..runs import output
        from ..store import history_view

        offset, goes_on = 0, True

        while goes_on:
            facts, entry = output.look(self.home, name, history_view.chosen(self.home, name), run)
            goes_on = facts is not None

            while (piece := output.piece(self.home, run, output.BOTH, offset, entry)).next > offset:
                offset = piece.next
                yield piece.text()

            time.sleep(PAUSE if goes_on else 0)

    def follow(self, name: str | None) -> Followed:
        """The history of a task, or all, watched for new lines from now on."""
        return Followed(self.home, name)


def leaders(rows: dict[str, Any]) -> Leaders:
    """What leads to which task, by the rows or the documents of tasks."""
    return {field: chains.leaders(rows, (field,)) for field in chains.LINKS}


def base_url(settings: Settings, given: str | None) -> str:
    """The URL that trigger URLs start with: `given`, else the setting. Raises BadInput if there is none."""
    base = settings["baseUrl"] if given is None else given

    if not base and given is None:
        raise BadInput("no baseUrl is set: `webscheduler config set baseUrl https://...`, or give --base", "baseUrl")

    return check_base_url(base)


def read_tasks(home: str, name: str | None = None) -> state.Tasks:
    """All tasks, raw; from the copy, with an error line that says so, where state.json cannot be read. name: of the
    task that is asked for; if the copy does not have it, the one error is that of state.json. Raises Unusable."""
    try:
        return state.read_strictly(home)
    except Unusable as error:
        tasks = state.read(home)

        if name is not None and name not in tasks:
            raise

        print_error(f"{error}; the tasks shown are from state.json.bak")
        return tasks


def _shown(settings: Settings, task: Task, alive: list[Facts], now: float, whole: bool = True) -> Shown:
    at, problem = None, ""

    try:
        at = slots.next_at(task, settings["timezone"], now)
    except BadInput as error:
        problem = str(error)

    # What is only printed needs no URL, and no text of an instant.
    document: dict[str, Any] = {**task, "name": task.name, "nextRunAt": at}
    document = editing.public(settings, task, now) if whole else document
    return document, [facts for facts in alive if facts.get("name") == task.name], problem


class Followed:
    """Histories that are watched for new lines, from where they end now.

    A file is known by its inode, whatever its name. All lines of a file that appears are new, except those that
    clean-up copied into it from a file that is gone.
    """

    def __init__(self, home: str, name: str | None) -> None:
        import resource

        self.home, self.name = home, name
        self.pause = PAUSE
        self.open: dict[tuple[int, int], BinaryIO] = {}
        self.absent: set[tuple[int, int]] = set()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each of them stays open

        for key in self._look():
            self.open[key].seek(history.whole_end(self.open[key].fileno()))

    def new(self) -> list[Entry]:
        """The entries that were added since the last call, oldest first."""
        absent_before = self.absent
        appeared = self._look()
        found = [text for key, file in self.open.items() if key not in appeared for text in _from(file, file.tell())]
        old = {hash(text) for key in self.absent if appeared for text in _from(self.open[key], 0)}
        found += [text for key in appeared for text in _from(self.open[key], 0) if hash(text) not in old]

        for key in absent_before & self.absent:  # absent only once, it may be in the middle of a renaming
            self.open.pop(key).close()

        return sorted(filter(None, map(history.parse, found)), key=history.ended)

    def close(self) -> None:
        for file in self.open.values():
            file.close()

    def _look(self) -> set[tuple[int, int]]:
        """Open the files that appeared and note which are absent; the keys of those that were opened."""
        from ..store import history_view

        present, appeared = set(), set()

        for name in history_view.names(self.home, {}):
            try:
                file = open(history.path(self.home, name), "rb")
            except FileNotFoundError:
                continue

            status = os.fstat(file.fileno())
            key = (status.st_dev, status.st_ino)
            present.add(key)

            wanted = name == file_name(self.name) if self.name else key in self.open or not is_internal(
                name, state.read(self.home).get(name))

            if key not in self.open and wanted:
                self.open[key] = file
                appeared.add(key)
            else:
                file.close()

        self.absent = self.open.keys() - present
        return appeared


def _from(file: BinaryIO, position: int) -> Iterator[bytes]:
    """The whole lines from a position on. One without its end is left for the next call, or cut off if a kill tore
    it."""
    end = history.whole_end(file.fileno())
    file.seek(0, os.SEEK_END)  # drops what was read ahead: it may have been cut off since
    file.seek(position)

    while file.tell() < end:
        yield file.readline()
