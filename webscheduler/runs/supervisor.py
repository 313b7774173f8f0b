# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs a claimed task to its end and records it: from the claim to the line of history.

The rules: a supervisor is a process with one thread that holds the claim. It imports all that the run may need before
the command starts, since the package may be replaced while it runs.
"""

from __future__ import annotations

import json
import os
import time

from .. import vocabulary as words
from ..errors import BadInput
from ..store import state
from ..store.files import is_same_file
from ..store.settings import load_settings
from . import detach
from .admission import Cause, decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..shapes import Result
    from ..store.locks import Claim
    from ..store.lookup import View
    from ..store.settings import Settings
    from ..store.task import Task

REPORTED = 3800  # characters of each stream that a waiting request can use
TOLD = ("codes", "started", "left", "held")  # what of the report of a tick its result has


def supervise(
    home: str, claim: Claim, clock: Callable[[], float], tell: Callable[[Result], object] = lambda result: None
) -> Result:
    """Run a claimed task in this process, which must have no other thread; record it and release the claim.

    tell: called with what is returned, once that is recorded and before what nobody needs to wait for is done."""
    from ..store import locks

    try:
        # Before any import: until then, readers know the run by the process that started it, which may be gone.
        claim.try_append({"supervisor": locks.identity(), "place": locks.place()})

        from ..store import indexing
        from ..store.task import load_task
        from . import notifications, recorder, retention

        settings = load_settings(home)
        row = state.read_row(home, claim.name)
        task = load_task(claim.name, row)
        # What state says before this run; that is older, even if the clock was set back since.
        claim.try_append({"previousRunAt": row.get("lastRunAt"), "failuresBefore": row.get("consecutiveFailures") or 0,
                          "previousRunId": row.get("lastRunId")})
        report: dict[str, Any] = {}
        children: dict[int, str] = {}

        if task.name == words.DUE:
            from . import due

            outcome, report, children = due.run_tick(settings, claim, clock, supervise)
            result, failures, index = recorder.finish(home, claim, outcome, settings["timezone"], clock())
        else:
            from . import process

            with process.Signals() as signals:
                try:
                    live = recorder.live_file(home, claim.run)
                    outcome = process.run(_invocation(settings, task), claim, live, signals,
                                          lambda: recorder.mark_running(home, claim))
                except BadInput as error:
                    outcome = recorder.outcome(words.FAILED, words.NOT_STARTED, error_output=f"{error}\n")

                result, failures, index = recorder.finish(home, claim, outcome, settings["timezone"], clock())

        notifications.after_run(settings, task, result, failures)
        result.update({key: report[key] for key in TOLD if key in report})  # type: ignore[typeddict-item]
        awaited = children and report["strategy"] not in words.DETACHED

        if not awaited:
            tell(result)

        retention.clean_hourly(settings, clock())
        indexing.refresh(home, index, idle=report.get("idle"))

        if awaited:
            due.reap(children, report["codes"], wait=True)
            tell(result)

        return result
    finally:
        claim.close()


def _invocation(settings: Settings, task: Task) -> Any:
    from ..commands.registry import argv as command_argv
    from .process import Invocation, environment

    argv, cwd = command_argv(settings, task)
    variables = environment(settings.home, {**settings["environment"], **task["environment"]})
    timeout = settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]
    keep: Any = tuple(settings[name] if task[name] is None else task[name] for name in ("logOutput", "logErrorOutput"))
    account = variables["HOME"] if os.path.isdir(variables["HOME"]) else settings.home
    return Invocation(argv, task["cwd"] or cwd or account, variables, timeout, keep)


_programs: dict[str, tuple[str, list[str]]] = {}  # home -> (identity of config.json; argv without the descriptor)


def resume_argv(home: str, claim: Claim, view: View) -> list[str]:
    """argv of a new Python process that supervises the run instead of this one. Most of it is kept while the settings,
    which name the interpreter, are the same; what an index was made from is identified without a doubt."""
    settings, argv = _programs.get(home, ("", []))

    if not view.signed or settings != view.sources[1] or not os.access(argv[0], os.X_OK):
        from ..commands.registry import python

        argv = python(load_settings(home), "webscheduler.runs.supervisor:resume", home, site=False)
        _programs[home] = view.sources[1], argv

    return [*argv, str(claim.descriptor)]


def supervise_elsewhere(home: str, claim: Claim, clock: Callable[[], float], view: View) -> Result:
    """Pass the claim to such a process, and wait for the line of history that it prints."""
    argv = resume_argv(home, claim, view)

    try:
        reported = detach.spawn(argv, [claim.descriptor], wait=True)
    except OSError as error:
        from . import recorder

        why = f"the host gave no process: {argv[0]}: {error.strerror}\n"
        return recorder.finish(home, claim, recorder.outcome(words.FAILED, words.NO_PROCESS, error_output=why),
                               load_settings(home)["timezone"], clock())[0]

    result: Result = {"run": claim.run, "status": words.INTERRUPTED, "reason": words.FOUND_DEAD, "exitCode": None,
                      "duration": None, "output": "", "errorOutput": ""}

    try:
        result.update(json.loads(reported))
    except ValueError:  # it was killed
        try:
            # The claim of a run that is recorded is unlinked, but can be read here.
            result["recorded"] = not is_same_file(claim.descriptor, claim.path)
            result.update(claim.facts().get("outcome", {}))  # type: ignore[typeddict-item]
        except OSError as error:
            result["problem"] = str(error)

    claim.close()
    return result


def resume(home: str, descriptor: str) -> None:
    """What `resume_argv` runs: supervise the run whose claim is open as `descriptor`, and print its line of history."""
    from ..store.files import file_name
    from ..store.locks import Claim, facts_of

    facts = facts_of(int(descriptor))
    name, run = facts["name"], facts["run"]
    claim = Claim(os.path.join(home, "runs", f"{file_name(name)}@{run}"), int(descriptor), name, run)

    def tell(entry: Result) -> None:
        short = {stream: entry[stream][:REPORTED] for stream in ("output", "errorOutput")}

        try:
            print(json.dumps({**entry, **short}), flush=True)
        except OSError:
            pass  # who asked is gone

        detach.silence()  # the end of the output, for which the request waits

    supervise(home, claim, time.time, tell)
    os._exit(0)  # all is written, and to take an interpreter down costs as much as half of its start


def run_by_hand(
    home: str, name: str, trigger: str, clock: Callable[[], float], strategy: str = words.SYNC
) -> Result | None:
    """Run a task now, in this process (one thread), whatever its schedule and limits say. None if it runs
    already. strategy: with `fork`, @due does not wait for what it started. Raises NoSuchTask, Unusable, Busy."""
    claim = decide(home, name, Cause(trigger, by_hand=True), clock()).claim

    if claim is None:
        return None

    try:
        claim.try_append({"strategy": strategy})
        return supervise(home, claim, clock)
    finally:
        claim.close()
