"""The same tasks for the next host: crontab lines, systemd units, and Kubernetes CronJobs.

The rule: what the other scheduler would do differently is said, in the text as a comment and to whoever asked for it;
a task that it cannot run at the right times is left out rather than run at others. A task that runs code found by
`sync`, or a built-in command, goes through `webscheduler run`, which keeps overlap, limits and history itself.

Sources: systemd.time(7) for calendars, systemd.timer(5), systemd.service(5), systemd.syntax(7) for quoting.
"""

from __future__ import annotations

import json
import shlex

from ..commands import registry
from ..errors import BadInput, WebschedulerError
from ..schedule.cron import Cron
from ..store.task import DUE, file_name
from . import crontab

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Callable, TypeVar

    from ..store.settings import Settings
    from ..store.task import Task

    T = TypeVar("T")

GRACE = 5  # seconds from TERM to KILL, as here
WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


class Program:
    """What a task runs elsewhere. own: it is run by webscheduler, which keeps its limits itself. timeout: 0 for none,
    or where it is kept already."""

    __slots__ = ("argv", "cwd", "environment", "own", "timeout")

    def __init__(self, settings: Settings, task: Task) -> None:
        self.argv, cwd = registry.argv(settings, task)
        self.cwd: str | None = task["cwd"] or cwd
        self.environment = {**settings["environment"], **task["environment"]}
        self.timeout = settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]
        free = task["argv"] or "argv" in settings["commands"].get(task["command"], {})
        self.own = not free and registry.registered(settings)[task["command"]].source != "file"

        if self.own:
            self.argv = [registry.interpreter(settings), "-m", "webscheduler", "run", task.name]
            self.cwd, self.timeout = None, 0


class Text:
    """An export in the making: its lines, what is to be said, and the files that it consists of, by name."""

    __slots__ = ("files", "lines", "said")

    def __init__(self, *said: str) -> None:
        self.said = list(said)
        self.lines = ["# Made by `webscheduler export`.", *(f"# {line}" for line in said)]
        self.files: dict[str, str] = {}

    def note(self, name: str, what: str) -> None:
        """Say something about a task, here and to whoever asked."""
        self.said.append(f"{name}: {what}")
        self.lines.append(f"# {' '.join(self.said[-1].split())}")

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n" + "".join(f"\n# ---- {name}\n{text}" for name, text in self.files.items())


def export(kind: str, settings: Settings, tasks: Iterable[Task], image: str = "IMAGE") -> Text:
    """The tasks as `kind` reads them: crontab, systemd, or kubernetes."""
    if kind == "kubernetes":
        return as_kubernetes(settings, tasks, image)

    return as_systemd(settings, tasks) if kind == "systemd" else as_crontab(settings, tasks)


def _programs(
    settings: Settings, tasks: Iterable[Task], text: Text, schedule: Callable[[Task], T], own: dict[str, str]
) -> Iterator[tuple[Task, Program, T]]:
    """The tasks that can be handed over, with what `schedule` makes of each; what keeps the others is said. own: the
    variables of those that webscheduler runs; none: as on this machine."""
    for task in tasks:
        if task.name == DUE:
            continue

        text.lines.append("")

        try:
            if not (task["expression"] or task["intervalSeconds"]):
                raise BadInput("it has no schedule")

            program = Program(settings, task)
            found = schedule(task)

            if program.own:
                program.environment = own = own or crontab.variables(settings)
        except (WebschedulerError, ValueError) as error:
            text.note(task.name, f"is left out: {error}")
            continue

        if program.own:
            text.note(task.name, f"runs through webscheduler, whose home {settings.home} must be there")

        yield task, program, found


def _expression(task: Task) -> str:
    """The schedule as five fields; an interval where the clock divides it. Raises BadInput."""
    interval = task["intervalSeconds"]

    if task["expression"]:
        return str(task["expression"]).replace("?", "*")

    try:
        return crontab.expression(interval // 60 if interval % 60 == 0 else 0)
    except BadInput:
        raise BadInput(f"no expression says every {interval} seconds")


def _for_crontab(task: Task) -> str:
    expression = _expression(task)

    if _quartz(Cron(expression)):
        raise BadInput(f"cron does not know {expression!r}")

    return expression


def _quartz(cron: Cron) -> bool:
    """Whether the expression has one of the signs that are not crontab(5)'s: L W LW #."""
    return bool(cron.nearest or cron.nth or 0 in cron.dates)


def as_crontab(settings: Settings, tasks: Iterable[Task]) -> Text:
    """Lines for a crontab(5) of Debian's cron or cronie, with flock(1) and timeout(1) where a task asks for them."""
    text = Text("CRON_TZ is read by cronie; Debian's cron ignores it and reads the clock of its machine.",
                "cron runs nothing that it missed, tries nothing again, and keeps no history: it mails output.")
    zone = ""

    for task, program, expression in _programs(settings, tasks, text, _for_crontab, {}):
        words = [shlex.quote(word) for word in program.argv]

        if program.timeout:
            words = ["timeout", f"-k{GRACE}", str(program.timeout), *words]

        if task["preventOverlap"] and not program.own:
            words = ["flock", "-n", "-E0", f'"$HOME"/.webscheduler-{file_name(task.name)}.lock', *words]

        if program.environment:
            words = ["env", *(shlex.quote(f"{name}={value}") for name, value in program.environment.items()), *words]

        line = f"cd {shlex.quote(program.cwd)} && {' '.join(words)}" if program.cwd else " ".join(words)

        if "\n" in line:
            text.note(task.name, "is left out: a line of a crontab cannot say a line break")
            continue

        _say_clock(task, text)

        if task["retries"]:
            text.note(task.name, "its retries are lost")

        if (task["timezone"] or settings["timezone"]) != zone:
            zone = task["timezone"] or settings["timezone"]
            text.lines.append(f"CRON_TZ={zone}")

        off = "" if task["enabled"] else "# disabled: "
        text.lines.append(f"{off}{expression} {crontab.escaped(line)}")

    return text


def _say_clock(task: Task, text: Text) -> None:
    if not task["expression"]:
        text.note(task.name, "its interval counts by the clock there, not from the last start")


def as_systemd(settings: Settings, tasks: Iterable[Task]) -> Text:
    """Units for `systemctl --user`, or with a User= for the system."""
    text = Text("systemd never runs a service twice at once, and leaves daylight saving to its calendar.",
                "Put the files into ~/.config/systemd/user, then: systemctl --user enable --now NAME.timer",
                "They run while you are signed in; for always: loginctl enable-linger",
                "How long the journal keeps what commands print is set in journald.conf.")

    for task, program, times in _programs(settings, tasks, text, _for_systemd, {}):
        zone = task["timezone"] or settings["timezone"]

        if not task["enabled"]:
            text.note(task.name, "is disabled: do not enable its timer")

        if not task["preventOverlap"] and not program.own:
            text.note(task.name, "may overlap here, and will not there")

        if task["catchUpSeconds"] is not None:
            text.note(task.name, "what was missed is not run later at all: systemd knows no limit for that")

        if task["retries"]:
            text.note(task.name, "its retries are lost")

        name = "webscheduler-" + file_name(task.name)
        description = (task["title"] or task.name).replace("%", "%%").replace("\n", " ")
        service = [f"[Unit]\nDescription={description}\n\n[Service]\nType=oneshot"]
        service += [f"Environment={_unit_word(f'{key}={value}', '')}" for key, value in program.environment.items()]
        service += [f"WorkingDirectory={program.cwd.replace('%', '%%')}"] if program.cwd else []
        service += [f"TimeoutStartSec={program.timeout or 'infinity'}", f"TimeoutStopSec={GRACE}",
                    "ExecStart=" + " ".join(_unit_word(word) for word in program.argv)]
        timer = [f"[Unit]\nDescription={description}\n\n[Timer]"]

        if task["expression"]:
            timer += [f"OnCalendar={when} {zone}" for when in times]
            timer += [f"Persistent={'true' if task['catchUpSeconds'] is None else 'false'}"]
        else:
            timer += ["OnActiveSec=0", f"OnUnitActiveSec={task['intervalSeconds']}"]

        timer += ["AccuracySec=1s", "", "[Install]", "WantedBy=timers.target"]
        text.files[f"{name}.service"] = "\n".join(service) + "\n"
        text.files[f"{name}.timer"] = "\n".join(timer) + "\n"

    text.lines = [line for line in text.lines if line]
    return text


def _for_systemd(task: Task) -> list[str]:
    return calendar(task["expression"]) if task["expression"] else []


def _unit_word(word: str, dollar: str = "$$") -> str:
    """A word of a unit file (systemd.syntax(7), systemd.service(5): `%` is a specifier, and in ExecStart `$`, too)."""
    for sign, instead in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("%", "%%")):
        word = word.replace(sign, instead)

    return '"' + (word.replace("$", dollar) if dollar else word) + '"'


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

    if cron.nearest or cron.both and any("*" not in (date, part) for date in dates for _, part in weekdays):
        raise BadInput(f"no OnCalendar= says {expression!r}")

    if cron.both:
        days = [(weekday, part if date == "*" else date) for date in dates for weekday, part in weekdays]

    months = "*" if len(cron.months) == 12 else ",".join(f"{month:02}" for month in cron.months)
    hours = "*" if len(cron.hours) == 24 else ",".join(f"{hour:02}" for hour in cron.hours)
    minutes = "*" if len(cron.minutes) == 60 else ",".join(f"{minute:02}" for minute in cron.minutes)
    return [f"{weekday} *-{months}{'' if date[0] == '~' else '-'}{date} {hours}:{minutes}:00".strip()
            for weekday, date in days]


def as_kubernetes(settings: Settings, tasks: Iterable[Task], image: str) -> Text:
    """CronJob manifests (batch/v1), one document for each task."""
    text = Text("Kubernetes counts the jobs that it keeps; the days of history are ttlSecondsAfterFinished here.",
                "What it missed runs once, unless more than 100 times were missed, and then not at all.",
                f"The image is {image}: it must hold what the command needs.")
    names: set[str] = set()

    own = {"WEBSCHEDULER_HOME": settings.home}

    for task, program, schedule in _programs(settings, tasks, text, _for_kubernetes, own):
        _say_clock(task, text)
        program.argv[0] = "python3" if program.own else program.argv[0]

        if not task["preventOverlap"] and program.own:
            text.note(task.name, "may overlap, but not within webscheduler's own run")

        if task["retries"]:
            text.note(task.name, "Kubernetes chooses the delay before a retry")

        name = _resource(task.name, names)
        names.add(name)
        zone = task["timezone"] or settings["timezone"]
        days = settings["logRetentionDays"] if task["logRetentionDays"] is None else task["logRetentionDays"]
        failure_days = settings["failureRetentionDays"]
        days = max(days, days if failure_days is None else failure_days) if days and failure_days != 0 else 0
        text.lines += ["---", "apiVersion: batch/v1", "kind: CronJob", "metadata:", f"  name: {_yaml(name)}", "spec:",
                       f"  schedule: {_yaml(schedule)}",
                       f"  timeZone: {_yaml('Etc/UTC' if zone == 'UTC' else zone)}",
                       f"  concurrencyPolicy: {'Forbid' if task['preventOverlap'] else 'Allow'}",
                       f"  suspend: {'false' if task['enabled'] else 'true'}",
                       "  successfulJobsHistoryLimit: 10", "  failedJobsHistoryLimit: 10"]

        if task["catchUpSeconds"] is not None:
            # Its controller looks every ten seconds: with less it might never start a job.
            if task["catchUpSeconds"] < 10:
                text.note(task.name, "a missed slot is run there for up to 10 seconds")

            text.lines.append(f"  startingDeadlineSeconds: {max(10, task['catchUpSeconds'])}")

        text.lines += ["  jobTemplate:", "    spec:", f"      backoffLimit: {task['retries']}"]
        text.lines += [f"      activeDeadlineSeconds: {program.timeout}"] if program.timeout else []
        text.lines += [f"      ttlSecondsAfterFinished: {days * 86400}"] if days else []
        text.lines += ["      template:", "        spec:", "          restartPolicy: Never", "          containers:",
                       "            - name: task", f"              image: {_yaml(image)}", "              command:"]
        # $(NAME) would be expanded; $$ stands for a dollar.
        text.lines += [f"                - {_yaml(word.replace('$(', '$$('))}" for word in program.argv]
        text.lines += [f"              workingDir: {_yaml(program.cwd)}"] if program.cwd else []
        text.lines += ["              env:"] if program.environment else []
        text.lines += [f"                - {{name: {_yaml(key)}, value: {_yaml(value.replace('$(', '$$('))}}}"
                       for key, value in program.environment.items()]

    return text


def _resource(name: str, taken: set[str]) -> str:
    """A name as RFC 1123 has labels, and short enough for the names of its jobs."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())[:40].strip("-") or "task"
    return next(each for n in range(1, len(taken) + 2) if (each := plain if n == 1 else f"{plain}-{n}") not in taken)


def _for_kubernetes(task: Task) -> str:
    """The schedule as its parser reads it: no signs of Quartz, Sunday is 0 alone, and a step of more than one makes
    `*` an ordinary range, which is an "or" with the other field of days where ours is an "and". Raises BadInput."""
    expression = _expression(task)

    if expression.startswith("@"):
        return expression.lower()

    cron, fields = Cron(expression), expression.split()
    stepped = [field[0] == "*" and not {"*", "*/1"} & set(field.split(",")) for field in (fields[2], fields[4])]

    if _quartz(cron) or stepped[0] and fields[4] != "*" or stepped[1] and fields[2] != "*":
        raise BadInput(f"Kubernetes does not read {expression!r} as we do")

    if any("7" in day.partition("/")[0] for day in fields[4].split(",")):
        fields[4] = ",".join(map(str, sorted(cron.weekdays)))

    return " ".join(fields)


def _yaml(text: str) -> str:
    """A text as YAML's double-quoted style, of which JSON's is a part but for what is not printable."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in json.dumps(text, ensure_ascii=False))
