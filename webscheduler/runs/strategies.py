"""Starts a claimed run before the response, after it, or detached from it, by the first strategy that works here."""

from __future__ import annotations

from ..store import capabilities
from ..store.task import DUE
from . import detach
from .supervisor import resume_argv, supervise, supervise_elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..store.locks import Claim
    from ..store.settings import Settings
    from ..store.task import Task


class Started:
    """A run that was started. strategy: the one that was used; entry: its line of history if it is over (sync); after:
    what the door calls once the response is out (close)."""

    __slots__ = ("after", "entry", "strategy")

    def __init__(
        self, strategy: str, entry: dict[str, Any] | None = None, after: Callable[[], object] | None = None
    ) -> None:
        self.strategy, self.entry, self.after = strategy, entry, after


def start_run(
    settings: Settings, task: Task, claim: Claim, in_process: bool, clock: Callable[[], float], server: str
) -> Started:
    """Start a claimed run by the first of the strategies that works here.

    in_process: this process has one thread and serves one request (CGI), so it may fork and supervise. server: the kind
    of server, as `capabilities.server_kind` names it.
    """

    def job() -> dict[str, Any]:
        return supervise(settings, task, claim, clock) if in_process else supervise_elsewhere(settings, claim, clock)

    try:
        for strategy in _strategies(settings, task, server, clock()):
            claim.append({"strategy": strategy, "server": server})

            if strategy == "close":
                return Started("close", after=job)

            if strategy == "fork":
                try:
                    if not in_process:
                        detach.spawn(resume_argv(settings, claim), [claim.descriptor])
                    elif not detach.detach(job, [claim.descriptor]):
                        continue

                    claim.close()
                    return Started("fork")
                except OSError:
                    pass  # no process to be had: the next strategy says so in history, if it has none either

        return Started("sync", job())
    except BaseException:
        claim.close()  # a long-lived process must not keep locked what it could not start
        raise


def _strategies(settings: Settings, task: Task, server: str, now: float) -> list[str]:
    wanted = task["strategy"]

    if task["group"] == capabilities.PROBE:
        return [wanted, "sync"]

    if wanted != "auto":
        return capabilities.following(settings.home, server, wanted, now)

    # A tick itself ends within its budget; what it starts has the time limits of the tasks.
    timeout = settings["defaultTimeout"] if task["timeout"] is None or task.name == DUE else task["timeout"]
    return capabilities.elect(settings.home, server, timeout, now)
