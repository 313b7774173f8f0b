# SPDX-License-Identifier: LGPL-3.0-or-later
"""Locks of files that command line, panel and runs change: with real filelocks of several versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import LIBRARY
from tests.admin.client import Browser, populate
from tests.commandline import call, environment
from tests.installation import Installation

TIMES = 100
COUNTING = f"""
import sys
from webscheduler.store import state

home, way = sys.argv[1:]

def change(row):
    row["cwd"] = str(int(row["cwd"]) + 1)

for _ in range({TIMES}):
    if way == "by a run":
        state.update_row(home, "task", change)
    else:
        state.update(home, lambda tasks: change(tasks["task"]))
"""


@pytest.fixture(scope="module")
def filelock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with that version of filelock; `newest`: what pip takes now."""
    folder = tmp_path_factory.mktemp("filelock")
    wanted = "filelock" if request.param == "newest" else f"filelock=={request.param}"
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check", "--target",
             str(folder), wanted]  # fmt: skip
    done = subprocess.run(words, text=True, capture_output=True)

    if done.returncode:
        assert not os.environ.get("WEBSCHEDULER_REQUIRE_ALL"), done.stderr
        pytest.skip(f"pip cannot install {wanted}")

    return folder


def with_it(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{folder}{os.pathsep}{LIBRARY}"}


@pytest.mark.parametrize("filelock", ["3.10.0", "newest"], indirect=True)
def test_runs_and_people_exclude_each_other(installation: Installation, filelock: Path) -> None:
    """A run, which locks with flock alone, and the command line, which has filelock, lose no change of each other."""
    installation.add(cwd="0")
    variables = {**environment(installation.home), **with_it(filelock)}
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING, str(installation.home), way], env=variables)
                 for way in ("by a run", "by a run", "by a person", "by a person")]  # fmt: skip
    assert [process.wait(60) for process in processes] == [0] * 4
    assert installation.row()["cwd"] == str(4 * TIMES)


@pytest.mark.parametrize("filelock", ["3.9.0"], indirect=True)
def test_too_old_a_filelock_is_refused_in_a_line(
    installation: Installation, filelock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's own is one: the command line, doctor and the panel say so and change nothing, and tasks run."""
    installation.add(strategy="fork")
    says = f"filelock 3.9.0 is too old: {sys.executable} -m pip install 'filelock>=3.10'"
    before = (installation.home / "state.json").read_bytes()
    variables = {**environment(installation.home), **with_it(filelock)}

    for words in (["edit", "task", "--title", "x"], ["config", "set", "name", "x"], ["rotate-secret", "task"]):
        done = call(installation.home, *words, env=variables)
        assert (done.status, done.complaint) == (1, says), words

    assert (installation.home / "state.json").read_bytes() == before
    done = call(installation.home, "doctor", "--offline", env=variables)
    assert done.status == 1
    assert says in done.out

    environ = {**installation.signed(), "PYTHONPATH": with_it(filelock)["PYTHONPATH"]}
    assert installation.cgi(environ).document["status"] == "running"
    installation.idle()
    assert installation.runs()[-1]["status"] == "success"
    assert installation.row()["lastRunStatus"] == "success"

    populate(installation)
    browser = Browser(installation)
    browser.sign_in()
    browser.get("settings")
    monkeypatch.setitem(sys.modules, "filelock", _imported(filelock, monkeypatch))
    page = browser.submit("settings", name="another")
    assert page.status == 503
    assert "filelock 3.9.0 is too old" in page


def _imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """That filelock, as a process that finds it first would have it."""
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "filelock"]:
            patch.delitem(sys.modules, name)

        patch.syspath_prepend(str(folder))
        import filelock

        return filelock
