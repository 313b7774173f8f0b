# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is done while calls fail: requests of each kind, a tick, and verbs of the command line that change files.

Rules: an act runs in a process that has imported everything, as one that was forked; it ends as its door ends. The
command of a task notes the run's id in a file, at its end and in one write, so each of its starts can be counted.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests import LIBRARY, SCRIPT
from tests.installation import asking
from webscheduler import __version__, cgi, cli, signing, wsgi
from webscheduler.host.home import create_home
from webscheduler.runs import indexing
from webscheduler.store import clock, history, locks, state
from webscheduler.store.task import DUE, new_task
from webscheduler.times import format_time

NAME = "task"
DUE_TASKS = ("one", "two", "three")
DAY = 86400
Prepared = Callable[[str], Callable[[], int]]


class Scenario(NamedTuple):
    """about: what it is, for the table; prepare: makes what the home needs besides the task NAME; act: given the home,
    what is done in a process of its own, which ends with the status that it returns; imports: it starts an interpreter,
    and the opening of modules can fail, too."""

    about: str
    prepare: Callable[[str], object]
    act: Prepared
    imports: bool = False


def make(base: str, scenario: Scenario) -> str:
    """Make an installation below `base`; its home. What commands note is in `done` beside it."""
    home = os.path.join(base, "home")
    create_home(home, time.time())
    Path(base, "done").touch()
    add(home, NAME)
    Path(home, "locks", ".housekeeping").touch()  # clean-up only where it is the scenario
    Path(home, "commands.json").write_text(json.dumps(
        {"sync": {"at": format_time(time.time()), "package": __version__}, "commands": {}, "broken": {}}))
    scenario.prepare(home)
    return home


def add(home: str, name: str, **fields: Any) -> str:
    """Add a task whose command notes each of its runs; its name."""
    argv = ["/bin/sh", "-c", 'echo "$WEBSCHEDULER_RUN" >> "$0"; [ ! -e "$0-slow" ] || exec sleep 3',
            os.path.join(os.path.dirname(home), "done")]
    row = new_task(time.time(), {"enabled": True, "argv": argv, "cwd": "/", "strategy": "fork", **fields})
    state.update(home, lambda tasks: tasks.update({name: row}))
    return name


def edit(**fields: Any) -> Callable[[str], object]:
    """Change the task NAME."""
    return lambda home: state.update(home, lambda tasks: tasks[NAME].update(fields))


def signed(home: str, name: str, **variables: str) -> dict[str, str]:
    """The environ of a request that runs the task."""
    row = state.read_strictly(home)[name]
    return asking(f"/run/{row['slug']}", f"sig={signing.sign(row['secret'], signing.run_message(row['slug']))}",
                  WEBSCHEDULER_HOME=home, PATH="/usr/bin:/bin", **variables)  # fmt: skip


def by_cgi(home: str, environ: dict[str, str]) -> int:
    """A request as the script answers it; ends the process."""
    os.environ.clear()
    os.environ.update(environ)
    cgi.main(home)
    return 1


def by_wsgi(home: str, environ: dict[str, str]) -> int:
    """A request as a server's worker answers it; the worker ends after it."""
    given = {**environ, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}
    result = wsgi.create_app(home)(given, lambda status, headers, error=None: os.write(
        1, f"Status: {status}\r\n\r\n".encode()))  # fmt: skip

    for part in result:
        os.write(1, part)

    if hasattr(result, "close"):
        result.close()

    return 0


def request(door: Callable[[str, dict[str, str]], int], name: str = NAME, **variables: str) -> Prepared:
    """A request for a task."""

    def act(home: str) -> Callable[[], int]:
        environ = signed(home, name, **variables)
        return lambda: door(home, environ)

    return act


def script(home: str) -> Callable[[], int]:
    """A request as a server starts the script for it."""
    file = Path(home).with_name("webscheduler.cgi")
    file.write_text(SCRIPT.read_text().replace("LIBRARIES = []", f"LIBRARIES = [{str(LIBRARY)!r}]"))
    environ = signed(home, NAME)

    return lambda: os.execve(sys.executable, [sys.executable, "-I", "-S", str(file)], environ)


def words(*argv: str) -> Prepared:
    """A command line."""
    return lambda home: lambda: cli.main(["--home", home, *argv])


def due(home: str) -> None:
    """Three tasks that are due."""
    for name in DUE_TASKS:
        add(home, name, intervalSeconds=DAY)


def slow(home: str) -> None:
    """A command that goes on until its time limit, until the next trigger."""
    Path(home).with_name("done-slow").touch()
    edit(timeout=1)(home)


def old_history(home: str) -> None:
    """A history whose first lines are past retention, and clean-up that is due."""
    for days in (90, 80, 3, 2):
        moment = format_time(time.time() - days * DAY)
        history.append(home, NAME, history.entry(command=NAME, run=locks.new_run(time.time() - days * DAY),
                                                 status="failed", startedAt=moment, finishedAt=moment))  # fmt: skip

    now = time.time()
    clock.write(home, {  # the clock has been good for days, before this machine was started
        "id": "before", "boot": 0.0, "wall": now - 3 * DAY, "since": now - 3 * DAY, "last": now - DAY / 2, "jump": 0.0,
        "horizon": now - DAY / 2, "highest": now - DAY / 2, "setBack": []}, now - DAY / 2)  # fmt: skip


def dead(ended: bool) -> Callable[[str], object]:
    """A run whose processes are gone; `ended`: it had written its outcome into the claim."""

    def prepare(home: str) -> None:
        now = time.time() - 60
        run, moment = locks.new_run(now), format_time(now)
        claim = locks.make_claim(home, NAME, run, {
            "run": run, "name": NAME, "startedAt": moment, "trigger": "url", "triggeredAt": moment, "ip": None,
            "starter": [2**22 + 1, 1]})  # fmt: skip
        claim.append({"strategy": "fork", "server": "apache"})
        claim.append({"supervisor": [2**22 + 2, 1]})

        if ended:
            entry = history.entry(command=NAME, run=run, status="success", exitCode=0, startedAt=moment,
                                  finishedAt=moment, trigger="url", attempt=1, duration=0.1)  # fmt: skip
            claim.append({"outcome": entry})
            Path(home).with_name("done").write_text(f"{run}\n")

        Path(home, "output", f"{run}.log").write_text("some output\n")
        claim.close()

    return prepare


def ran(home: str, name: str = NAME) -> None:
    """Let the task have run once."""
    moment, run = format_time(time.time() - 60), locks.new_run(time.time() - 60)

    with locks.Gate(home, name) as gate:
        gate.last_start = time.time() - 60
        gate.save()

    history.append(home, name, history.entry(command=name, run=run, status="success", exitCode=0, startedAt=moment,
                                             finishedAt=moment, trigger="url", duration=0.1, attempt=1))  # fmt: skip
    state.update(home, lambda tasks: tasks[name].update(lastRunId=run, lastRunStatus="success", lastRunAt=moment))
    Path(home).with_name("done").write_text(f"{run}\n")


def before_renamed(home: str) -> None:
    """A history that a removed task has left."""
    ran(home)

    for seconds in (90, 30):  # before and after the run
        moment = format_time(time.time() - seconds)
        history.append(home, "renamed", history.entry(command="renamed", run=None, status="skipped", startedAt=moment,
                                                      finishedAt=moment))  # fmt: skip


def nothing(home: str) -> None:
    """No more than the task."""


SCENARIOS = {
    "cgi-fork": Scenario("a request, CGI, fork", nothing, request(by_cgi)),
    "cgi-imports": Scenario("the same, by the script, with its imports", nothing, script, imports=True),
    "cgi-close": Scenario("a request, CGI, close", edit(strategy="close"),
                          request(by_cgi, SERVER_SOFTWARE="nginx/1.22.1")),
    "cgi-sync": Scenario("a request, CGI, sync", edit(strategy="sync"), request(by_cgi)),
    "wsgi-fork": Scenario("a request, WSGI, fork", nothing, request(by_wsgi)),
    "wsgi-close": Scenario("a request, WSGI, close", edit(strategy="close"), request(by_wsgi)),
    "wsgi-sync": Scenario("a request, WSGI, sync", edit(strategy="sync"), request(by_wsgi)),
    "dead": Scenario("a request that finds a dead run", dead(False), request(by_cgi)),
    "dead-ended": Scenario("a request that finds a dead run with its outcome", dead(True), request(by_cgi)),
    "time-limit": Scenario("a run that its time limit ends", slow, request(by_cgi)),
    "tick": Scenario("a tick of three tasks, CGI, fork", due, request(by_cgi, DUE)),
    "run": Scenario("webscheduler run", nothing, words("run", NAME)),
    "edit": Scenario("webscheduler edit", nothing, words("edit", NAME, "--title", "Changed")),
    "rename": Scenario("webscheduler rename", ran, words("rename", NAME, "renamed")),
    "rename-join": Scenario("the same, where a task of that name was before", before_renamed,
                            words("rename", NAME, "renamed")),
    "remove": Scenario("webscheduler remove", lambda home: ran(home, add(home, "other")),
                       words("remove", "other", "--yes")),
    "remove-logs": Scenario("webscheduler remove --keep-logs", lambda home: ran(home, add(home, "other")),
                            words("remove", "other", "--keep-logs", "--yes")),
    "rotate": Scenario("webscheduler rotate-secret", nothing, words("rotate-secret", NAME)),
    "clean-up": Scenario("a request whose run cleans up", old_history, request(by_cgi)),
}  # fmt: skip


def ready(home: str) -> None:
    """What a home that was copied needs: an index, and commands that no tick looks for again."""
    os.utime(os.path.join(home, "commands.json"), (time.time() + DAY,) * 2)
    assert indexing.refresh(home)
