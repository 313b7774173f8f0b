# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks as another scheduler reads them: lines of a crontab, units of systemd, CronJobs of Kubernetes, workflows of
GitHub Actions.

The rules: what the other scheduler does differently is said, as a comment in the text and to whoever asked; a task that
it cannot run at the right times, or of which its format cannot say a value, is left out. Every value is escaped as its
place in the format asks, and nothing is left that a terminal would obey. A task that runs code found by `sync`, or a
built-in command, goes through `webscheduler run`, which keeps overlap, limits and history itself; so does a job that
calls a task's URL, for those who only want another caller.

A format is a row of FORMATS and a file in templates/: first what is to be said of it, then what is written for each
task, with `{names}` of values. A line whose value is a list is there once for each of its items. `==== NAME` begins a
file of its own.

Sources: systemd.time(7) for calendars, systemd.timer(5), systemd.service(5), systemd.syntax(7) for quoting;
docs.github.com, "Events that trigger workflows" and "Workflow syntax".
"""

from __future__ import annotations

import functools
import json
import pkgutil
import re
import shlex
from collections.abc import Container, Iterable
from itertools import count
from typing import Any, Callable, NamedTuple, Union

from .. import signing
from ..commands import registry
from ..errors import BadInput, WebschedulerError
from ..printable import escaped
from ..schedule.cron import ALIASES, Cron
from ..store import chains, state
from ..store.chains import MOST_IN_A_ROW
from ..store.settings import Settings
from ..store.task import DUE, Task, file_name, is_internal, load_task
from ..times import time_zone
from . import crontab, importing

Row = dict[str, Union[str, list[str]]]

GRACE = 5  # seconds from TERM to KILL, as here
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What ExecStart= takes for a program, after its quotes are gone: no prefix and nothing that it calls special.
UNIT_PROGRAM = re.compile(r"""/[^"'\\\x00-\x1f\x7f]*|[^"'\\\x00-\x1f\x7f/@:+!|-][^"'\\\x00-\x1f\x7f/]*""")
WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
PLACE = re.compile(r"\{(\w+)\}")
BY_CLOCK, NO_RETRIES = "its interval counts by the clock there, not from the last start", "its retries are lost"
NO_CHAIN = "what follows it is lost, since this format cannot say it"
CALL_SECONDS = 60  # that a call may take; more where the run is over before its answer
BY_URL = ("These jobs call URLs. A refused call looks like an accepted one: `webscheduler doctor` tells of it.",
          "Whoever has a URL can start its task: keep it as you keep passwords.")


class Export:
    """Tasks as another scheduler reads them. said: what whoever asked must know, which is in the text as well. files:
    name -> content, where it is more than one; `str` is all in one text. base: what the URLs begin with that jobs call
    instead of running commands; empty: they run commands."""

    def __init__(self, kind: str, settings: Settings, image: str, base: str) -> None:
        template = (pkgutil.get_data(__name__, f"templates/{kind}.template") or b"").decode()
        head, _, body = template.partition("\n\n")
        self.by_url, self.base = bool(base) or FORMATS[kind].by_url, base or settings["baseUrl"]
        self.image = image or ("curlimages/curl" if self.by_url else "IMAGE")
        self.settings, self.own = settings, FORMATS[kind].own
        self.lines = _filled(head, {"image": escaped(self.image, one_line=True)})
        self.lines += [f"# {line}" for line in BY_URL] if self.by_url else []
        self.said = [line[2:] for line in self.lines]
        self.body, *files = body.split("==== ")
        self.templates = dict(text.split("\n", 1) for text in files)
        self.files: dict[str, str] = {}
        self.zone = ""  # of the lines of a crontab so far
        self.tasks: dict[str, Task] = {}
        self.resources: set[str] = set()

    @functools.cached_property
    def variables(self) -> dict[str, str]:
        """The environment of a task that webscheduler runs itself."""
        return self.own(self.settings)

    @functools.cached_property
    def leaders(self) -> dict[str, list[str]]:
        return chains.leaders(dict(self.tasks))

    def add(self, task: Task, row: Callable[[Export, Task, Program, list[str]], Row]) -> None:
        """Write one task; or say why it is left out."""
        notes: list[str] = []
        values: Row | None = None

        try:
            if not (task["expression"] or task["intervalSeconds"]):
                before = ", ".join(self.leaders.get(task.name, ()))
                raise BadInput("it has no schedule" + (f" of its own, and runs after {before}" if before else ""))

            program = Program(self, task)
            notes += ["its ipAllowlist must have the addresses that call"] * (self.by_url and bool(task["ipAllowlist"]))
            values = row(self, task, program, notes)
            notes[:0] = [f"runs through webscheduler, whose home {self.settings.home} must be there"] * program.own
        except (WebschedulerError, ValueError) as error:
            notes = [f"is left out: {error}"]

        said = [escaped(" ".join(f"{task.name}: {note}".split())) for note in notes]
        self.said += said
        self.lines += ["" for _ in range(not self.templates)] + [f"# {line}" for line in said]

        if values is not None:
            self.lines += _filled(self.body, values)

            for name, template in self.templates.items():
                self.files[_filled(name, values)[0]] = "\n".join(_filled(template, values)) + "\n"

    def __str__(self) -> str:
        text = "\n".join(["# Made by `webscheduler export`.", *self.lines]) + "\n"
        return text + "".join(f"\n# ---- {name}\n{content}" for name, content in self.files.items())


def whole(kind: str, settings: Settings, rows: state.Tasks, with_secrets: bool = False,
          names: Container[str] | None = None, more: dict[str, Any] | None = None) -> bytes:
    """What `webscheduler export` prints of these tasks. kind: `json`, or one of FORMATS. names: of those of which it is
    to be; more: what a part in JSON says besides. Raises BadInput."""
    if kind == "json":
        rows = {name: row for name, row in rows.items() if names is None or name in names}
        return json.dumps({**importing.document(settings, rows, with_secrets), **(more or {})}, indent=2).encode() + (
            b"\n")

    base = settings["baseUrl"] if FORMATS[kind].by_url else ""

    if FORMATS[kind].by_url and not base:
        raise BadInput("no baseUrl is set: `webscheduler config set baseUrl https://...`", "baseUrl")

    tasks = [load_task(name, row) for name, row in rows.items()]
    return str(export(kind, settings, tasks, base=base, names=names)).encode()


class Program:
    """What a task runs elsewhere. own: webscheduler runs it there. kept: it does, or its URL is called; its limits and
    what follows are kept. timeout: seconds; 0 for none, or where it is kept already."""

    def __init__(self, export: Export, task: Task) -> None:
        settings = export.settings
        self.zone: str = task["timezone"] or settings["timezone"]
        time_zone(self.zone)
        self.timeout: int = settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]
        self.own, self.kept, self.environment, self.cwd = False, export.by_url, {}, None

        if export.by_url:
            self.argv = _call(export, task, self.timeout)
            self.timeout = 0
            return

        self.argv, cwd = registry.argv(settings, task)
        self.cwd = task["cwd"] or cwd
        self.environment = {**settings["environment"], **task["environment"]}
        free = task["argv"] or "argv" in settings["commands"].get(task["command"], {})
        self.own = self.kept = not free and registry.registered(settings)[task["command"]].source != "file"

        if self.own:
            self.argv = [registry.interpreter(settings), "-m", "webscheduler", "run", task.name]
            self.cwd, self.timeout, self.environment = None, 0, export.variables

        for name in self.environment:
            if not VARIABLE.fullmatch(name):
                raise BadInput(f"no other scheduler can set a variable named {name!r}")


def export(kind: str, settings: Settings, tasks: Iterable[Task], image: str = "", base: str = "",
           names: Container[str] | None = None) -> Export:
    """The tasks in a format of FORMATS. image: of the containers, for Kubernetes. base: what URLs begin with; then jobs
    call the tasks' URLs instead of running their commands. names: of those that are written."""
    made = Export(kind, settings, image, base)
    made.tasks = {task.name: task for task in tasks}

    for task in made.tasks.values():
        if task.name != DUE and not is_internal(task.name, task) and (names is None or task.name in names):
            made.add(task, FORMATS[kind].row)

    return made


def _call(export: Export, task: Task, timeout: int) -> list[str]:
    """The program that calls a task's URL, without the answer on its output. Raises BadInput."""
    if not export.base:
        raise BadInput("no baseUrl is set: `webscheduler config set baseUrl https://...`")

    if task["signature"] == "timed":
        raise BadInput("it accepts timed signatures only, and a URL that stays the same has none: `webscheduler edit "
                       "NAME --signature either`")

    if not task["slug"] or not task["secret"]:
        raise BadInput("it has no URL yet: `webscheduler url NAME` makes one")

    seconds = CALL_SECONDS + (timeout or 3600) * (task["strategy"] == "sync")
    return ["curl", "-fsS", "--max-time", str(seconds), "-o", "/dev/null",
            signing.trigger_url(export.base, task["slug"], task["secret"])]


def _filled(template: str, values: Row) -> list[str]:
    lines = []

    for line in template.rstrip("\n").split("\n") if template else ():
        several = next((name for name in PLACE.findall(line) if isinstance(values[name], list)), "")

        for item in values[several] if several else ("",):
            lines.append(PLACE.sub(lambda place: item if place[1] == several else str(values[place[1]]), line))  # noqa: B023

    return lines


def _crontab(export: Export, task: Task, program: Program, notes: list[str]) -> Row:
    """For Debian's cron or cronie, with flock(1) and timeout(1) where a task asks for them."""
    expression = _expression(task)

    if _quartz(Cron(expression)):
        raise BadInput(f"cron does not know {expression!r}")

    line = _line(export, task, program, notes, [task.name])
    notes += [BY_CLOCK] * (not task["expression"]) + _no_retries(export, task)
    zone, export.zone = export.zone, program.zone
    return {"zone": [program.zone] if zone != program.zone else [], "expression": expression,
            "off": "" if task["enabled"] else "# disabled: ", "line": crontab.escaped(line)}


def _line(export: Export, task: Task, program: Program, notes: list[str], chained: list[str]) -> str:
    """The command of a task for a shell, with what follows its success. chained: what stands on its line already,
    which grows. Raises BadInput."""
    words = [shlex.quote(word) for word in program.argv]
    following = [] if program.kept else [name for name in task["onSuccess"]
                                        if name in export.tasks and export.tasks[name]["enabled"]]
    notes += ["what follows its failure is lost"] * (bool(task["onFailure"]) and not program.kept)

    if len(chained) + len(following) > MOST_IN_A_ROW:  # all ways through a net of tasks may be millions
        notes += [NO_CHAIN] * (NO_CHAIN not in notes)
        following = []

    chained += following

    if program.timeout:
        words = ["timeout", f"-k{GRACE}", str(program.timeout), *words]

    if task["preventOverlap"] and not program.kept:
        held = "-E75" if following else "-E0"  # exit status: nothing follows what did not run
        words = ["flock", "-n", held, f'"$HOME"/.webscheduler-{file_name(task.name)}.lock', *words]

    if program.environment:
        words = ["env", *(shlex.quote(f"{name}={value}") for name, value in program.environment.items()), *words]

    line = " ".join(words)

    if program.cwd:  # to cd(1) one may look like an option
        line = f"cd {shlex.quote('./' * program.cwd.startswith('-') + program.cwd)} && {line}"

    if following:
        after = [_line(export, export.tasks[name], Program(export, export.tasks[name]), notes, chained)
                 for name in following]
        line = f"({line}) && " + (f"({after[0]})" if len(after) == 1 else "{ " + "".join(
            f"({each}); " for each in after) + "}")

    if "\n" in line:
        raise BadInput("a line of a crontab cannot say a line break")

    if escaped(line) != line:
        raise BadInput("a line of a crontab cannot say a character that is not printable")

    return line


def _systemd(export: Export, task: Task, program: Program, notes: list[str]) -> Row:
    """Units for `systemctl --user`, or with a User= for the system."""
    times = [f"{when} {program.zone}" for when in calendar(task["expression"])] if task["expression"] else []
    late = task["catchUpSeconds"] is None
    notes += ["is disabled: do not enable its timer"] * (not task["enabled"])
    notes += ["may overlap here, and will not there"] * (not task["preventOverlap"] and not program.kept)
    notes += ["what was missed is not run later at all: systemd knows no limit for that"] * (not late)
    notes += _no_retries(export, task) + [NO_CHAIN] * _leads_on(task, program)

    if program.cwd and (program.cwd[0] != "/" or program.cwd[-1] in " \\" or escaped(program.cwd, True) != program.cwd):
        raise BadInput(f"no WorkingDirectory= says {program.cwd!r}")

    if not UNIT_PROGRAM.fullmatch(program.argv[0]) or program.argv[0].isspace():
        raise BadInput(f"no ExecStart= says the program {program.argv[0]!r}")

    if any((c < " " and c not in "\t\n") or c == "\x7f" for value in program.environment.values() for c in value):
        raise BadInput("systemd sets no variable to a control character")

    return {"file": file_name(task.name), "calendar": times, "grace": str(GRACE),
            "description": _unit_text(task["title"] or task.name),
            "variable": [_unit_word(f"{name}={value}", "") for name, value in program.environment.items()],
            "cwd": [program.cwd.replace("%", "%%")] if program.cwd else [],
            "timeout": str(program.timeout or "infinity"),
            "command": " ".join([_unit_word(program.argv[0], ""), *map(_unit_word, program.argv[1:])]),
            "persistent": ["true" if late else "false"] if times else [],
            "first": [] if times else ["0"], "interval": [] if times else [str(task["intervalSeconds"])]}


def _kubernetes(export: Export, task: Task, program: Program, notes: list[str]) -> Row:
    """CronJob manifests (batch/v1), one document for each task."""
    schedule, settings, deadline = _portable(task, "Kubernetes"), export.settings, task["catchUpSeconds"]
    name = _resource(task.name, export)
    notes += [BY_CLOCK] * (not task["expression"])
    program.argv[0] = "python3" if program.own else program.argv[0]
    notes += ["may overlap, but not within webscheduler's own run"] * (not task["preventOverlap"] and program.own)
    notes += _no_retries(export, task) if export.by_url else [
        "Kubernetes chooses the delay before a retry"] * bool(task["retries"])
    notes += [NO_CHAIN] * _leads_on(task, program)
    # Its controller looks every ten seconds: with less it might never start a job.
    notes += ["a missed slot is run there for up to 10 seconds"] * (deadline is not None and deadline < 10)
    days = settings["logRetentionDays"] if task["logRetentionDays"] is None else task["logRetentionDays"]
    failure_days = settings["failureRetentionDays"]
    days = max(days, days if failure_days is None else failure_days) if days and failure_days != 0 else 0
    # $(NAME) would be expanded; $$ stands for a dollar.
    variables = [f"{{name: {_yaml(name)}, value: {_yaml(value.replace('$(', '$$('))}}}"
                 for name, value in program.environment.items()]
    words = [word.replace("$(", "$$(") for word in program.argv]

    if export.by_url:
        words[-1], secret = "$(URL)", f"webscheduler-{name}"
        variables = [f"{{name: URL, valueFrom: {{secretKeyRef: {{name: {_yaml(secret)}, key: url}}}}}}"]
        notes.append(f"kubectl create secret generic {secret} --from-literal=url=\"$({_url(task)})\"")

    return {"name": _yaml(name), "schedule": _yaml(schedule), "image": _yaml(export.image),
            "zone": _yaml("Etc/UTC" if program.zone == "UTC" else program.zone),
            "policy": "Forbid" if task["preventOverlap"] else "Allow",
            "suspend": "false" if task["enabled"] else "true",
            "retries": "0" if export.by_url else str(task["retries"]),
            "deadline": [] if deadline is None else [str(max(10, deadline))],
            "timeout": [str(program.timeout)] if program.timeout else [],
            "kept": [str(days * 86400)] if days else [],
            "word": [_yaml(word) for word in words],
            "cwd": [_yaml(program.cwd)] if program.cwd else [],
            "env": ["env:"] if variables else [], "variable": variables}


def _github(export: Export, task: Task, program: Program, notes: list[str]) -> Row:
    """Workflows that call URLs, which are secrets of the repository."""
    if not task["enabled"]:
        raise BadInput("it is disabled, and a workflow would be called all the same")

    schedule = _portable(task, "GitHub")
    cron = Cron(schedule)
    minutes = sorted(cron.minutes)
    gaps = [later - minute for minute, later in zip(minutes, [*minutes[1:], 60 + minutes[0]])]
    finest = min(gaps if len(cron.hours) > 1 else gaps[:-1] or gaps)
    seconds = int(program.argv[3])
    name = "WEBSCHEDULER_" + _resource(task.name, export).upper().replace("-", "_")
    notes += [BY_CLOCK] * (not task["expression"]) + _no_retries(export, task)
    notes += ["is wanted more often than every 5 minutes, and runs every 5 minutes there"] * (finest < 5)
    notes += ["what was missed is not run later"] * (task["catchUpSeconds"] is None)
    notes.append(f"gh secret set {name} --body \"$({_url(task)})\"")
    return {"file": file_name(task.name), "title": _yaml(f"webscheduler {task.name}".replace("${{", "$ {{")),
            "schedule": _yaml(schedule), "zone": [] if program.zone == "UTC" else [_yaml(program.zone)],
            "minutes": str(seconds // 60 + 2), "seconds": str(seconds), "secret": name}


class Format(NamedTuple):
    """title: what it is called. row: the values of its template for a task, after what is to be said of the task was
    added to the notes; raises BadInput for a task that it cannot run. own: the environment in which webscheduler runs
    there. by_url: jobs can only call URLs."""

    title: str
    row: Callable[[Export, Task, Program, list[str]], Row]
    own: Callable[[Settings], dict[str, str]] = crontab.variables
    by_url: bool = False


FORMATS = {
    "crontab": Format("crontab", _crontab),
    "systemd": Format("systemd", _systemd),
    "kubernetes": Format("Kubernetes", _kubernetes, lambda settings: {"WEBSCHEDULER_HOME": settings.home}),
    "github": Format("GitHub Actions", _github, by_url=True),
}


def _leads_on(task: Task, program: Program) -> bool:
    """Whether other tasks follow, which webscheduler does not start there."""
    return bool(task["onSuccess"] or task["onFailure"]) and not program.kept


def _no_retries(export: Export, task: Task) -> list[str]:
    """What to say of retries, where webscheduler or nobody tries again."""
    return ["its retries need calls of @due's URL" if export.by_url else NO_RETRIES] * bool(task["retries"])


def _url(task: Task) -> str:
    """The command line that prints the task's URL."""
    return f"webscheduler url {shlex.quote(task.name)}"


def _expression(task: Task) -> str:
    """The schedule as five fields; an interval where the clock divides it. Raises BadInput."""
    interval = task["intervalSeconds"] or 0

    if task["expression"]:
        text = " ".join(str(task["expression"]).split())
        return ALIASES.get(text.lower(), text).replace("?", "*")

    try:
        return crontab.expression(interval // 60 if interval % 60 == 0 else 0)
    except BadInput:
        raise BadInput(f"no expression says every {interval} seconds")


def _quartz(cron: Cron) -> bool:
    """Whether the expression has one of the signs that are not crontab(5)'s: L W LW #."""
    return bool(cron.nearest or cron.nth or 0 in cron.dates)


def _unit_text(text: str) -> str:
    """A text as the value of a setting that knows specifiers and nothing else; a backslash at its end would continue
    the line (systemd.syntax(7))."""
    text = escaped(text, one_line=True).replace("%", "%%")
    return text + "\\" * (len(text) - len(text.rstrip("\\")) & 1)


def _unit_word(word: str, dollar: str = "$$") -> str:
    """A word of a unit file (systemd.syntax(7), systemd.service(5): `%` is a specifier, and in ExecStart `$`, too)."""
    for sign, instead in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", dollar or "$")):
        word = word.replace(sign, instead)

    return '"' + "".join(c if escaped(c, True) == c else _unit_escape(c) for c in word) + '"'


def _unit_escape(character: str) -> str:
    code = ord(character)

    if character in "\n\t":
        return {"\n": "\\n", "\t": "\\t"}[character]

    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, which a unit file cannot have
        raise BadInput("a unit file must be UTF-8")

    return f"\\x{code:02x}" if code < 128 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def calendar(expression: str) -> list[str]:
    """OnCalendar= without a zone, several where the two fields of days are an "or". Raises BadInput for what it cannot
    say: `W`, and two of the special days at once."""
    cron = Cron(expression)
    plain = ",".join(f"{day:02}" for day in sorted(cron.dates - {0}))
    dates = ["*"] if len(cron.dates - {0}) == 31 else [plain] * bool(plain) + ["~01"] * (0 in cron.dates)
    names = ",".join(WEEKDAYS[day] for day in sorted(cron.weekdays))
    weekdays = [("", "*")] if len(cron.weekdays) == 7 else [(names, "*")] * bool(names) + [
        (WEEKDAYS[day], f"{7 * place - 6:02}..{min(7 * place, 31)}" if place else "~07/1")
        for day, place in sorted(cron.nth)]
    days = [("", date) for date in dates] + weekdays

    if cron.nearest or (cron.both and any("*" not in (date, part) for date in dates for _, part in weekdays)):
        raise BadInput(f"no OnCalendar= says {expression!r}")

    if cron.both:
        days = [(weekday, part if date == "*" else date) for date in dates for weekday, part in weekdays]

    months = "*" if len(cron.months) == 12 else ",".join(f"{month:02}" for month in cron.months)
    hours = "*" if len(cron.hours) == 24 else ",".join(f"{hour:02}" for hour in cron.hours)
    minutes = "*" if len(cron.minutes) == 60 else ",".join(f"{minute:02}" for minute in cron.minutes)
    return [f"{weekday} *-{months}{'' if date[0] == '~' else '-'}{date} {hours}:{minutes}:00".strip()
            for weekday, date in days]


def _resource(name: str, export: Export) -> str:
    """A name as RFC 1123 has labels, and short enough for the names of its jobs; another than those before it."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())[:40].strip("-") or "task"
    found = next(each for n in count(1) if (each := plain if n == 1 else f"{plain}-{n}") not in export.resources)
    export.resources.add(found)
    return found


def _portable(task: Task, reader: str) -> str:
    """The schedule as a parser reads it that knows less: no signs of Quartz, Sunday is 0 alone, and a step of more than
    one makes `*` an ordinary range, which is an "or" with the other field of days where ours is an "and". Raises
    BadInput."""
    expression = _expression(task)

    cron, fields = Cron(expression), expression.split()
    stepped = [field[0] == "*" and not {"*", "*/1"} & set(field.split(",")) for field in (fields[2], fields[4])]

    if _quartz(cron) or (stepped[0] and fields[4] != "*") or (stepped[1] and fields[2] != "*"):
        raise BadInput(f"{reader} does not read {expression!r} as we do")

    if any("7" in day.partition("/")[0] for day in fields[4].split(",")):
        fields[4] = ",".join(map(str, sorted(cron.weekdays)))

    return " ".join(fields)


def _yaml(text: str) -> str:
    """A text in YAML's double-quoted style, of which JSON's is a part but for what is not printable. Raises
    BadInput."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise BadInput("a manifest must be UTF-8")

    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in json.dumps(text, ensure_ascii=False))
