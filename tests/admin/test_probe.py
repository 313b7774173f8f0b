# SPDX-License-Identifier: LGPL-3.0-or-later
"""A probe that was started in the panel and that nobody looks at any more: no list shows it, and a tick ends it."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.admin.client import Browser
from tests.admin.test_settings import backup
from tests.commandline import call
from tests.installation import Installation, until
from tests.test_idle import rest, times
from webscheduler.admin import PAGES
from webscheduler.host import probe
from webscheduler.runs import cancel, probes
from webscheduler.store import capabilities, history, state
from webscheduler.store.settings import load_settings

SEEN = ("list", "list --json", "status", "status --json", "logs", "logs --json", "export json", "export crontab",
        "export systemd", "export kubernetes", "next", "next --json", "run-due --dry-run", "doctor --offline")


def started(owner: Browser) -> list[str]:
    """The links of a probe that was started in the panel."""
    owner.get("diagnostics")
    return re.findall(r'href="(/cron/run/[^"]+)"', owner.submit("probe").text)


def opened(installation: Installation, link: str) -> Any:
    path, _, query = link.replace("&amp;", "&").partition("?")
    answer = installation.wsgi({**installation.signed("@due"), "PATH_INFO": path[5:], "QUERY_STRING": query})
    return answer.document["accepted"]


def tasks_of(installation: Installation) -> list[str]:
    return [name for name in state.read(str(installation.home)) if name.startswith("probe-")]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 1)


@pytest.mark.usefixtures("short")
def test_a_probe_that_nobody_looks_at_is_collected_by_a_tick(owner: Browser, inhabited: Installation) -> None:
    """Once its calls have answered, with the tab closed: what was seen is kept, and tasks and files are gone. Of a
    `close`, only who measured its answer can tell."""
    inhabited.configure(baseUrl="https://example.org/cron")
    rest(inhabited)  # ticks read no tasks until something changes
    links = started(owner)
    assert [opened(inhabited, link) for link in links] == [True] * 3
    inhabited.idle()
    assert len(tasks_of(inhabited)) == 3
    assert inhabited.trigger("wsgi", "@due").status == 202
    inhabited.idle()
    assert tasks_of(inhabited) == []
    assert not list(inhabited.home.glob("logs/probe*")) + list(inhabited.home.glob("runs/*probe*"))
    kind, = capabilities.kinds(str(inhabited.home))
    rows = capabilities.read(str(inhabited.home), kind, time.time())
    assert {strategy: row["probe"]["ended"] for strategy, row in rows.items()} == {"fork": "finished",
                                                                                  "sync": "finished"}
    page = owner.post("/cron/admin/probe", {"do": "collect", "fork": "202:0.010", "token": owner.token()})
    assert "The probe has ended" in page


@pytest.mark.usefixtures("short")
def test_a_tick_waits_for_calls_that_may_still_come(owner: Browser, inhabited: Installation) -> None:
    """A probe whose calls never came is removed too, with what the others showed, after the time that they may take."""
    home = str(inhabited.home)
    rest(inhabited)
    links = started(owner)

    for _ in range(3):
        assert call(inhabited.home, "run-due").status == 0
        assert times(inhabited)[1] == 0  # or the next ones would read no tasks for an hour

    assert len(tasks_of(inhabited)) == 3
    opened(inhabited, links[0])
    inhabited.idle()
    assert probes.collect_left(home, time.time() + 100) is False
    assert probes.collect_left(home, time.time() + 3 * (1 + probes.MARGIN)) is True
    assert tasks_of(inhabited) == []
    kind, = capabilities.kinds(home)
    assert list(capabilities.read(home, kind, time.time())) == ["fork"]


def test_a_tick_leaves_a_job_that_runs(
    owner: Browser, inhabited: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before it has ended."""
    monkeypatch.setattr(probe, "SECONDS", 600)
    home = str(inhabited.home)
    opened(inhabited, started(owner)[0])
    assert probes.collect_left(home, time.time() + 3600) is False
    assert len(tasks_of(inhabited)) == 3
    (facts,) = inhabited.facts()
    assert cancel.end(home, "probe-fork", facts["run"], 30)
    assert probes.collect_left(home, time.time() + 3600) is True


def test_nobody_gets_hold_of_a_task_of_a_probe(owner: Browser, inhabited: Installation) -> None:
    """By its name, which is known: an editor would make a task of his own of it, with its program."""
    probe.start(load_settings(str(inhabited.home)), "http://127.0.0.1:9", 1, time.time())
    before, token = inhabited.row("probe-fork"), owner.token()

    for path in ("task", "edit", "secret", "delete", "shim"):
        assert owner.get(path, name="probe-fork").status == 404, path

    assert "probe-fork-2" not in owner.get("edit", copy="probe-fork")

    for path, fields in (("edit", {"do": "save", "group": "mine"}), ("enable", {"enabled": "no"}), ("run-now", {}),
                         ("secret", {}), ("delete", {})):
        page = owner.post(f"/cron/admin/{path}?name=probe-fork", {"token": token, **fields})
        assert page.status == 404, path

    assert inhabited.row("probe-fork") == before
    probes.stop(str(inhabited.home), time.time())


@pytest.mark.usefixtures("short")
def test_no_list_shows_a_probe(owner: Browser, inhabited: Installation) -> None:
    """Neither its tasks nor their runs, while they run and until they are collected: on the command line, on all pages,
    in exports, and in backups."""
    inhabited.configure(baseUrl="https://example.org/cron")
    home = inhabited.home
    links = started(owner)
    running = [opened(inhabited, link) for link in links[:1]]

    def look() -> None:
        for words in SEEN:
            done = call(home, *words.split())
            assert "probe-" not in done.out + done.err, words

        for path in PAGES:
            if path not in ("probe", "check", "update", "assets"):
                assert "probe-" not in owner.get(path), path

        assert "probe-" not in json.dumps(backup(owner))
        assert "probe-" not in owner.get("export", kind="crontab")
        assert "probe-" not in owner.get("history", name="probe-fork", status="")

    look()
    running += [opened(inhabited, link) for link in links[1:]]
    assert running == [True] * 3
    inhabited.idle()
    assert history.path(str(home), "probe-fork") in [str(file) for file in (home / "logs").iterdir()]
    look()
    assert json.loads(call(home, "list", "--json").out)[0]["name"] == "@due"
    until(lambda: probes.collect_left(str(home), time.time()), "the end of the probe")
