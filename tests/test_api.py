# SPDX-License-Identifier: LGPL-3.0-or-later
"""The public names of the package: what an application that embeds the scheduler imports."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import webscheduler
from tests.commandline import call, environment
from tests.installation import PATIENCE, Installation, asking
from webscheduler.errors import BadInput, NoSuchTask, Unusable


def evaluate(installation: Installation, expression: str) -> Any:
    """What an expression gives in a new process whose environment names the home."""
    done = subprocess.run([sys.executable, "-c", f"import json, webscheduler\nprint(json.dumps({expression}))"],
                          env=environment(installation.home), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(set(webscheduler.__all__)))
def test_every_public_name_is_there(name: str) -> None:
    """All that __all__ promises can be imported, lazily; nothing else is invented."""
    assert getattr(webscheduler, name) is not None

    with pytest.raises(AttributeError):
        getattr(webscheduler, name + "_")


def test_importing_the_package_loads_none_of_it(installation: Installation) -> None:
    """`import webscheduler` costs a request nothing: no module of the package is loaded by it."""
    loaded = evaluate(installation, "list(__import__('sys').modules)")
    assert [name for name in loaded if name.startswith("webscheduler.")] == []


def test_the_url_is_that_of_the_command_line(installation: Installation) -> None:
    """trigger_url gives what `webscheduler url` prints, and says what is missing."""
    home = str(installation.home)
    installation.add()

    with pytest.raises(BadInput, match="config set baseUrl"):
        webscheduler.trigger_url("task", home)

    installation.configure(baseUrl="https://example.org/cron/")
    assert webscheduler.trigger_url("task", home) + "\n" == call(installation.home, "url", "task").out

    assert evaluate(installation, "webscheduler.trigger_url('task')") == webscheduler.trigger_url("task", home)

    with pytest.raises(NoSuchTask):
        webscheduler.trigger_url("nothing", home)

    with pytest.raises(Unusable):
        webscheduler.trigger_url("task", home + "x")


def test_the_url_of_a_task_that_takes_timed_signatures_alone(installation: Installation) -> None:
    """It is signed for now: the task accepts it, once."""
    installation.configure(baseUrl="https://example.org")
    installation.add(signature="timed")
    path, _, query = webscheduler.trigger_url("task", str(installation.home))[len("https://example.org"):].partition("?")
    assert installation.wsgi(asking(path, query)).document["status"] == "running"
    assert installation.wsgi(asking(path, query)).refused
    installation.idle()


def test_a_run_gives_its_line_of_history(installation: Installation) -> None:
    """run returns what was recorded, whatever the task's schedule says; a task that runs already gives None."""
    installation.add(argv=["/bin/sh", "-c", "echo hi; exit 3"], enabled=False)
    entry = evaluate(installation, "webscheduler.run('task')")
    assert (entry["status"], entry["exitCode"], entry["output"]) == ("failed", 3, "hi\n")
    assert entry == installation.runs()[0]

    nested = "import webscheduler, sys; sys.exit(webscheduler.run('task') is not None)"
    installation.edit(argv=[sys.executable, "-c", nested], environment=environment(installation.home))
    assert evaluate(installation, "webscheduler.run('task')")["status"] == "success"


def test_all_that_is_due_is_run_and_told(installation: Installation) -> None:
    """run_due waits for what it started; codes say what became of each."""
    installation.add("good", intervalSeconds=60)
    installation.add("bad", argv=["false"], intervalSeconds=60)
    installation.add("not due")
    entry = evaluate(installation, "webscheduler.run_due()")
    assert entry["codes"] == {"good": 0, "bad": 1}
    assert [each["status"] for name in ("good", "bad") for each in installation.runs(name)] == ["success", "failed"]
