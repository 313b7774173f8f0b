# SPDX-License-Identifier: LGPL-3.0-or-later
"""Warnings as errors, and Python's development mode, at every door: nothing warns, from the request to the record."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.commandline import environment
from tests.installation import PATIENCE, Installation, answered, asking, waits_for

STRICT = [["-W", "error"], ["-X", "dev", "-W", "error"]]
# A request, the end of its answer, and the end of the server's process, which does not wait for the run.
SERVES = """
import json, sys
from wsgiref.validate import validator
from webscheduler import create_app
result = validator(create_app(sys.argv[1]))({**json.loads(sys.argv[2]), "wsgi.input": sys.stdin.buffer,
    "wsgi.errors": sys.stderr, "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.multithread": True,
    "wsgi.multiprocess": True, "wsgi.run_once": False}, lambda status, headers: lambda data: None)
print(b"".join(result).decode())
result.close()
"""


@pytest.fixture
def strict(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """An installation all of whose processes, supervisors too, inherit that warnings are errors."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    return installation


def recorded(installation: Installation, strategy: str) -> None:
    """One run, and whatever its processes had to say is in no log."""
    installation.idle()
    (run,) = installation.runs()
    assert (run["status"], run["strategy"], run["output"]) == ("success", strategy, "begun\nended\n")


@pytest.mark.parametrize("options", STRICT, ids=["errors", "development"])
@pytest.mark.parametrize("strategy", ["fork", "close", "sync"])
def test_the_script(strict: Installation, strategy: str, options: list[str]) -> None:
    go = strict.home / "go"
    strict.add(argv=waits_for(go), strategy=strategy)
    go.touch() if strategy != "fork" else None

    with strict.start_cgi(strict.signed(), words=[sys.executable, *options]) as process:
        answer = answered(process)

    assert answer.document["accepted"]
    assert answer.errors == ""
    go.touch()
    recorded(strict, answer.document["strategy"])


@pytest.mark.parametrize("options", STRICT, ids=["errors", "development"])
@pytest.mark.parametrize("strategy", ["fork", "close", "sync"])
def test_the_application(strict: Installation, strategy: str, options: list[str]) -> None:
    """Also where its process ends while the run goes on."""
    go = strict.home / "go"
    strict.add(argv=waits_for(go), strategy=strategy)
    go.touch() if strategy != "fork" else None
    done = subprocess.run([sys.executable, *options, "-c", SERVES, str(strict.home), json.dumps(strict.signed())],
                          env=environment(strict.home), capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=PATIENCE)
    assert json.loads(done.stdout)["accepted"], done.stderr
    assert (done.returncode, done.stderr) == (0, "")
    go.touch()
    recorded(strict, strategy)


@pytest.mark.parametrize("options", STRICT, ids=["errors", "development"])
def test_the_command_line(strict: Installation, options: list[str]) -> None:
    """The verbs that set up, show, run and clean."""
    def call(*words: str) -> None:
        done = subprocess.run([sys.executable, *options, "-m", "webscheduler", *words], env=environment(strict.home),
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
        assert done.returncode == 0 and not re.search("Warning|Exception|Traceback", done.stderr), (words, done)

    call("init")
    call("add", "task", "--every", "3600", "--", "sh", "-c", "echo begun; echo ended")
    call("run", "task")
    recorded(strict, "sync")
    call("run-due")

    for words in (["list"], ["list", "--json"], ["show", "task"], ["next", "task"], ["logs"], ["logs", "--json"],
                  ["url", "task", "--base", "https://example.org"], ["export", "json"], ["export", "systemd"],
                  ["config"], ["commands"], ["sync"], ["rotate-secret", "task"], ["edit", "task", "--title", "x"],
                  ["disable", "task"], ["enable", "task"], ["rename", "task", "other"],
                  ["purge-logs", "other", "--yes"], ["bundle", "--output", str(strict.home / "bundle.cgi")],
                  ["remove", "other", "--yes"], ["--version"]):
        call(*words)

    strict.gone()


@pytest.mark.parametrize("page", ["", "sign-in", "setup"])
def test_the_panel(strict: Installation, page: str) -> None:
    """By the script: a process of its own for each page."""
    with strict.start_cgi(asking(f"/admin/{page}"), words=[sys.executable, *STRICT[1]]) as process:
        answer = answered(process)

    assert answer.status in (200, 303), answer
    assert answer.errors == ""
