# SPDX-License-Identifier: LGPL-3.0-or-later
"""How an installation is as a whole: what `status` shows.

The rule: nothing is written, and what cannot be read is part of the report.
"""

from __future__ import annotations

from ..errors import Unusable
from ..runs import health
from ..store import state
from ..store.task import DUE, load_tasks, shown
from . import doctor
from .findings import ERROR, OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Facts
    from ..store.settings import Settings
    from .findings import Finding


def overall(settings: Settings, now: float, when: Callable[[str], str] = str,
            tasks: dict[str, str] | None = None) -> dict[str, Any]:
    """How the installation is: status (healthy, failing or late; failing too where a file or a task cannot be loaded
    or a task has no command), tasks (their number), unhealthy, running, places (`most`; `held`, by which due runs
    if all are), lastTickAt, tickEverySeconds, warnings (what `doctor` finds of tasks), errors (those it calls so).
    when: formats times in these. tasks: gets the names of the tasks that warnings are of."""
    try:
        every, damage = state.read_strictly(settings.home), []
    except Unusable as error:
        every, damage = state.read(settings.home), [str(error)]

    rows, alive = health.as_they_are(settings.home, every, now)
    known = shown(rows)
    good, broken = load_tasks(known)
    running = [_running(facts) for facts in alive if facts.get("name") in known or facts.get("name") not in every]
    held, most = health.places(settings.home), settings["maxConcurrentTasks"]
    unhealthy = [{"name": name, "status": "failing", "lastRunAt": None, "lastRunStatus": None} for name in broken]
    unhealthy += [{"name": name, "status": how, "lastRunAt": good[name]["lastRunAt"],
                   "lastRunStatus": good[name]["lastRunStatus"]}
                  for name, how in health.states(settings, dict(good), now).items() if how != "healthy"]
    said = [each for each in doctor.of_tasks(settings, known, now) if each.state != OK]
    wrong = [each for each in said if each.state == ERROR]
    found = [each["status"] for each in unhealthy] + ["failing"] * len(damage)
    found += ["failing" for each in wrong if each.about == "tasks"]

    if tasks is not None:
        tasks.update((each.text(when), str(each.values["task"])) for each in said if "task" in each.values)

    return {"status": next((how for how in ("failing", "late") if how in found), "healthy"),
            "tasks": len(known), "unhealthy": unhealthy, "running": running,
            "places": {"most": most, "held": [_running(facts) for facts in held] if len(held) >= most else []},
            "lastTickAt": good[DUE]["lastRunAt"] if DUE in good else None,
            "tickEverySeconds": health.rhythm(settings.home)["every"],
            "warnings": damage + [_line(each, when) for each in said],
            "errors": damage + [_line(each, when) for each in wrong]}


def _line(found: Finding, when: Callable[[str], str]) -> str:
    """A finding as one line, with what it is about, unless that is a task, which it names itself."""
    return ("" if found.about == "tasks" else f"{found.about}: ") + found.text(when)


def _running(facts: Facts) -> dict[str, Any]:
    return {field: facts.get(field) for field in ("name", "run", "startedAt", "trigger")}
