# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a task is: its fields, their defaults and their rules.

The rule: one table, FIELDS, says what `state.json` may contain; the loader, the command line, the panel and the docs
all read it. A task is a dict with exactly the names of the file (`task["minIntervalSeconds"]`), so that a field has one
name in the file, in JSON output and in code. Fields that the table does not know stay in the file as they are.
"""

from __future__ import annotations

from ..errors import BadInput
from ..times import format_time
from ..vocabulary import DUE as DUE
from ..vocabulary import PROBE, STRATEGIES
from .fields import MAX_SECONDS, Field, check, check_entered
from .files import file_name as file_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict, overload

    from typing_extensions import Required

    class Values(dict[str, Any]):
        """The kinds of values of fields; those that may be None are Any, since pyright would not narrow them."""

        @overload
        def __getitem__(self, name: Literal["enabled", "preventOverlap", "notify", "publicOnly"]) -> bool: ...
        @overload
        def __getitem__(self, name: Literal[
            "priority", "minIntervalSeconds", "retries", "retryDelaySeconds", "consecutiveFailures"]) -> int: ...
        @overload
        def __getitem__(self, name: Literal[
            "arguments", "title", "description", "group", "strategy", "signature"]) -> str: ...
        @overload
        def __getitem__(self, name: Literal["ipAllowlist", "onSuccess", "onFailure", "followUps"]) -> list[str]: ...
        @overload
        def __getitem__(self, name: Literal["environment"]) -> dict[str, str]: ...
        @overload
        def __getitem__(self, name: str) -> Any: ...
        def __getitem__(self, name: str) -> Any: ...

    class TaskRow(TypedDict, total=False):
        """A task as JSON shows it: its name and its fields, but for secrets, `oldSecretUntil`, until when URLs of the
        secret before this one work (null: no more), and `url`, its trigger URL (null without `baseUrl`, or where only
        timed URLs work). One that cannot be loaded has `name`, and what is wrong with it as `error`."""

        name: Required[str]
        enabled: bool
        expression: str | None
        intervalSeconds: int | None
        lastRunAt: str | None
        lastRunDuration: float | None
        lastRunStatus: str | None
        lastRunExitCode: int | None
        nextRunAt: str | None
        preventOverlap: bool
        priority: int
        timeout: int | None
        arguments: str
        slug: str | None
        title: str
        description: str
        group: str
        command: str | None
        argv: list[str] | None
        cwd: str | None
        environment: dict[str, str]
        strategy: str
        minIntervalSeconds: int
        ipAllowlist: list[str]
        signature: str
        timezone: str | None
        catchUpSeconds: int | None
        retries: int
        retryDelaySeconds: int
        onSuccess: list[str]
        onFailure: list[str]
        notify: bool
        pingUrl: str | None
        failureStatus: int | None
        logOutput: bool | None
        logErrorOutput: bool | None
        logRetentionDays: int | None
        lastRunAttempt: int | None
        scheduledSince: str | None
        lastRunId: str | None
        consecutiveFailures: int
        createdAt: str | None
        publicOnly: bool
        followUps: list[str]
        oldSecretUntil: str | None
        url: str | None
        error: str
else:
    Values = dict  # `typing` costs a CGI request 3 ms

SECRETS = ("secret", "oldSecret")  # of a task, which no list and no export without secrets shows
FIELDS: dict[str, Field] = {
    "enabled": Field("bool", False, "Whether its URL and its schedule may start the task."),
    "expression": Field("cron", None, "Schedule as a crontab(5) expression.", 200, True),
    "intervalSeconds": Field("seconds", None, "Schedule as seconds between two starts.", (1, MAX_SECONDS), True),
    "lastRunAt": Field("time", None, "When the last run started.", None, True, "run"),
    "lastRunDuration": Field("float", None, "How many seconds the last run took.", (0, 10**10), True, "run"),
    "lastRunStatus": Field("text", None, "How the last run ended, or `running`.", 40, True, "run"),
    "lastRunExitCode": Field("int", None, "Exit status of the last run; 128 + N for signal N.", (-255, 255), True,
                             "run"),
    "nextRunAt": Field("time", None, "When the schedule is next due.", None, True, "run"),
    "preventOverlap": Field("bool", True, "Skip a call while the task is running, so that no two runs overlap."),
    "priority": Field("int", 100, "Lower numbers start first when several tasks are due.", (-1000000, 1000000)),
    "timeout": Field("seconds", None, "Time limit of a run in seconds; 0: no limit; empty: as in the settings.",
                     (0, MAX_SECONDS), True),
    "arguments": Field("text", "", "Split at spaces; quotes keep words together. No shell is used.", 4000),
    "slug": Field("hex", None, "The task's public name in URLs.", 32, True, "key"),
    "secret": Field("hex", None, "The key that signs the task's URLs.", 64, True, "key"),
    "title": Field("line", "", "Title shown in lists; empty: the name.", 200),
    "description": Field("prose", "", "What the task is for.", 2000),
    "group": Field("line", "default", "Tasks of a group are listed, enabled and disabled together.", 100),
    "command": Field("text", None, "The registered command to run.", 200, True),
    "argv": Field("argv", None, "Program and arguments to run, without a shell.", 1000, True),
    "cwd": Field("text", None, "Directory to run in; empty: the account's home.", 4000, True),
    "environment": Field("map", {}, "Environment variables, besides those of the settings."),
    "strategy": Field("choice", "auto", "Whether a run is detached from the response (fork), follows it (close) or "
                      "comes before it (sync); `auto`: the best that works here.", ("auto", *STRATEGIES)),
    "minIntervalSeconds": Field("seconds", 0, "Least seconds between two starts by URL; calls in between are skipped.",
                                (0, MAX_SECONDS)),
    "ipAllowlist": Field("networks", [], "Addresses or networks that may call the URL; empty: all."),
    "signature": Field("choice", "static", "A `static` URL stays valid; a `timed` one is valid once, for minutes.",
                       ("static", "timed", "either")),
    "timezone": Field("text", None, "Time zone of the expression; empty: as in the settings.", 100, True),
    "catchUpSeconds": Field("seconds", None, "Seconds; an older missed start is not caught up on; empty: all are.",
                            (0, MAX_SECONDS), True),
    "retries": Field("int", 0, "How many times a run that failed or timed out is tried again.", (0, 100)),
    "retryDelaySeconds": Field("seconds", 60, "Seconds before a retry. Retries need calls of the @due URL.",
                              (0, MAX_SECONDS)),
    "onSuccess": Field("names", [], "Tasks that run after each success of this one.", 16),
    "onFailure": Field("names", [], "Tasks that run after it failed or timed out, once no retry is left.", 16),
    "notify": Field("bool", True, "Notify when it starts to fail and when it recovers (setting `notify`)."),
    "pingUrl": Field("url", None, "URL to call when it starts (URL/start), succeeds (URL) and fails (URL/fail), as "
                     "healthchecks.io takes it.", 2000, True),
    "failureStatus": Field("int", None, "HTTP status of a `sync` response if the run does not succeed; empty: 200.",
                           (200, 599), True),
    "logOutput": Field("bool", None, "Keep standard output in the history; empty: as in the settings.", None, True),
    "logErrorOutput": Field("bool", None, "Keep standard error in the history; empty: as in the settings.", None, True),
    "logRetentionDays": Field("int", None, "How many days history is kept; 0: for ever; empty: see settings.",
                              (0, 36500), True),
    "lastRunAttempt": Field("int", 1, "Which attempt the last run was; from 2 on a retry.", (1, None), True, "run"),
    "scheduledSince": Field("time", None, "When it was enabled or its schedule changed: it is due from then on.", None,
                            True, "key"),
    "lastRunId": Field("text", None, "Id of the last run.", 64, True, "run"),
    "consecutiveFailures": Field("int", 0, "Runs that did not succeed since the last success.", (0, None), by="run"),
    "createdAt": Field("time", None, "When the task was created.", None, True, "key"),
    "publicOnly": Field("bool", False, "Whether its command `http` calls public addresses, `baseUrl`'s host and "
                        "`privateHosts` alone: true once the panel saved its command or arguments.", by="key"),
    "followUps": Field("lines", [], "Runs that a run of this task is to follow, and followed.", by="run"),
    "oldSecret": Field("map", None, "The secret before this one, since when and until when its URLs stay valid.", None,
                       True, "key"),
}


class Task(Values):
    """A task's checked fields, every name of FIELDS present, plus its `name`."""

    __slots__ = ("name",)

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.name = name


_DEFAULTS = [(field, row, row.default, type(row.default)) for field, row in FIELDS.items()]


def load_task(name: str, raw: object) -> Task:
    """The task that state.json has under `name`. Raises BadInput naming the field and its rule."""
    check_name(name)

    if not isinstance(raw, dict):
        raise BadInput(f"task {name}: must be an object of fields", "name")

    values = {}

    for field, row, default, kind in _DEFAULTS:
        value = raw.get(field, default)

        # Most fields are as they were made, and need no look.
        if not (value is default or (type(value) is kind and value == default)):
            try:
                check(field, row, value)
            except BadInput as error:
                raise BadInput(f"task {name}: {error}", field)

        values[field] = value

    if not values["command"] and not values["argv"] and name != DUE:
        values["command"] = name  # as in other schedulers' files, where that is what a name means

    return Task(name, values)


def load_tasks(rows: dict[str, dict[str, Any]]) -> tuple[dict[str, Task], dict[str, str]]:
    """(the tasks that load, by name; what is wrong with each of the others)."""
    good, broken = {}, {}

    for name, row in rows.items():
        try:
            good[name] = load_task(name, row)
        except BadInput as error:
            broken[name] = str(error)

    return good, broken


def check_printable(row: dict[str, Any], before: dict[str, Any] | None = None) -> None:
    """Refuse titles and the like that are not printable, unless they were so before. Raises BadInput."""
    for field, rule in FIELDS.items():
        if rule.kind in ("line", "prose") and row.get(field, rule.default) != (before or {}).get(field, rule.default):
            check_entered(field, rule, row[field])


def is_internal(name: str, row: object) -> bool:
    """Whether a row of state.json is a task of a probe, which belongs to the program: no list shows it."""
    return isinstance(row, dict) and row.get("group") == PROBE and name.startswith("probe-")


def shown(rows: dict[str, Any]) -> dict[str, Any]:
    """The rows without those that are internal."""
    return {name: row for name, row in rows.items() if not is_internal(name, row)}


def check_name(name: str) -> str:
    """The name, if a task may have it: 1 to 100 printable characters, the first not `-`, `.` or `@` (except `@due`).
    Raises BadInput."""
    if name == DUE:
        return name

    if not 0 < len(name) <= 100 or not name.isprintable() or name[0] in "-.@ " or name[-1] == " ":
        raise BadInput(f"name: {name[:100]!r} must be 1 to 100 printable characters, the first not - . or @", "name")

    return name


DUE_FIELDS = {"enabled": True, "title": "Run all due tasks", "timeout": 0, "description":
              "Runs every task that is due. Have your hosting panel call its URL as often as it can."}


def new_task(now: float, fields: dict[str, Any]) -> dict[str, Any]:
    """A complete row of state.json with a slug and a secret of its own."""
    from .. import signing

    row = {name: field.default for name, field in FIELDS.items()}
    keys = {"slug": signing.new_slug(), "secret": signing.new_secret(), "createdAt": format_time(now)}
    return {**row, **keys, **fields}
