"""What a task is: its fields, their defaults and their rules. A value: imports only `errors` and `addresses`.

The rule: one table, FIELDS, says what `state.json` may hold; the loader, the command line, the panel and the docs all
read it. A task is a dict with exactly the names of the file (`task["minIntervalSeconds"]`), so that one word means one
thing in the file, in JSON output and in code. Fields that the table does not know stay in the file as they are.
"""

from __future__ import annotations

from .errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Values = dict[str, Any]
else:
    Values = dict  # `typing` costs a CGI request 3 ms

MAX_SECONDS = 366 * 86400
DUE = "@due"
NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
HEX = frozenset("0123456789abcdef")


class Field:
    """One row of a table of fields: what kind of value, what it is when unset, and its meaning in a sentence.

    kind: a key of _PROBLEMS below. `limit` belongs to the kind: (least, most) of a number, most characters of a text,
    digits of a hex, the choices. `nullable`: None is a value. `by`: "user" may be edited, "run" is written by runs,
    "key" by the program alone.
    """

    __slots__ = ("by", "default", "kind", "limit", "nullable", "sentence")

    def __init__(
        self, kind: str, default: Any, sentence: str, limit: Any = None, nullable: bool = False, by: str = "user"
    ) -> None:
        self.kind, self.default, self.sentence = kind, default, sentence
        self.limit, self.nullable, self.by = limit, nullable, by


FIELDS: dict[str, Field] = {
    "enabled": Field("bool", False, "Whether its URL and its schedule may run the task."),
    "expression": Field("cron", None, "Schedule as a crontab(5) expression.", 200, True),
    "intervalSeconds": Field("int", None, "Schedule as seconds since the last start.", (1, MAX_SECONDS), True),
    "lastRunAt": Field("time", None, "When the last run started.", None, True, "run"),
    "lastRunDuration": Field("float", None, "Seconds that the last run took.", (0, 10**10), True,
                             "run"),
    "lastRunStatus": Field("text", None, "How the last run ended, or `running`.", 40, True, "run"),
    "lastRunExitCode": Field("int", None, "Exit status of the last run; 128 + N for signal N.", (-255, 255), True,
                             "run"),
    "nextRunAt": Field("time", None, "When the schedule is next due.", None, True, "run"),
    "preventOverlap": Field("bool", True, "A call during a run is skipped, so that none overlaps another."),
    "priority": Field("int", 100, "Lower numbers start first when several tasks are due.", (-1000000, 1000000)),
    "timeout": Field("int", None, "Seconds after which a run is ended; 0: never; empty: as in the settings.",
                     (0, MAX_SECONDS), True),
    "arguments": Field("text", "", "Split at blanks; quotes keep words together. No shell sees them.", 4000),
    "slug": Field("hex", None, "The task's public name in URLs.", 32, True, "key"),
    "secret": Field("hex", None, "The key that signs the task's URLs.", 64, True, "key"),
    "title": Field("text", "", "What lists show; empty: the name.", 200),
    "description": Field("text", "", "What the task is for.", 2000),
    "group": Field("text", "default", "Tasks of a group are listed, enabled and disabled together.", 100),
    "command": Field("text", None, "The registered command to run.", 200, True),
    "argv": Field("argv", None, "Program and arguments to run, without a shell.", 1000, True),
    "cwd": Field("text", None, "Directory to run in; unset: the account's home.", 4000, True),
    "environment": Field("map", {}, "Variables added to the command's environment."),
    "strategy": Field("choice", "auto", "How a run is laid around the answer to its call; `auto`: the best that works.",
                      ("auto", "fork", "close", "sync")),
    "minIntervalSeconds": Field("int", 0, "Seconds between two starts by URL; calls in between are skipped.",
                                (0, MAX_SECONDS)),
    "ipAllowlist": Field("networks", [], "Addresses or networks that may call the URL; empty: all."),
    "signature": Field("choice", "static", "A `static` URL is pasted once; a `timed` one is good once, for minutes.",
                       ("static", "timed", "either")),
    "timezone": Field("text", None, "Zone of the expression, like Europe/Paris; empty: as in the settings.", 100, True),
    "catchUpSeconds": Field("int", None, "Seconds; older missed starts are not made up for; empty: all are.",
                            (0, MAX_SECONDS), True),
    "retries": Field("int", 0, "How often a run that failed or timed out is tried again.", (0, 100)),
    "retryDelaySeconds": Field("int", 60, "Seconds. Retries need calls of the URL for everything that is due.",
                              (0, MAX_SECONDS)),
    "notify": Field("bool", True, "Tell when it begins to fail and when it is well again (setting `notify`)."),
    "failureStatus": Field("int", None, "HTTP status of a `sync` answer whose run does not succeed; empty: 200.",
                           (200, 599), True),
    "logOutput": Field("bool", None, "Keep standard output in the history; empty: as in the settings.", None, True),
    "logErrorOutput": Field("bool", None, "Keep standard error in the history; empty: as in the settings.", None, True),
    "logRetentionDays": Field("int", None, "Days that history is kept; 0: for ever; empty: as in the settings.",
                              (0, 36500), True),
    "lastRunAttempt": Field("int", 1, "Which try of its slot the last run was.", (1, None), True, "run"),
    "scheduledSince": Field("time", None, "When it was enabled or its schedule changed: slots count from then.", None,
                            True, "key"),
    "lastRunId": Field("text", None, "Id of the last run.", 64, True, "run"),
    "consecutiveFailures": Field("int", 0, "Runs that did not succeed since the last that did.", (0, None), False,
                                 "run"),
    "createdAt": Field("time", None, "When the task was made.", None, True, "key"),
}


class Task(Values):
    """A task's checked fields, every name of FIELDS present, plus its `name`."""

    __slots__ = ("name",)

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.name = name


def load(name: str, raw: object) -> Task:
    """The task that state.json holds under `name`. Raises BadInput naming the field and its rule."""
    check_name(name)

    if not isinstance(raw, dict):
        raise BadInput(f"task {name}: must be an object of fields", "name")

    values = {}

    for field, row in FIELDS.items():
        try:
            values[field] = check(field, row, raw.get(field, row.default))
        except BadInput as error:
            raise BadInput(f"task {name}: {error}", field)

    return Task(name, values)


def load_all(rows: dict[str, dict[str, Any]]) -> tuple[dict[str, Task], dict[str, str]]:
    """(the tasks that load, by name; what is wrong with each of the others)."""
    good, broken = {}, {}

    for name, row in rows.items():
        try:
            good[name] = load(name, row)
        except BadInput as error:
            broken[name] = str(error)

    return good, broken


def check_name(name: str) -> str:
    """`name` if a task may have it: 1 to 100 printable characters, not starting with `-`, `.` or `@` (but `@due`)."""
    if name == DUE:
        return name

    if not 0 < len(name) <= 100 or not name.isprintable() or name[0] in "-.@ " or name[-1] == " ":
        raise BadInput(f"name: {name[:100]!r} must be 1 to 100 printable characters, the first not - . or @", "name")

    return name


def file_name(name: str) -> str:
    """What a task's files are called: everything but `[A-Za-z0-9_.-]` becomes `_`."""
    return "".join(c if c in NAME_CHARACTERS else "_" for c in name)


def check(field: str, row: Field, value: Any) -> Any:
    """`value` if it obeys the row's rule; numbers that came as text do not. Raises BadInput."""
    if value is None and row.nullable:
        return None

    problem = _PROBLEMS[row.kind](value, row.limit)

    if problem:
        raise BadInput(f"{field}: {problem}", field)

    return value


def from_text(field: str, row: Field, text: str) -> Any:
    """The value that a person typed for a field, checked. Empty means None where that is a value. Raises BadInput."""
    if text == "" and row.nullable:
        return None

    value: Any = text

    if row.kind == "int":
        digits = text[1:] if text[:1] == "-" else text
        # int() would take "¹", "1_0", "+1" and blanks as well.
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 12:
            raise BadInput(f"{field}: {text[:40]!r} is not a whole number", field)

        value = int(text)
    elif row.kind == "bool":
        if text.lower() not in ("true", "false", "yes", "no", "1", "0", "on", "off"):
            raise BadInput(f"{field}: {text[:40]!r} is neither true nor false", field)

        value = text.lower() in ("true", "yes", "1", "on")
    elif row.kind in ("networks", "lines") and not text.lstrip().startswith("["):
        value = text.replace(",", " ").split()
    elif row.kind in ("networks", "lines", "map", "commands", "notify", "argv"):
        import json

        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise BadInput(f"{field}: is not JSON", field)

    return check(field, row, value)


# Each takes a value and its row's limit and says what is wrong, or returns an empty string.


def _text(value: Any, most: Any) -> str:
    if not isinstance(value, str):
        return "must be a text"

    if len(value) > (most or 4000):
        return f"is longer than {most or 4000} characters"

    if "\0" in value:
        return "must not hold a NUL"

    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        return "is not valid UTF-8"

    return ""


def _bool(value: Any, _: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _int(value: Any, limit: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return "must be a whole number"

    return _range(value, limit)


def _float(value: Any, limit: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return "must be a number"

    return _range(value, limit)


def _range(value: float, limit: Any) -> str:
    least, most = limit or (None, None)

    if least is not None and value < least or most is not None and value > most:
        return f"must be at least {least}" if most is None else f"must be from {least} to {most}"

    return ""


def _hex(value: Any, digits: Any) -> str:
    if not isinstance(value, str) or len(value) != digits or not HEX.issuperset(value):
        return f"must be {digits} lower-case hexadecimal digits"

    return ""


def _choice(value: Any, choices: Any) -> str:
    return "" if value in choices else "must be one of " + ", ".join(choices)


def _argv(value: Any, most: Any) -> str:
    if not isinstance(value, list) or not 0 < len(value) <= (most or 1000):
        return f"must be a list of 1 to {most or 1000} texts, the first the program"

    return next((problem for problem in (_text(item, 100000) for item in value) if problem), "") or (
        "" if value[0] else "the program is empty")


def _lines(value: Any, most: Any) -> str:
    if not isinstance(value, list) or len(value) > (most or 1000):
        return f"must be a list of at most {most or 1000} texts"

    return next((problem for problem in (_text(item, 4000) for item in value) if problem), "")


def _map(value: Any, _: Any) -> str:
    if not isinstance(value, dict):
        return "must be an object of texts"

    for key, item in value.items():
        if not key or "=" in key or _text(key, 200) or _text(item, 100000):
            return f"{str(key)[:40]!r} must be a variable's name and its value a text"

    return ""


def _notify(value: Any, _: Any) -> str:
    if not isinstance(value, dict) or not set(value) <= {"email", "url"}:
        return 'must be like {"email": "me@example.org", "url": "https://example.org/hook"}, either or both'

    email, url = value.get("email", "@"), value.get("url", "https://")

    if _text(email, 200) or "@" not in email or not email.isprintable():
        return "email must be an address"

    return "" if not _text(url, 2000) and url.startswith(("http://", "https://")) else "url must be http:// or https://"


def _commands(value: Any, _: Any) -> str:
    if not isinstance(value, dict):
        return "must be an object keyed by command name"

    for key, row in value.items():
        taking = row.get("arguments", False) if isinstance(row, dict) else None

        if not isinstance(row, dict) or not isinstance(taking, bool):
            return f"{key[:40]!r} must be an object, its `arguments` true or false"

        # A management command of Django and a console script are registered by their name alone.
        if not (_word(row.get("django")) or _word(row.get("script"))) and _argv(row.get("argv"), None):
            return f'{key[:40]!r} must be like {{"argv": ["/usr/bin/php", "artisan"], "arguments": false}}'

        if _text(row.get("description", ""), 2000) or _text(row.get("cwd") or "", 4000):
            return f"{key[:40]!r}: description and cwd must be texts"

    return ""


def _word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and NAME_CHARACTERS.issuperset(value)


def _networks(value: Any, _: Any) -> str:
    problem = _lines(value, 200)

    if problem or not value:
        return problem

    from .addresses import network

    for item in value:
        if item != "unix" and network(item) is None:
            return f"{item[:60]!r} is no address and no network like 203.0.113.0/24 or 2001:db8::/32"

    return ""


def _time(value: Any, _: Any) -> str:
    try:
        parse_time(value if isinstance(value, str) else "")
    except (ValueError, OverflowError):
        return "must be an instant like 2026-03-29T01:00:00+00:00"

    return ""


_PROBLEMS = {
    "bool": _bool, "int": _int, "float": _float, "text": _text, "cron": _text, "hex": _hex, "choice": _choice,
    "argv": _argv, "lines": _lines, "map": _map, "networks": _networks, "time": _time, "commands": _commands,
    "notify": _notify,
}


def parse_time(text: str) -> float:
    """Unix seconds of an ISO 8601 instant with offset or `Z`; an instant without a zone is taken as UTC."""
    from datetime import datetime, timezone

    # fromisoformat understands `Z` only from Python 3.11 on, and colonless offsets (as PHP's DATE_ISO8601) neither.
    text = text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text

    if len(text) > 5 and text[-5] in "+-" and text[-4:].isdigit() and "T" in text:
        text = text[:-2] + ":" + text[-2:]

    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)).timestamp()


def instant(value: Any) -> float:
    """The same of what a file may hold; 0 for what is no such instant."""
    try:
        return parse_time(value) if isinstance(value, str) else 0.0
    except (ValueError, OverflowError):
        return 0.0


def format_time(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds: 2026-03-29T01:00:00.000+00:00."""
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
