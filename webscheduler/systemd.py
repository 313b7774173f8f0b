"""The same tasks as timers and services of systemd. Imports `export`, whose rule it keeps.

Sources: systemd.time(7) for calendars, systemd.timer(5), systemd.service(5), systemd.syntax(7) for quoting.
"""

from __future__ import annotations

from .cron import Cron
from .export import GRACE, Text, programs
from .task import file_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .config import Config
    from .task import Task

WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def as_systemd(settings: Config, tasks: Iterable[Task]) -> tuple[Text, dict[str, str]]:
    """(what is said; the files, by name). Units for `systemctl --user`, or with a User= for the system."""
    text = Text(["systemd never runs a service twice at once, and leaves daylight saving to its calendar.",
                 "Put the files into ~/.config/systemd/user, then: systemctl --user enable --now NAME.timer",
                 "How long the journal keeps what commands print is set in journald.conf."])
    files: dict[str, str] = {}

    for task, program in programs(settings, tasks, text):
        zone = task["timezone"] or settings["timezone"]
        times = calendar(task["expression"]) if task["expression"] else []

        if times is None:
            text.note(task.name, f"is left out: no OnCalendar= says {task['expression']!r}")
            continue

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
        limit = program.timeout if not program.own else 0
        service += [f"TimeoutStartSec={limit or 'infinity'}", f"TimeoutStopSec={GRACE}",
                    "ExecStart=" + " ".join(_unit_word(word) for word in program.argv)]
        timer = [f"[Unit]\nDescription={description}\n\n[Timer]"]

        if task["expression"]:
            timer += [f"OnCalendar={when} {zone}" for when in times]
            timer += [f"Persistent={'true' if task['catchUpSeconds'] is None else 'false'}"]
        else:
            timer += ["OnActiveSec=0", f"OnUnitActiveSec={task['intervalSeconds']}"]

        timer += ["AccuracySec=1s", "", "[Install]", "WantedBy=timers.target"]
        files[f"{name}.service"] = "\n".join(service) + "\n"
        files[f"{name}.timer"] = "\n".join(timer) + "\n"

    text.lines = [line for line in text.lines if line]
    return text, files


def _unit_word(word: str, dollar: str = "$$") -> str:
    """A word of a unit file (systemd.syntax(7), systemd.service(5): `%` is a specifier, and in ExecStart `$`, too)."""
    for sign, instead in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("%", "%%")):
        word = word.replace(sign, instead)

    return '"' + (word.replace("$", dollar) if dollar else word) + '"'


def calendar(expression: str) -> list[str] | None:
    """OnCalendar= without a zone (systemd.time(7)), several where the two fields of days are an "or"; None for what it
    cannot say: `W`, and two of the special days at once."""
    cron = Cron(expression)

    if cron.nearest:
        return None

    plain = ",".join(f"{day:02}" for day in sorted(cron.dates - {0}))
    dates = ["*"] if len(cron.dates - {0}) == 31 else [plain] * bool(plain) + ["~01"] * (0 in cron.dates)
    names = ",".join(WEEKDAYS[day] for day in sorted(cron.weekdays))
    weekdays = [("", "*")] if len(cron.weekdays) == 7 else [(names, "*")] * bool(names) + [
        (WEEKDAYS[day], f"{7 * place - 6:02}..{min(7 * place, 31)}" if place else "~07/1")
        for day, place in sorted(cron.nth)]
    days = [("", date) for date in dates] + weekdays

    if cron.both:
        if any("*" not in (date, part) for date in dates for _, part in weekdays):
            return None

        days = [(weekday, part if date == "*" else date) for date in dates for weekday, part in weekdays]

    months = "*" if len(cron.months) == 12 else ",".join(f"{month:02}" for month in cron.months)
    hours = "*" if len(cron.hours) == 24 else ",".join(f"{hour:02}" for hour in cron.hours)
    minutes = "*" if len(cron.minutes) == 60 else ",".join(f"{minute:02}" for minute in cron.minutes)
    return [f"{weekday} *-{months}{'' if date[0] == '~' else '-'}{date} {hours}:{minutes}:00".strip()
            for weekday, date in days]
