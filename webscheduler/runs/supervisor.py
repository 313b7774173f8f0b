# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs a claimed task to its end and records it: from the claim to the line of history.

The rules: a supervisor is a process with one thread that holds the claim. All that the run may need is imported before
the command starts, since the package may be replaced while it runs.
"""

from __future__ import annotations

import os
import signal

from .. import vocabulary as words
from ..errors import BadInput
from ..store import state
from ..store.files import close
from ..store.settings import Settings, load_settings
from . import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Result
    from ..store.locks import Claim
    from ..store.task import Task

TOLD = ("codes", "started", "left", "held")  # what of the report of a tick its result has
UNTOUCHED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}


class Signals:
    """Turns SIGCHLD and the signals that tell a supervisor to end into bytes of a pipe, for which `poll` can wait.

    A context manager. A signal that comes after the command has ended does nothing, so the record is written whole.
    Signals that were blocked until then come now; they stay unblocked.
    told: the number of the signal that told us to end, or None.
    """

    def __enter__(self) -> Signals:
        self.told: int | None = None
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self.writing, False)
        self.wakeup = signal.set_wakeup_fd(self.writing, warn_on_full_buffer=False)
        # An ignored signal stays ignored over exec (execve(2)); an ignored SIGCHLD would turn exit status 7 into 0. Two
        # of UNTOUCHED we need ignored ourselves, and Popen restores them for the command.
        self.before: dict[int, Any] = {number: signal.signal(number, signal.SIG_DFL)
                                       for number in signal.valid_signals() - UNTOUCHED
                                       if signal.getsignal(number) == signal.SIG_IGN}

        for number in (signal.SIGCHLD, *detach.TO_END):
            self.before.setdefault(number, signal.signal(number, self._note))

        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return self

    def _note(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self.told = number

    def drain(self) -> None:
        """Empty the pipe."""
        try:
            while os.read(self.reading, 512):
                pass
        except BlockingIOError:
            pass

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

        signal.set_wakeup_fd(self.wakeup)
        close(self.reading)
        close(self.writing)


def supervise(home: str, claim: Claim, clock: Callable[[], float],
              tell: Callable[[Result], object] = lambda result: None, own: bool = True) -> Result:
    """Run a claimed task in this process, which must have no other thread; record it and release the claim.

    tell: called with what is returned, once that is recorded and before what nobody needs to wait for is done. own:
    this process exists for this run alone."""
    from ..store import locks

    try:
        with Signals() as signals:
            # Before any import: until then, readers know the run by the process that started it, which may be gone.
            claim.try_append({"supervisor": locks.identity(), "place": locks.place()})
            signals.told = signals.told or detach.noted_signal(claim.descriptor)

            from ..store.task import load_task
            from . import indexing, recorder, retention

            settings = load_settings(home)
            row = state.read_row(home, claim.name)
            task = load_task(claim.name, row)

            if task["oldSecret"]:  # its end may be seen past when the run is recorded
                from ..store import old_secret

                assert old_secret

            notifier, pinging, start_followers = None, 0, None

            if settings["notify"] or task["pingUrl"]:  # few have one; it is imported before the command starts
                from . import notifications

                notifier, pinging = notifications, notifications.ping_start(task, signals)

            # What state says before this run; that is older, even if the clock was set back since.
            claim.try_append({"previousRunAt": row.get("lastRunAt"), "previousRunId": row.get("lastRunId"),
                              "failuresBefore": row.get("consecutiveFailures") or 0})

            if task["onSuccess"] or task["onFailure"]:
                from .following import starter

                start_followers = starter(settings, task, claim, clock, supervise, signals)

            report: dict[str, Any] = {}
            children: dict[int, str] = {}

            try:
                if task.name == words.DUE:
                    from . import due

                    outcome, report, children = due.run_tick(settings, claim, clock, supervise, signals)
                else:
                    from . import process

                    outcome = process.run(_invocation(settings, task), claim, recorder.live_file(home, claim.run),
                                          signals, lambda: recorder.mark_running(home, claim), own)
            except BadInput as error:
                outcome = recorder.outcome(words.FAILED, words.NOT_STARTED, error_output=f"{error}\n")

            result, _, index = recorder.finish(home, claim, outcome, settings["timezone"], clock())

            if start_followers:
                start_followers(result)

        result.update({key: report[key] for key in TOLD if key in report})  # type: ignore[typeddict-item]
        awaited = children and report["strategy"] not in words.DETACHED

        if not awaited:
            tell(result)

        retention.clean_hourly(settings, clock())
        indexing.refresh(home, index, idle=report.get("idle"))

        if awaited:
            due.reap(children, report["codes"], wait=True)
            tell(result)

        if notifier:
            notifier.after_run(settings, task, result, report.get("late"), pinging, clock)

        return result
    finally:
        claim.close()


def _invocation(settings: Settings, task: Task) -> Any:
    from ..commands.registry import argv as command_argv
    from ..commands.registry import environment
    from .process import Invocation

    argv, cwd = command_argv(settings, task)
    variables = environment(settings.home, {**settings["environment"], **task["environment"]})
    timeout = settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]
    keep: Any = tuple(settings[name] if task[name] is None else task[name] for name in ("logOutput", "logErrorOutput"))
    account = variables["HOME"] if os.path.isdir(variables["HOME"]) else settings.home
    return Invocation(argv, task["cwd"] or cwd or account, variables, timeout, keep)
