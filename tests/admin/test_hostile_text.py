# SPDX-License-Identifier: LGPL-3.0-or-later
"""Characters that a terminal obeys or a parser takes for the end of a line: where they enter, and where they go.

Witnesses: systemd-analyze for units, Debian's crontab for crontabs, PyYAML for manifests.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser, registered
from tests.admin.test_settings import restore
from tests.commandline import call
from tests.installation import Installation
from tests.test_transfer import REAL_CRONTAB, REQUIRED, manifests
from webscheduler.interchange import exporting
from webscheduler.interchange.crontab import parse
from webscheduler.printable import escaped
from webscheduler.store import state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import load_tasks, new_task

HOSTILE = ["a\rExecStartPre=/bin/touch x", "\x1b[2Jgone", "\u202eesrever", "a\u2028b", "a\x85b", "a\x0bb", "a\u200bb",
           "a\x00b", "a\x7fb", "a\x9bb", "\ufeffa", "a\U000e0041b"]
FIELDS = ("title", "group", "description")
SAID = "must contain printable characters only"


@pytest.mark.parametrize("text", [*HOSTILE, "two\nlines", "a\ttab"])
def test_what_is_not_printable_does_not_enter(owner: Browser, inhabited: Installation, text: str) -> None:
    """By no door: the command line, the panel's form, a backup, an import, or a command in code. A description may have
    several lines."""
    home = inhabited.home
    registered(inhabited)
    before = (home / "state.json").read_bytes(), (home / "config.json").read_bytes()

    for field in FIELDS:
        if field == "description" and {"\n", "\t"} & set(text):
            continue

        if "\0" not in text:
            assert SAID in call(home, "edit", "task", f"--{field}", text).complaint
            assert SAID in call(home, "add", "new", "--command", "hello", f"--{field}", text).complaint

        row = {"enabled": True, "command": "hello", field: text}
        document = {"format": "webscheduler tasks", "version": 1, "tasks": {"new": row}}
        assert "Nothing was changed: task new: " in restore(owner, document)
        file = home.parent / "incoming.json"
        file.write_text(json.dumps(document))
        done = call(home, "import", str(file))
        assert (done.status, done.complaint.startswith(f"task new: {field}: ")) == (2, True)
        owner.get("edit", name="task")
        owner.submit("edit", do="save", **{field: text})
        assert (home / "state.json").read_bytes() == before[0], field

    if "\0" not in text:
        assert SAID in call(home, "config", "set", "name", text).complaint

    restore(owner, {"format": "webscheduler tasks", "version": 1, "tasks": {}, "settings": {"name": text}})
    assert ((home / "state.json").read_bytes(), (home / "config.json").read_bytes()) == before


def test_the_group_of_the_probe_is_the_programs(owner: Browser, inhabited: Installation) -> None:
    """Nobody puts a task into it: it would get the strategy that it names, and be removed with the next probe."""
    registered(inhabited)
    before = (inhabited.home / "state.json").read_bytes()
    said = "group: @probe is the program's own: choose another"
    assert call(inhabited.home, "edit", "task", "--group", "@probe").complaint == f"--{said}"
    assert call(inhabited.home, "add", "new", "--group", "@probe", "--", "true").complaint == f"--{said}"
    row = {"enabled": True, "command": "hello", "group": "@probe"}
    document = {"format": "webscheduler tasks", "version": 1, "tasks": {"new": row}}
    assert "Nothing was changed" in restore(owner, document)
    file = inhabited.home.parent / "incoming.json"
    file.write_text(json.dumps(document))
    assert call(inhabited.home, "import", str(file)).complaint == f"task new: {said}"
    owner.get("edit", name="task")
    assert owner.submit("edit", do="save", group="@probe").status == 422
    assert (inhabited.home / "state.json").read_bytes() == before


def test_what_is_stored_already_stays_and_is_shown(owner: Browser, inhabited: Installation) -> None:
    """An older version let it in: it loads, other fields of the task can be changed, and it is nowhere shown raw."""
    text = "old\r\x1b[2J\u202e"
    registered(inhabited, "task", title=text, group=text, description=text, expression="@daily")
    inhabited.configure(name=text)
    assert call(inhabited.home, "edit", "task", "--priority", "7").status == 0
    assert inhabited.row()["title"] == text
    owner.get("edit", name="task")
    assert owner.submit("edit", do="save", priority="8").status == 200
    assert (inhabited.row()["priority"], inhabited.row()["title"]) == (8, text)

    for words in (["list"], ["show", "task"], ["export", "systemd"], ["export", "crontab"], ["export", "kubernetes"],
                  ["config", "list"], ["status"]):
        done = call(inhabited.home, *words)
        assert escaped(done.out) == done.out, words

    for page in ("", "task", "edit", "history", "settings", "diagnostics"):
        shown = owner.get(page, name="task").text
        assert escaped(shown) == shown, page


def test_a_docstring_is_described_without_what_is_hidden(installation: Installation, tmp_path: Path) -> None:
    """It was not written for us; only what it hides is escaped."""
    (tmp_path / "described.py").write_text('from webscheduler import schedulable\n\n@schedulable("app:x")\ndef x():\n'
                                      '    "Clean \\x1b[1mup"\n')
    installation.configure(modules=["described"], environment={"PYTHONPATH": str(tmp_path)})
    call(installation.home, "sync")
    assert installation.row("app:x")["description"] == "Clean \\x1b[1mup"


def hostile(installation: Installation) -> None:
    """Tasks as an older version, or a hand, may have stored them: each hostile text in each field that is exported."""
    installation.configure(commands={"ours": {"argv": ["/bin/echo"], "arguments": True}}, timezone="Europe/Paris")
    texts = [*filter(lambda each: "\0" not in each, HOSTILE), "a\nExecStartPre=/bin/x", "end\\", "%h $(HOME) 'q\" #;",
             "-x", " a ", "a: b", "}]\n- x", "tab\tb"]
    rows = [row for text in texts for row in (
        {"title": text}, {"description": text, "group": text}, {"cwd": text}, {"cwd": "/srv/" + text},
        {"timezone": "UTC" + text}, {"environment": {"A": text}}, {"environment": {text: "x"}},
        {"argv": ["/bin/echo", text]}, {"argv": ["/bin/" + text]}, {"argv": [text]}, {"expression": "0 3 * * *" + text},
        {"argv": None, "command": "ours", "arguments": f"'{text}'"})]
    usual = {"enabled": True, "argv": ["/bin/true"], "expression": "0 3 * * *"}
    state.update(str(installation.home), lambda tasks: tasks.update({
        f"task-{number}": new_task(1.0, {**usual, **row}) for number, row in enumerate(rows)}))


def loaded(installation: Installation) -> list[Any]:
    return list(load_tasks(state.read_strictly(str(installation.home)))[0].values())


@pytest.mark.parametrize("kind", exporting.FORMATS)
def test_nothing_in_an_export_is_obeyed_by_a_terminal(installation: Installation, kind: str) -> None:
    """Whatever the fields hold, also the image and what is said of a task."""
    hostile(installation)
    installation.configure(baseUrl="https://example.org/cron")

    for base in ("", "https://example.org/cron"):
        made = exporting.export(kind, load_settings(str(installation.home)), loaded(installation),
                                "\r\x1b[2J\nx: y", base)
        text = str(made)
        assert escaped(text) == text
        assert all(escaped(line, one_line=True) == line for line in made.said)


@pytest.mark.skipif(not REQUIRED and not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_units_hold_what_they_should_and_nothing_else(installation: Installation, tmp_path: Path) -> None:
    """Line by line as systemd reads them, which takes a carriage return for the end of a line; and systemd itself finds
    nothing to say, except that a program does not exist."""
    hostile(installation)
    made = exporting.export("systemd", load_settings(str(installation.home)), loaded(installation))
    keys = {"Description", "Type", "Environment", "WorkingDirectory", "TimeoutStartSec", "TimeoutStopSec", "ExecStart",
            "OnCalendar", "Persistent", "AccuracySec", "WantedBy"}
    assert len(made.files) > 150

    for name, text in made.files.items():
        lines = re.split("[\n\r\0\x0b\x0c\x85\u2028\u2029]", text)
        assert {line.partition("=")[0] for line in lines if line and line[0] != "["} <= keys, name
        assert sum(line.startswith("ExecStart=") for line in lines) == name.endswith(".service"), name
        assert not [line for line in lines if (len(line) - len(line.rstrip("\\"))) % 2], name
        (tmp_path / name).write_text(text)

    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.glob("*.service")),
                           *sorted(tmp_path.glob("*.timer"))], capture_output=True, text=True)
    said = re.split("^webscheduler-", done.stderr, flags=re.MULTILINE)  # a program's name may have line breaks
    assert [each for each in said if each and not re.search("is not executable: (No such file|Permission)", each)] == []


@pytest.mark.skipif(not REQUIRED and not shutil.which("crontab"), reason="crontab is not installed")
def test_crontabs_hold_what_they_should_and_nothing_else(installation: Installation, tmp_path: Path) -> None:
    """Debian's crontab takes all of it, and each line is the one of its task."""
    hostile(installation)
    text = str(exporting.export("crontab", load_settings(str(installation.home)), loaded(installation)))
    jobs, problems = parse(text)
    assert problems == []
    assert {job.expression for job in jobs} == {"0 3 * * *"}
    assert {name for job in jobs for name in job.environment} == {"CRON_TZ"}
    file = tmp_path / "crontab"
    file.write_text(text)
    done = subprocess.run([REAL_CRONTAB, "-n", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not REQUIRED and importlib.util.find_spec("yaml") is None, reason="PyYAML is missing")
def test_manifests_hold_what_they_should_and_nothing_else(installation: Installation) -> None:
    """PyYAML reads one CronJob for each task, with the very texts that the task has."""
    hostile(installation)
    documents, _ = manifests(installation, *loaded(installation))
    by_name = {each["metadata"]["name"]: each["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
               for each in documents}
    assert all(each.keys() == {"apiVersion", "kind", "metadata", "spec"} for each in documents)
    assert len(by_name) > 150

    for task in loaded(installation):
        found = by_name.get(task.name)

        if found and task["argv"]:
            assert found["command"] == [word.replace("$(", "$$(") for word in task["argv"]]
            assert found.get("workingDir") == task["cwd"]
            assert {each["name"]: each["value"].replace("$$(", "$(") for each in found.get("env", ())} == (
                task["environment"])
