# SPDX-License-Identifier: LGPL-3.0-or-later
"""Warnings about what others could do or see here: the checks of `doctor` that need no more than a few looks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from ..accounts import name_of
from ..commands import registry
from ..errors import BadInput, Unusable
from ..fetching import NotPublic, check_public, within
from ..store import history, history_view, keys, people, state
from ..store.settings import Settings, private_hosts
from ..store.task import DUE, Task, load_tasks, shown
from ..times import instant
from .findings import ERROR, WARNING, Finding

# Who web servers run as, and where scripts do not run as their account, those of all customers.
SHARED = ("www-data", "apache", "nginx", "httpd", "http", "www", "wwwrun", "nobody", "daemon")
MINUTE = 55.0  # seconds: callers that keep to one call a minute are not exact
DAY = 86400.0
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

    with suppress(TimeoutError):
        within(LOOK_UPS, look_up)

    yield from list(found)


def of_account(home: str) -> Iterator[Finding]:
    """Who else can read the home, or put another in its place, and whether its owner is who runs this."""
    import grp  # not all systems have them, and this module is read there too
    import pwd

    status = os.stat(home)
    owner, path, others, group = name_of(pwd.getpwuid, status.st_uid), os.path.realpath(home), True, True

    if status.st_uid != os.geteuid():
        yield Finding(WARNING, "home", "it belongs to {owner}, and this runs as {user}: let the server run the script "
                      "as {owner}", owner=owner, user=name_of(pwd.getpwuid, os.geteuid()))
    elif owner in SHARED:
        yield Finding(WARNING, "home", "it belongs to {owner}, as whom servers run scripts of all customers: if there "
                      "are others here, their scripts can read it; choose a host that runs scripts as you", owner=owner)

    while path != "/":
        path = os.path.dirname(path)
        above = os.stat(path).st_mode
        others, group = others and bool(above & 0o001), group and bool(above & 0o011)

    for path in dict.fromkeys(registry.on_the_way(home)):
        above = os.lstat(path).st_mode

        if path != os.path.realpath(home) and stat.S_ISDIR(above) and above & 0o022 and not above & stat.S_ISVTX:
            yield Finding(WARNING, "home", "{path}, above it, can be changed by others, who could put another home in "
                          "its place: `chmod go-w {path}`", path=path)

    if others and status.st_mode & 0o005:
        yield Finding(WARNING, "home", "all accounts of this machine can read or enter it: `chmod 700 {home}`",
                      home=home)
    elif group and status.st_mode & 0o050:
        yield Finding(WARNING, "home", "the accounts of the group {group} can read or enter it: `chmod 700 {home}`",
                      group=name_of(grp.getgrgid, status.st_gid), home=home)


def of_address(settings: Settings) -> Iterator[Finding]:
    """Whether calls travel without encryption over a network."""
    base = str(settings["baseUrl"] or "").lower()
    host = (urlsplit(base).hostname or "") if base.startswith("http://") else ""

    if host and host not in ("localhost", "::1") and not host.startswith("127."):
        yield Finding(WARNING, "url", "{base} is without encryption: others on the network can read trigger URLs and "
                      "passwords; use https if your host offers it", base=settings["baseUrl"])


def of_people(settings: Settings) -> Iterator[Finding]:
    """Whether it can be read who may use panel and API, and whether their keys travel without encryption."""
    for read in (people.read, keys.listed):
        try:
            if read(settings.home) and read is keys.listed and settings["apiOverHttp"]:
                yield Finding(WARNING, "settings", "`apiOverHttp` lets keys of the API travel without encryption: "
                              "others on the network can read them; use https if your host offers it")
        except Unusable as error:
            yield Finding(ERROR, "files", "{error}", error=error)


def of_haste(home: str, tasks: dict[str, Task], now: float) -> Iterator[Finding]:
    """Tasks without a minimum interval whose URL was called more than once a minute in the last day, as far as the
    newest lines of their history tell."""
    for name, task in tasks.items():
        try:
            recent = now - os.stat(history.path(home, name)).st_mtime < DAY
        except FileNotFoundError:
            continue

        if name == DUE or task["minIntervalSeconds"] or not recent:
            continue

        calls = sorted(at for entry in history_view.recent(home, name) if entry.get("trigger") == "url"
                       and now - (at := instant(entry.get("triggeredAt") or entry.get("startedAt"))) < DAY)
        most = max((sum(at <= other < at + MINUTE for other in calls) for at in calls), default=0)

        if most > 1:
            yield Finding(WARNING, "tasks", "{task} was called at least {n} times in a minute, and has no minimum "
                          "interval: `webscheduler edit {task} --min-interval-seconds 60`", task=name, n=most)
