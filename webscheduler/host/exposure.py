# SPDX-License-Identifier: LGPL-3.0-or-later
"""Warnings about what others could do or see here: the checks of `doctor` that need no more than a few looks."""

from __future__ import annotations

from ..commands import registry
from ..errors import BadInput
from ..fetching import NotPublic, check_public, within
from ..store.settings import private_hosts
from ..store.task import load_tasks, shown
from .findings import WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store import state
    from ..store.settings import Settings

LOOK_UPS = 5.0  # seconds for the names of all tasks


def of_calls(settings: Settings, tasks: state.Tasks) -> Iterator[Finding]:
    """Tasks that call by `http` what a task saved in the panel could not: made with a shell, or before there was a
    limit. They go on, and nobody may know of them."""
    known, private = registry.registered(settings), private_hosts(settings)
    calling = [task for task in load_tasks(shown(tasks))[0].values() if task["command"] in known
               and registry.calls_urls(known[task["command"]]) and not task["publicOnly"]]
    found: list[Finding] = []

    def look_up() -> None:
        for task in calling:
            try:
                for url in registry.arguments(known[task["command"]], task["arguments"])[:1]:
                    check_public(url, private)
            except NotPublic as error:
                found.append(Finding(WARNING, "tasks", "{task} calls a host that a task saved in the panel could not: "
                                                       "{error}", task=task.name, error=error))
            except BadInput:
                pass  # said with the other faults of tasks

    try:
        within(LOOK_UPS, look_up)
    except TimeoutError:
        pass

    yield from list(found)
