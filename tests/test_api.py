# SPDX-License-Identifier: LGPL-3.0-or-later
"""The public names of the package: what an application that embeds the scheduler imports."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import webscheduler
from tests import CHECKOUT, PACKAGE
from tests.commandline import call, environment
from tests.embedding import needs
from tests.installation import PATIENCE, Installation, asking
from webscheduler.errors import BadInput, NoSuchTask, Unusable
from webscheduler.store.task import FIELDS, SECRETS

EXAMPLES = CHECKOUT / "tests" / "embedding"


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


def test_tasks_and_their_history_are_those_of_the_command_line(installation: Installation) -> None:
    """tasks and history give what `list --json` and `logs --json` print, also of a task that cannot be loaded, one that
    was removed, and one status alone."""
    home = str(installation.home)
    installation.configure(baseUrl="https://example.org/cron/")
    installation.add("good", argv=["true"], group="daily")
    installation.add("bad", argv=["false"])
    installation.add("gone", argv=["true"])

    for name in ("good", "bad", "gone", "good"):
        webscheduler.run(name, home)

    assert call(installation.home, "remove", "gone", "--yes", "--keep-logs").status == 0
    rows = json.loads((installation.home / "state.json").read_text())
    rows["odd"] = {"priority": "high"}
    (installation.home / "state.json").write_text(json.dumps(rows))

    found = webscheduler.tasks(home)
    assert found == json.loads(call(installation.home, "list", "--json").out)
    assert {row["name"]: "error" in row for row in found} == {"@due": False, "good": False, "bad": False, "odd": True}

    for given, words in (({}, []), ({"name": "good"}, ["good"]), ({"name": "gone"}, ["gone"]),
                         ({"status": "failed"}, ["--status", "failed"]), ({"limit": 2}, ["--limit", "2"])):
        entries = webscheduler.history(home=home, **given)
        assert entries == json.loads(call(installation.home, "logs", "--json", *words).out)
        assert entries

    assert webscheduler.history("good", home, limit=0) == []


def test_what_is_asked_wrongly_is_an_error(installation: Installation) -> None:
    """An unknown task, status, limit or home is said by an exception, as are files that cannot be read."""
    home = str(installation.home)

    for error, call_it in ((NoSuchTask, lambda: webscheduler.history("nothing", home)),
                           (BadInput, lambda: webscheduler.history(home=home, status="fine")),
                           (BadInput, lambda: webscheduler.history(home=home, limit=-1)),
                           (Unusable, lambda: webscheduler.history(home=home + "x")),
                           (Unusable, lambda: webscheduler.tasks(home + "x"))):
        with pytest.raises(error):
            call_it()

    (installation.home / "state.json").write_text("{")

    with pytest.raises(Unusable, match=r"state\.json"):
        webscheduler.tasks(home)


def test_the_shape_of_a_task_names_all_its_fields() -> None:
    """TaskRow, which only type checkers see, has the fields of the table, in its order, and what JSON adds."""
    (shape,) = (node for node in ast.walk(ast.parse((PACKAGE / "store" / "task.py").read_text()))
                if isinstance(node, ast.ClassDef) and node.name == "TaskRow")
    keys = [row.target.id for row in shape.body if isinstance(row, ast.AnnAssign) and isinstance(row.target, ast.Name)]
    fields = [name for name in FIELDS if name not in SECRETS]
    assert keys == ["name", *fields, "oldSecretUntil", "url", "error"]


def example(installation: Installation, *words: str, folder: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], env={**environment(installation.home), "PYTHONWARNINGS": "default"},
                          cwd=folder, capture_output=True, text=True, timeout=PATIENCE)


def test_the_script_of_the_documentation(installation: Installation) -> None:
    """It runs its task, shows what failed, and ends with the line of an error where there is no such task."""
    done = example(installation, str(EXAMPLES / "script.py"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no task is named 'report'") and done.stderr.count("\n") == 1
    installation.add("report", argv=["true"])
    installation.add("bad", argv=["/bin/sh", "-c", "echo why >&2; false"])
    webscheduler.run("bad", str(installation.home))
    done = example(installation, str(EXAMPLES / "script.py"))
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("report: success after ") and second.startswith("bad failed at ")
    assert second.endswith(": why")


def test_the_command_of_django_of_the_documentation(installation: Installation, tmp_path: Path) -> None:
    """It runs one task or all that are due, shows their output, and fails with them."""
    needs("django")
    commands = tmp_path / "shop" / "management" / "commands"
    commands.mkdir(parents=True)

    for folder in (commands, *list(commands.parents)[:2]):
        (folder / "__init__.py").touch()

    (tmp_path / "shop" / "settings.py").write_text("SECRET_KEY = 'x'\nINSTALLED_APPS = ['shop']\n")
    shutil.copy(EXAMPLES / "django_command.py", commands / "scheduled.py")
    manage = ("-m", "django", "scheduled", "--settings", "shop.settings", "--pythonpath", str(tmp_path))
    installation.add("report", argv=["echo", "hi"])
    installation.add("bad", argv=["/bin/sh", "-c", "echo why >&2; exit 3"], intervalSeconds=60)

    for words, status, out, error in ((["report"], 0, "hi", ""), (["bad"], 1, "", "it ended as failed: why"),
                                      ([], 0, "", ""), (["nothing"], 1, "", "no task is named 'nothing'")):
        done = example(installation, *manage, *words, folder=tmp_path)
        assert (done.returncode, done.stdout.strip()) == (status, out), done
        assert error in done.stderr and "Traceback" not in done.stderr


def test_the_command_of_flask_of_the_documentation(installation: Installation) -> None:
    """It lists the tasks with how their last runs ended, and their URLs where they are asked for."""
    needs("flask")
    installation.configure(baseUrl="https://example.org/cron")
    installation.add("report", argv=["true"])
    webscheduler.run("report", str(installation.home))
    flask = ("-m", "flask", "--app", "flask_command", "tasks")
    done = example(installation, *flask)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["@due: never ran", "report: success"]), done
    url = webscheduler.trigger_url("report", str(installation.home))
    assert f"report: success\n  {url}\n" in example(installation, *flask, "--urls").stdout
