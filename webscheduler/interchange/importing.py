# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks from elsewhere: a crontab, an export, or the directory of another scheduler.

The rules: all tasks are imported or none. A task that is here already is changed only by a file with tasks, and never
by a crontab or a directory: `applying` does it. What cannot be imported is said. Fields that this version does not know
are kept, history is copied line by line, and a task without a slug or secret gets its own.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import IO, Any, Callable, NamedTuple

from .. import signing
from ..commands import registry
from ..errors import BadInput, WebschedulerError
from ..schedule import slots
from ..store import chains, history, keys, old_secret, people, state
from ..store.fields import MOST_DEPTH, NAME_CHARACTERS, check_depth, parse_json
from ..store.settings import SETTINGS, Settings, read_settings
from ..store.task import DUE, FIELDS, SECRETS, check_name, check_printable, file_name, load_task, shown
from ..times import time_zone
from ..zones import NoZoneData
from . import crontab, histories, user_column
from .histories import Logs

FORMAT = "webscheduler tasks"
VERSION = 1
NO_HISTORY = "their history stays behind"
KEYS = ("slug", "secret", "createdAt")  # made where none is given

# Variables that cron reads itself, with what stands in their place here; others are for the command.
REPORTED = {
    **dict.fromkeys(("MAILTO", "MAILFROM"), "the setting `notify` sends notifications instead"),
    **dict.fromkeys(("CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING"), "no output is mailed"),
    **dict.fromkeys(("LOGNAME", "USER"), "commands run as this account"),
    "RANDOM_DELAY": "a task starts with the first tick after it is due",
    "START_HOURS_RANGE": "put the hours into each expression",
}
PASSED_OVER = frozenset(("bash", "chronic", "command", "curl", "dash", "env", "exec", "flock", "ionice", "ksh", "nice",
                         "node", "nohup", "perl", "php", "python", "ruby", "sh", "sudo", "test", "time", "timeout",
                         "wget", "zsh", "[", "true", "{", "(", "!"))
# What may be a key: long, with digits among letters.
SECRET = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_+/=.~-]{16,}|(?=.*\d)[0-9a-fA-F-]{16,}")
OPERATOR = re.compile(r"[;&|<>]+|\d?>.*|-.*|[A-Za-z_]\w*=.*|\d+[smhd]?|\]|\)|\}|.*\.lock")


class Arrival(NamedTuple):
    """What to import. tasks: rows by name; logs: name of a history file -> what returns the lines for it, which are
    read one at a time; said: messages for the person; behind: what stays behind, of where they come from: `timezone`,
    `settings` (names, or values by name), `people` and `keys` (how many), as far as that is known; changes: tasks that
    are here already become as they are in it."""

    tasks: state.Tasks
    logs: Logs
    said: list[str]
    behind: dict[str, Any] = {}
    changes: bool = False


def of_crontab(text: str, tasks: state.Tasks, zone: str, enabled: bool = True, timeout: int = 0, place: str = "",
               any_user: bool = False) -> Arrival:
    """The jobs of a crontab(5), except those that are in `tasks` already. zone: for those without CRON_TZ. timeout: in
    seconds; 0: none, as in cron. place: path of the file. any_user: of a system crontab, those of other users too."""
    arrival = Arrival({}, {}, [])
    jobs, problems = crontab.parse(text)
    jobs = _of_this_user(jobs, place, any_user, arrival.said, problems)
    known = {json.dumps(_essence(row)) for row in tasks.values() if isinstance(row, dict)}
    reported: set[tuple[str, str]] = set()
    taken = dict.fromkeys(map(file_name, tasks), 1)

    for job in jobs:
        row = _row(job, enabled, timeout)

        try:
            slots.check_expression(row["expression"])
            load_task("x", row)
            time_zone(row["timezone"] or "UTC")
        except BadInput as error:
            problems.append(f"line {job.number} is left out: {error}")
            continue

        if " # webscheduler " in job.command:
            problems.append(f"line {job.number} is left out: webscheduler wrote it")
            continue

        for name in job.environment:
            if name in REPORTED and (name, job.environment[name]) not in reported:
                reported.add((name, job.environment[name]))
                problems.append(f"{name}={job.environment[name]} is not imported: {REPORTED[name]}")

        if json.dumps(_essence(row)) in known:
            arrival.said.append(f"line {job.number} is a task already")
            continue

        arrival.tasks[_new_name(job.command, taken)] = row

        if row["expression"] != job.expression:
            problems.append(f"line {job.number}: a step in {job.expression!r} goes beyond its field, and means the "
                            f"first value alone: it is imported as {row['expression']!r}, which is when cron runs it")

    arrival.said.extend(_general(arrival.tasks.values(), zone, timeout))
    arrival.said.extend(problems)
    return arrival


def _general(rows: Collection[dict[str, Any]], zone: str, timeout: int) -> Iterator[str]:
    """What to say of all imported jobs together."""
    if any(row["timezone"] is None for row in rows):
        yield (f"lines without CRON_TZ use the time zone of this installation, {zone}: if that of the crontab's "
               "machine is another, `webscheduler config set timezone ZONE`")

    if any(row["timezone"] is not None for row in rows):
        yield ("CRON_TZ is taken as cronie means it, as the time zone of the lines below it: Debian's cron ignores it "
               "and uses the zone of its machine")

    if rows and not timeout:
        yield ("these tasks have no time limit, as in cron: one that hangs keeps its place (maxConcurrentTasks) until "
               "somebody ends it; `--timeout SECONDS` here, or `webscheduler edit NAME --timeout SECONDS`, sets one")


def _of_this_user(jobs: list[crontab.Job], place: str, any_user: bool, said: list[str],
                  problems: list[str]) -> list[crontab.Job]:
    """The jobs that are for this account, without the user that the lines of a system crontab name."""
    divided = user_column.divide(jobs, place)

    if divided is None:
        for job in jobs:
            word = job.command.split()[0]

            if user_column.is_user(word) and user_column.is_no_program(word):
                problems.append(f"line {job.number} runs {word!r}, which is a user and no program: is this a line of a "
                                "system crontab?")

        return jobs

    account = user_column.account()
    said.append("this is a system crontab, whose lines name a user before the command")
    found = []

    for user, job in divided:
        if not job.command:
            problems.append(f"line {job.number} is left out: it has a user and no command")
        elif user == account or any_user:
            found.append(job)
        else:
            problems.append(f"line {job.number} is left out: it is for the user {user}, and tasks run as {account}; "
                            "--any-user imports it all the same")

    return found


def _row(job: crontab.Job, enabled: bool, timeout: int) -> dict[str, Any]:
    environment = {name: value for name, value in job.environment.items() if name not in (*REPORTED, "CRON_TZ")}
    shell = environment.get("SHELL") or "/bin/sh"
    argv = [shell, "-c", job.command]

    if job.stdin is not None:
        # A run's input is empty, so a shell passes the text on. The command is an argument: it is not parsed twice.
        argv = ["/bin/sh", "-c", 'printf %s "$1" | "$2" -c "$3"', "cron", job.stdin, shell, job.command]

    return {"enabled": enabled, "expression": crontab.with_cron_steps(job.expression),
            "timezone": job.environment.get("CRON_TZ") or None, "environment": environment,
            "cwd": environment.get("HOME") or None, "argv": argv, "group": "crontab", "timeout": timeout}


def _essence(row: dict[str, Any]) -> list[Any]:
    return [row.get(field) or None for field in ("argv", "expression", "timezone", "environment", "cwd")]


def _new_name(command: str, taken: dict[str, int]) -> str:
    """A name for a job: its program without interpreter, path and suffix, and the next word if that is a plain one.
    Names are shown in lists, exports and mails, so nothing that may be a key or a password becomes one. taken: names of
    files that tasks have -> how many jobs would have that name."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()

    parts: list[str] = []
    passed = [word.rstrip(";") for word in words]

    for previous, word in zip(["", *passed], passed):
        path = re.split(r"[?#;&]", word)[0].rstrip("/")
        base = re.sub(r"\.(?:sh|py|php|pl|rb|js)$", "", os.path.basename(path).rpartition("@")[2])

        if SECRET.fullmatch(base):
            base = os.path.basename(os.path.dirname(path))
            base = "" if SECRET.fullmatch(base) else base

        if parts:
            parts += [word] if re.fullmatch(r"[A-Za-z][\w:.-]*", word) and not SECRET.fullmatch(word) else []
            break

        if not OPERATOR.fullmatch(word) and base.rstrip("0123456789.") not in PASSED_OVER | {"cd"} \
                and previous != "cd" and base:
            parts.append(base)

    joined = "-".join(parts) or "job"
    name = "".join(c if c in NAME_CHARACTERS else "-" for c in joined).strip("-.")[:60] or "job"
    each = name

    while file_name(each) in taken:
        taken[file_name(name)] = number = taken.get(file_name(name), 0) + 1
        each = f"{name}-{number}"

    taken.setdefault(file_name(each), 1)
    return each


def document(settings: Settings, tasks: state.Tasks, with_secrets: bool) -> dict[str, Any]:
    """All tasks as `of_document` reads them, and what does not come with them. Without secrets, each task gets a new
    one when it is imported."""
    hidden = SECRETS[1:] if with_secrets else SECRETS
    rows = {name: {field: value for field, value in row.items() if field not in hidden}
            for name, row in shown(tasks).items() if isinstance(row, dict)}
    own = [name for name, row in SETTINGS.items() if name != "timezone" and settings[name] != row.default]
    return {"format": FORMAT, "version": VERSION, "timezone": settings["timezone"], "settings": own,
            **_persons(settings.home), "tasks": rows}


def _persons(home: str) -> dict[str, int]:
    """How many may sign in to the panel, and how many keys open the API, if any does."""
    found = {"people": 0}

    for what, listed in (("people", people.read), ("keys", keys.listed)):
        with suppress(WebschedulerError):
            if count := len(listed(home)):
                found[what] = count

    return found


def of_document(text: str, source: str) -> Arrival:
    """The tasks of an export, or of a state.json. Raises BadInput."""
    behind: dict[str, Any] = {}

    try:
        found = parse_json(text)

        if not isinstance(found, dict) or found.get("format") != FORMAT:
            check_depth(found, MOST_DEPTH - 1)  # an export, which must be readable too, has them a level deeper
    except ValueError as error:
        raise BadInput(f"{source} is not JSON ({str(error)[:100]}): `webscheduler import crontab` reads crontabs")

    if isinstance(found, dict) and found.get("format") == FORMAT:
        if not isinstance(found.get("version"), int) or found["version"] > VERSION:
            raise BadInput(f"{source} was made by a newer webscheduler: update this one")

        if "next" in found:  # null in the last, with which --prune would remove what the others have
            raise BadInput(f"{source} is a part of an export: `webscheduler --at SITE export json` joins the parts")

        behind, found = found, found.get("tasks")
    elif isinstance(found, dict) and isinstance(found.get("tasks"), dict) and any(
            isinstance(row, dict) for name, row in found["tasks"].items() if name not in FIELDS):
        # As a task named `tasks` it would be wrong, and --prune would remove all others for it.
        raise BadInput(f'{source} has tasks within "tasks", but not "format": "{FORMAT}" and "version": {VERSION} '
                       "beside them: add these, or leave out \"tasks\"")

    if found == []:
        found = {}  # how PHP writes an empty object

    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise BadInput(f"{source} must contain an object of tasks keyed by name, like `webscheduler export json`")

    tasks, written = shown(found), behind.get("history")
    logs: Logs = {file_name(name): [partial(histories.written, written[name])] for name in tasks
                  if isinstance(written, dict) and isinstance(written.get(name), list)}
    return Arrival(tasks, logs, [], behind, True)


def of_export(file: IO[bytes], source: str, with_history: bool) -> Arrival:
    """The tasks of an export, or of a state.json, and their history if that is in the file and wanted; then the file is
    read again later. source: what the person calls it. Raises BadInput, OSError."""
    head, places = histories.read(file, source)
    arrival = of_document(decoded(head, source), source)
    arrival.logs.update({file_name(name): [partial(histories.between, file, *place)] for name, place in places.items()
                         if name in arrival.tasks})

    if with_history and not arrival.logs:
        arrival.said.append(f"{source} has no history: make it with `webscheduler export json --history`")
    elif arrival.logs and not with_history:
        arrival.logs.clear()
        arrival.said.append(f"{NO_HISTORY}: --history imports it, too")

    return arrival


def decoded(data: bytes, source: str) -> str:
    """The text of a file. Raises BadInput."""
    # Editors of Windows begin a file with a byte order mark, which also tells UTF-16.
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"

    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise BadInput(f"{source} is not UTF-8: convert it with `iconv -t UTF-8 {source}`")


def of_directory(directory: str) -> Arrival:
    """Tasks and history of a directory with state.json and logs/*.jsonl. Raises BadInput."""
    file = os.path.join(directory, "state.json")

    try:
        with open(file, "rb") as source:
            arrival = of_document(histories.read(source, file)[0].decode(), file)

        logs = os.path.join(directory, "logs")
        names = sorted(os.listdir(logs)) if os.path.isdir(logs) else []

        for name in names:
            if name.endswith(".jsonl"):
                file = os.path.join(logs, name)

                for target in dict.fromkeys(to for to, _ in histories.of_files(file, arrival.tasks)):
                    arrival.logs.setdefault(target, []).append(partial(histories.of_file, target, file, arrival.tasks))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}")

    for name, row in arrival.tasks.items():
        if name != DUE and not row.get("command") and not row.get("argv"):
            row["command"] = name

    return arrival._replace(behind=_behind(directory), changes=False)


def _behind(directory: str) -> dict[str, Any]:
    """What stays behind in a directory, if it is the home of an installation."""
    try:
        given = read_settings(directory)
    except WebschedulerError:
        given = {}

    return given and {"timezone": given.get("timezone", SETTINGS["timezone"].default), "settings": given,
                      **_persons(directory)}


def stays_behind(settings: Settings, arrival: Arrival) -> dict[str, str]:
    """What stays behind of the installation that the tasks come from: a sentence for `timezone`, `settings`, `people`
    and `keys` each, as far as there is something to say."""
    zone, given = (arrival.behind.get(part) for part in ("timezone", "settings"))
    moved, found = _moved(arrival), {}

    if isinstance(zone, str) and zone != settings["timezone"] and moved:
        found["timezone"] = (f"tasks with an expression and no time zone of their own: {len(moved)}; they ran in "
                             f"{zone}, and here run in {settings['timezone']}")

    given = given if isinstance(given, (list, dict)) else []
    names = [name for name in SETTINGS if name != "timezone" and name in given and (
        isinstance(given, list) or given[name] != settings[name])]

    if names:
        found["settings"] = f"settings stay behind: {', '.join(names)}"

    for part, what in (("people", "people of the panel"), ("keys", "keys of the API")):
        if isinstance(known := arrival.behind.get(part), int) and known > 0:
            found[part] = f"{what} stay behind: {known}"

    return found


def _moved(arrival: Arrival) -> list[dict[str, Any]]:
    """The tasks whose schedule is in the time zone of the installation."""
    return [row for name, row in arrival.tasks.items()
            if name != DUE and row.get("expression") and not row.get("timezone")]


def keep_zone(settings: Settings, arrival: Arrival, keep: bool) -> None:
    """Say what stays behind of the installation that the tasks come from. keep: give its time zone to each task that
    would have another one here. Raises BadInput."""
    zone = arrival.behind.get("timezone")

    if keep and not isinstance(zone, str):
        raise BadInput("--keep-zone: it is not known which time zone the tasks had")

    remedies = {"timezone": f"--keep-zone gives them {zone}", "settings": "`webscheduler config set` sets them here",
                "people": "`webscheduler set-password` lets them in here",
                "keys": "`webscheduler api-key add` makes new ones here"}

    for part, sentence in stays_behind(settings, arrival).items():
        if keep and part == "timezone":
            for row in _moved(arrival):
                row["timezone"] = zone

            arrival.said.append(f"{sentence.rpartition(', and ')[0]}, and keep it")
        else:
            arrival.said.append(f"{sentence}: {remedies[part]}")


def keep_old(settings: Settings, arrival: Arrival, now: float) -> None:
    """Keep old history from being deleted by the next clean-up: its task gets unlimited retention."""
    days = settings["logRetentionDays"]

    for name, row in arrival.tasks.items():
        if days and row.get("logRetentionDays") is None and any(
                0 < history.ended(history.parse(line) or {}) < now - days * 86400
                for line in histories.lines_of(arrival.logs, file_name(name))):
            row["logRetentionDays"] = 0
            arrival.said.append(f"{name} keeps its history for ever, because some is older than {days} days: "
                                f"`webscheduler edit {name} --log-retention-days ''` changes that")


def check_logs(tasks: state.Tasks, arrival: Arrival) -> None:
    """Refuse a history that would go to a task that does not come with it. tasks: all, after the merge. Raises
    BadInput."""
    files = {file_name(name): name for name in tasks}

    for file in arrival.logs:
        if file in files and files[file] not in arrival.tasks:
            raise BadInput(f"the history {file}.jsonl would go to the task {files[file]!r} of this installation, so "
                           "nothing is imported: rename the task or the file", "name")


def merge(tasks: state.Tasks, arriving: state.Tasks, row: Callable[..., dict[str, Any] | None],
          replace: bool = False) -> None:
    """Put tasks among those that are here. row(name, given row, present row or an empty dict) returns the row to store,
    or None to leave the task as it is. replace: a task with the same name is replaced, and no slug is changed. Raises
    BadInput, after which the tasks must not be written."""
    for name, given in arriving.items():
        check_name(name)
        present = tasks.get(name)

        if present is not None and name != DUE and not replace:
            raise BadInput(f"a task named {name!r} exists already, so nothing is imported: rename one", "name")

        present = present if isinstance(present, dict) else {}
        found = row(name, {field: value for field, value in given.items()
                           if field != chains.FIELD and (value is not None or field not in KEYS)}, present)

        if found is not None:
            try:
                check_printable(found, present or None)
            except BadInput as error:
                raise BadInput(f"task {name}: {error}", error.field)

            kept = present.get(old_secret.FIELD) if found.get("secret") == present.get("secret") else None
            tasks[name] = {**found, old_secret.FIELD: kept}  # what was ended here does not come back

    for name in arriving.keys() - tasks.keys():
        chains.rename(tasks, name, None)

    chains.check(tasks, [name for name in arriving if name in tasks], True)
    owners: dict[tuple[str, str], str] = {}

    for name, task in tasks.items():
        for what, key in (("files", file_name(name)), ("URL", (isinstance(task, dict) and task.get("slug")) or name)):
            other = owners.setdefault((what, key), name)

            if other == name or not {name, other} & arriving.keys():
                continue

            if what == "files" or replace:
                raise BadInput(f"task {name}: would share its {what} with {other!r}: rename one of them", "name")

            task["slug"] = signing.new_slug()


def advise(settings: Settings, arrival: Arrival) -> None:
    """Say which tasks are imported, but cannot run yet."""
    known = registry.registered(settings)

    for name, row in arrival.tasks.items():
        command = row.get("command")

        if command and command not in known:
            arrival.said.append(f"{name} will not run until a command is registered as {command!r}: `webscheduler "
                                "config set commands` with {\"NAME\": {\"argv\": [...], \"arguments\": true}}")

        try:
            time_zone(row.get("timezone") or "UTC")

            if row.get("expression"):
                slots.check_expression(row["expression"])
        except BadInput as error:
            when = "here" if isinstance(error, NoZoneData) else "until it is edited"
            arrival.said.append(f"{name} will not run {when}: {error}")
