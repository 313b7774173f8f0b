"""The same tasks for the next host: crontab lines and Kubernetes CronJobs; `systemd` has its units. Imports `crontab`.

The rule: what the other scheduler would do differently is said, in the text as a comment and to whoever asked for it;
a task that it cannot run at the right times is left out rather than run at others. A task that runs code found by
`sync`, or a built-in command, goes through `webscheduler run`, which keeps overlap, limits and history itself.
"""

from __future__ import annotations

import json
import shlex

from . import commands, crontab
from .cron import Cron
from .errors import BadInput
from .task import DUE, file_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .config import Config
    from .task import Task

GRACE = 5  # seconds from TERM to KILL, as here


class Program:
    """What a task runs elsewhere. own: it is run by webscheduler, which keeps its limits itself."""

    __slots__ = ("argv", "cwd", "environment", "own", "timeout")

    def __init__(self, settings: Config, task: Task) -> None:
        command = commands.registry(settings).get(task["command"] or "")
        free = "argv" in settings["commands"].get(task["command"] or "", {})
        self.own = bool(command) and not task["argv"] and not (free or command is not None and command.source == "file")
        self.argv, cwd = commands.argv(settings, task)
        self.cwd: str | None = task["cwd"] or cwd
        self.environment = {**settings["environment"], **task["environment"]}
        self.timeout = settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]

        if self.own:
            self.argv = [commands.interpreter(settings), "-m", "webscheduler", "run", task.name]
            self.cwd, self.environment = None, {"WEBSCHEDULER_HOME": settings.home}


class Text:
    """An export in the making: its lines, and what is to be said."""

    __slots__ = ("lines", "said")

    def __init__(self, said: Iterable[str]) -> None:
        self.said = list(said)
        self.lines = ["# Made by `webscheduler export`.", *(f"# {line}" for line in self.said)]

    def note(self, name: str, what: str) -> None:
        """Say something about a task, here and to whoever asked."""
        self.said.append(f"{name}: {what}")
        self.lines.append(f"# {' '.join(self.said[-1].split())}")

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def programs(settings: Config, tasks: Iterable[Task], text: Text) -> Iterator[tuple[Task, Program]]:
    """The tasks that can be handed over; what keeps the others is said, and what no other scheduler keeps."""
    for task in tasks:
        if task.name == DUE:
            continue

        text.lines.append("")

        if not (task["expression"] or task["intervalSeconds"]):
            text.note(task.name, "is left out: it has no schedule")
            continue

        try:
            program = Program(settings, task)

            if task["expression"]:
                Cron(task["expression"])
        except (BadInput, ValueError) as error:
            text.note(task.name, f"is left out: {error}")
            continue

        if program.own:
            text.note(task.name, f"runs through webscheduler, whose home {settings.home} must be there")

        yield task, program


def _expression(task: Task, text: Text) -> str | None:
    """The schedule as five fields; an interval where the clock divides it, which then counts by the clock."""
    if task["expression"]:
        return str(task["expression"]).replace("?", "*")

    try:
        if task["intervalSeconds"] % 60:
            raise BadInput("seconds")

        expression = crontab.expression(task["intervalSeconds"] // 60)
    except BadInput:
        text.note(task.name, f"is left out: no expression says every {task['intervalSeconds']} seconds")
        return None

    text.note(task.name, "its interval counts by the clock there, not from the last start")
    return expression


def _quartz(expression: str) -> bool:
    """Whether the expression has one of the signs that are not crontab(5)'s: L W LW #."""
    cron = Cron(expression)
    return bool(cron.nearest or cron.nth or 0 in cron.dates)


def as_crontab(settings: Config, tasks: Iterable[Task]) -> Text:
    """Lines for a crontab(5) of Debian's cron or cronie, with flock(1) and timeout(1) where a task asks for them."""
    text = Text(["CRON_TZ is read by cronie; Debian's cron ignores it and reads the clock of its machine.",
                 "cron runs nothing that it missed, tries nothing again, and keeps no history: it mails output."])
    zone = ""

    for task, program in programs(settings, tasks, text):
        expression = _expression(task, text)

        if expression is None:
            continue

        if _quartz(expression):
            text.note(task.name, f"is left out: cron does not know {expression!r}")
            continue

        words = [shlex.quote(word) for word in program.argv]

        if program.timeout and not program.own:
            words = ["timeout", f"-k{GRACE}", str(program.timeout), *words]

        if task["preventOverlap"] and not program.own:
            words = ["flock", "-n", "-E0", f'"$HOME"/.webscheduler-{file_name(task.name)}.lock', *words]

        if program.environment:
            words = ["env", *(shlex.quote(f"{name}={value}") for name, value in program.environment.items()), *words]

        line = f"cd {shlex.quote(program.cwd)} && {' '.join(words)}" if program.cwd else " ".join(words)

        if "\n" in line:
            text.note(task.name, "is left out: a line of a crontab cannot say a line break")
            continue

        if task["retries"]:
            text.note(task.name, "its retries are lost")

        if (task["timezone"] or settings["timezone"]) != zone:
            zone = task["timezone"] or settings["timezone"]
            text.lines.append(f"CRON_TZ={zone}")

        off = "" if task["enabled"] else "# disabled: "
        text.lines.append(f"{off}{expression} {crontab.escaped(line)}")

    return text


def as_kubernetes(settings: Config, tasks: Iterable[Task], image: str) -> Text:
    """CronJob manifests (batch/v1), one document for each task."""
    text = Text(["Kubernetes counts the jobs that it keeps; the days of history are ttlSecondsAfterFinished here.",
                 "What it missed runs once, unless more than 100 times were missed, and then not at all.",
                 f"The image is {image}: it must hold what the command needs."])
    names: set[str] = set()

    for task, program in programs(settings, tasks, text):
        expression = _expression(task, text)
        schedule = None if expression is None else _for_kubernetes(expression)

        if schedule is None:
            if expression is not None:
                text.note(task.name, f"is left out: Kubernetes does not read {expression!r} as we do")

            continue

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


def _for_kubernetes(expression: str) -> str | None:
    """The expression as its parser reads it: no signs of Quartz, Sunday is 0 alone, and a step of more than one makes
    `*` an ordinary range, which is an "or" with the other field of days where ours is an "and"."""
    if expression.startswith("@"):
        return expression.lower()

    fields = expression.split()
    stepped = [field[0] == "*" and not {"*", "*/1"} & set(field.split(",")) for field in (fields[2], fields[4])]

    if _quartz(expression) or stepped[0] and fields[4] != "*" or stepped[1] and fields[2] != "*":
        return None

    if any("7" in day.partition("/")[0] for day in fields[4].split(",")):
        fields[4] = ",".join(map(str, sorted(Cron(expression).weekdays)))

    return " ".join(fields)


def _yaml(text: str) -> str:
    """A text as YAML's double-quoted style, of which JSON's is a part but for what is not printable."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in json.dumps(text, ensure_ascii=False))
