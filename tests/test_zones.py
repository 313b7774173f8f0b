# SPDX-License-Identifier: LGPL-3.0-or-later
"""A host without time zone data, as slim images and some jails are: said as that, wherever a zone is given or used.

Rule: zoneinfo looks for the data really, and there is none: no directory, and a package `tzdata` without files.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.client import Browser, populate
from tests.commandline import Done, call, environment
from tests.installation import Installation
from webscheduler import applying, zones
from webscheduler.host import doctor
from webscheduler.host.findings import ERROR
from webscheduler.interchange import importing
from webscheduler.store.settings import load_settings

SAID = "this machine has no time zone data, so only UTC works: `pip install tzdata`"
CRONTAB = "CRON_TZ=Europe/Paris\n0 3 * * * true\n"


@pytest.fixture
def no_data(tmp_path: Path) -> Path:
    """What comes first on the path of a Python that shall find no data."""
    empty = tmp_path / "path" / "tzdata"
    empty.mkdir(parents=True)
    (empty / "__init__.py").touch()
    return empty.parent


@pytest.fixture
def here(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process finds none either."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, name)

    monkeypatch.syspath_prepend(str(no_data))
    monkeypatch.delitem(sys.modules, "tzdata", raising=False)

    def forget() -> None:
        zoneinfo.ZoneInfo.clear_cache()
        zones.known.cache_clear()
        zones.alike.cache_clear()

    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([])
    forget()

    try:
        yield
    finally:
        zoneinfo.reset_tzpath(before)
        sys.modules.pop("tzdata", None)
        forget()


def told(installation: Installation, no_data: Path, *words: str) -> Done:
    found = environment(installation.home)
    path = os.pathsep.join(filter(None, (str(no_data), found.get("PYTHONPATH"))))
    return call(installation.home, *words, env={**found, "PYTHONTZPATH": "", "PYTHONPATH": path})


@pytest.mark.parametrize("words", [
    ("config", "set", "timezone", "Europe/Paris"), ("add", "task", "--timezone", "Europe/Paris", "--", "true"),
    ("next", "--cron", "0 3 * * *", "--timezone", "Europe/Paris"), ("init", "--timezone", "Europe/Paris")])
def test_the_command_line_says_that_there_is_no_data(installation: Installation, no_data: Path,
                                                     words: tuple[str, ...]) -> None:
    """It does not say that the zone is unknown; UTC works."""
    done = told(installation, no_data, *words)
    assert done.status == 2 and SAID in done.complaint and "not known" not in done.complaint
    assert told(installation, no_data, *[word.replace("Europe/Paris", "UTC") for word in words]).status == 0


def test_imports_say_that_there_is_no_data(installation: Installation, here: None) -> None:
    """A line of a crontab is left out for it; a task of a backup comes, and is not to be edited."""
    (problem,) = [line for line in importing.of_crontab(CRONTAB, {}, "UTC").said if "left out" in line]
    assert SAID in problem
    backup = json.dumps({"format": importing.FORMAT, "version": importing.VERSION, "tasks": {
        "task": {"argv": ["true"], "expression": "0 3 * * *", "timezone": "Europe/Paris"}}})
    arrival = importing.of_document(backup, "x")
    applying.differences(load_settings(str(installation.home)), arrival, time.time())
    said = arrival.said
    assert [line for line in said if SAID in line] and not any("edited" in line for line in said)


def test_the_panel_says_that_there_is_no_data(installation: Installation, here: None) -> None:
    """In the settings and in the form of a task, in French too."""
    populate(installation)
    owner = Browser(installation)
    owner.sign_in()
    owner.get("edit")
    page = owner.submit("edit", name="fresh", command="hello", kind="daily", at="03:00", timezone="Europe/Paris")
    assert "this machine has no time zone data" in page.text and page.text.count("ask your host to install tzdata") == 1
    owner.get("settings")
    assert "this machine has no time zone data" in owner.submit("settings", timezone="Europe/Paris")
    installation.configure(language="fr")
    owner.get("settings")
    page = owner.submit("settings", timezone="Europe/Paris")
    assert page.status == 422 and "données de fuseaux horaires" in page.text


def test_doctor_says_that_there_is_no_data(installation: Installation, here: None) -> None:
    """For the zone of all tasks and for each task that has its own, and nobody is told to edit or to remove any."""
    installation.configure(timezone="Europe/Paris")
    installation.add("one", expression="0 3 * * *")
    installation.add("two", expression="0 4 * * *", timezone="Europe/London")
    found = [each for each in doctor.examine(str(installation.home), time.time()) if SAID in each.text()]
    assert [(each.state, each.about) for each in found] == [(ERROR, "settings"), (ERROR, "tasks")]
    assert not any(word in each.text() for each in found for word in ("edit", "remove", "config set"))
