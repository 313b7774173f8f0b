# SPDX-License-Identifier: LGPL-3.0-or-later
"""state.json: changed by many at once, killed at any moment, broken by hand."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import LIBRARY, PACKAGE
from tests.installation import Installation
from webscheduler import editing
from webscheduler.errors import Busy, Unusable, WebschedulerError
from webscheduler.host.home import create_home
from webscheduler.runs import due, retention
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import index, settings, state
from webscheduler.store.fields import Field
from webscheduler.store.settings import SETTINGS, load_settings
from webscheduler.store.task import FIELDS

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
COUNT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from webscheduler.store import state
def add(tasks):
    tasks["counter"]["n"] += 1
    return tasks["counter"]["n"]
left = int(sys.argv[3])
while left:
    os.write(1, b"%d\\n" % state.update(sys.argv[2], add))
    left -= 1
"""


def counting(home: Path, count: int) -> subprocess.Popen[bytes]:
    """Start a process that adds one to a number in state.json so many times; it prints what it made."""
    return subprocess.Popen([sys.executable, "-c", COUNT, str(LIBRARY), str(home), str(count)], stdout=subprocess.PIPE)


@pytest.fixture
def home(installation: Installation) -> Path:
    state.update(str(installation.home), lambda tasks: tasks.update(counter={"n": 0, "unknown": {"a": [1, None]}}))
    return installation.home


def test_no_update_is_lost(home: Path) -> None:
    """Eight processes change one file, 500 times each (a tenth of it by default), and every change is there."""
    each = 500 if FULL else 50
    processes = [counting(home, each) for _ in range(8)]
    made = []

    for process in processes:
        output, _ = process.communicate(timeout=280)
        assert process.returncode == 0
        made += [int(word) for word in output.split()]

    assert sorted(made) == list(range(1, 8 * each + 1))
    assert state.read_strictly(str(home))["counter"]["n"] == 8 * each
    assert (home / "state.json").read_bytes() == (home / "state.json.bak").read_bytes()


@pytest.mark.timeout(900)
def test_killed_while_writing(home: Path) -> None:
    """Killed at any moment, a writer leaves a file that parses and holds the last or the last but one version, a copy
    that parses, and no lock."""
    chance = random.Random()

    for _ in range(500 if FULL else 40):
        before = state.read_strictly(str(home))["counter"]["n"]

        with counting(home, -1) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(chance.random() * 0.02)
            process.kill()
            told = [before, *map(int, [first, *process.stdout.read().split()])]

        found = json.loads((home / "state.json").read_bytes())["counter"]["n"]
        assert found in (told[-1], told[-1] + 1)
        # The copy is written first: nothing that was revoked comes back through it.
        assert json.loads((home / "state.json.bak").read_bytes())["counter"]["n"] in (found, found + 1)

    state.update(str(home), lambda tasks: tasks["counter"].update(n=-1))
    assert state.read(str(home))["counter"]["n"] == -1


def test_unknown_fields_survive(home: Path) -> None:
    """Fields and tasks that this version does not know stay, in their order, through every way of writing."""
    text = {"z": {"future": {"x": [1, {"y": "ü\u2028"}]}, "enabled": True, "argv": ["true"], "strategy": "sync"},
            "@due": state.read(str(home))["@due"], "a": {"enabled": False, "another": None}}  # fmt: skip
    (home / "state.json").write_text(json.dumps(text))
    assert run_by_hand(str(home), "z", "cli", time.time) is not None
    editing.edit(load_settings(str(home)), "z", {"title": "t"}, time.time())
    editing.set_enabled(str(home), ["a"], True, time.time())
    found = json.loads((home / "state.json").read_text())
    assert list(found) == ["z", "@due", "a"]
    assert found["z"]["future"] == text["z"]["future"]
    assert "another" in found["a"]


def test_an_old_file_loads_as_it_is(home: Path) -> None:
    """A state.json with the first fields alone is read; a run fills in what it knows and adds no keys."""
    row = {"enabled": True, "expression": "7 3 * * *", "intervalSeconds": None, "lastRunAt": None,
           "lastRunDuration": None, "lastRunStatus": None, "lastRunExitCode": None, "nextRunAt": None,
           "preventOverlap": True, "priority": 100, "timeout": None, "arguments": "", "command": "hello"}  # fmt: skip
    (home / "state.json").write_text(json.dumps({"app:hello": row}))
    line = run_by_hand(str(home), "app:hello", "cli", time.time)
    assert line is not None
    assert (line["status"], line["output"]) == ("success", "Hello!\n")
    found = json.loads((home / "state.json").read_text())["app:hello"]
    assert found["lastRunStatus"] == "success"
    assert found.get("slug") is None
    assert {key: found[key] for key in row if not key.startswith(("last", "next"))} == {
        key: row[key] for key in row if not key.startswith(("last", "next"))
    }


def test_nothing_changed_nothing_written(home: Path) -> None:
    """A change that changes nothing does not touch the file."""
    before = (home / "state.json").stat()
    assert state.update(str(home), lambda tasks: len(tasks)) == 2
    after = (home / "state.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_change_that_raises(home: Path) -> None:
    """If a change raises half way, nothing of it is written, and the lock is free."""

    def change(tasks: state.Tasks) -> None:
        tasks.clear()
        raise LookupError

    with pytest.raises(LookupError):
        state.update(str(home), change)

    assert state.update(str(home), lambda tasks: "counter" in tasks)


BROKEN = {"half": b'{"task": {"enabled": tr', "empty": b"", "a list": b"[]", "not UTF-8": b"\xff\xfe{}",
          "a number": b"7", "two": b"{}{}", "NULs": b"\x00" * 4096, "deep": b'{"a":' * 100000}  # fmt: skip


def everything(installation: Installation) -> list[Callable[[], Any]]:
    """Whatever writes state.json."""
    home, now = str(installation.home), time.time()
    settings = load_settings(home)
    return [
        lambda: state.update(home, lambda tasks: tasks.clear()),
        lambda: create_home(home, now),
        lambda: state.create(home),
        lambda: run_by_hand(home, "task", "cli", time.time),
        lambda: run_by_hand(home, "@due", "cli", time.time),
        lambda: installation.trigger("wsgi"),
        lambda: installation.trigger("cgi"),
        lambda: editing.create(settings, "new", {"argv": ["true"]}, now),
        lambda: editing.edit(settings, "task", {"title": "x"}, now),
        lambda: editing.remove(home, "task", now),
        lambda: editing.rename(home, "task", "other", now),
        lambda: editing.set_enabled(home, ["task"], False, now),
        lambda: editing.rotate_secret(home, "task"),
        lambda: retention.clean(settings, now),
        lambda: due.restart_schedule(home, "task", now),
    ]


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_never_overwritten(installation: Installation, content: bytes) -> None:
    """Whatever is called, a state.json that cannot be parsed stays as it is, and so does its good copy; what fails
    says how to go on."""
    installation.add(expression="* * * * *")
    good = (installation.home / "state.json.bak").read_bytes()
    signed = installation.signed()
    installation.signed = lambda *_, **__: signed  # type: ignore[method-assign]
    acts = everything(installation)
    (installation.home / "state.json").write_bytes(content)

    for act in acts:
        installation.idle()

        try:
            act()
        except WebschedulerError as error:
            assert "state.json.bak" in str(error)

        assert (installation.home / "state.json").read_bytes() == content
        assert (installation.home / "state.json.bak").read_bytes() == good

    installation.gone()
    assert (installation.home / "state.json").read_bytes() == content
    assert (installation.home / "state.json.bak").read_bytes() == good
    assert {run["status"] for run in installation.runs()} == {"success"}


def test_a_missing_file_does_not_cost_its_copy(installation: Installation) -> None:
    """With state.json gone, `init` begins with what its copy holds, not with nothing."""
    installation.add()
    before = state.read(str(installation.home))
    (installation.home / "state.json").unlink()
    create_home(str(installation.home), time.time())
    assert state.read_strictly(str(installation.home)) == before


def test_both_missing(installation: Installation) -> None:
    """With both gone a new one begins; until then an update says so and makes nothing."""
    for name in ("state.json", "state.json.bak"):
        (installation.home / name).unlink()

    with pytest.raises(Unusable, match="init"):
        state.update(str(installation.home), lambda tasks: tasks.update(x={}))

    assert not (installation.home / "state.json").exists()
    create_home(str(installation.home), time.time())
    assert list(state.read_strictly(str(installation.home))) == ["@due"]


def test_the_copy_is_a_file_of_its_own(home: Path) -> None:
    """An editor that writes into state.json does not write into the copy."""
    assert (home / "state.json").stat().st_ino != (home / "state.json.bak").stat().st_ino
    assert (home / "state.json").stat().st_nlink == 1


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_the_mode_is_explicit(home: Path, umask: int) -> None:
    """state.json and its copy are for their owner to read and write, whatever the umask gives or takes."""
    before = os.umask(umask)

    try:
        state.update(str(home), lambda tasks: tasks["counter"].update(n=umask + 1))
    finally:
        os.umask(before)

    for name in ("state.json", "state.json.bak"):
        assert (home / name).stat().st_mode & 0o777 == 0o600


def test_any_text(home: Path) -> None:
    """Any text comes back as it was, and the file is one task a line."""
    texts = ["é", "\u2028", "😀", '"\\', "\x7f\x1b", "\ud800", "a\nb"]
    state.update(str(home), lambda tasks: tasks.update(t={"texts": texts}))
    assert state.read_strictly(str(home))["t"]["texts"] == texts
    assert len((home / "state.json").read_bytes().splitlines()) == 2 + len(state.read(str(home)))


def test_a_lock_held_too_long(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for the lock says so and changes nothing; the lock of a process that was killed is none."""
    monkeypatch.setattr(state, "PATIENCE", 0.2)
    program = "import fcntl, sys, time; fcntl.flock(f := open(sys.argv[1], 'a'), 2); print(flush=True); time.sleep(60)"
    lock = home / "state.json.lock"

    with subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        with pytest.raises(WebschedulerError, match="locked"):
            state.update(str(home), lambda tasks: tasks.clear())

        os.kill(holder.pid, signal.SIGKILL)

    assert state.update(str(home), lambda tasks: "counter" in tasks)


def test_settings_locked_too_long(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long to change a setting says so and changes nothing."""
    monkeypatch.setattr(settings, "PATIENCE", 0.05)

    with (home / "config.json.lock").open("a") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)

        with pytest.raises(Busy, match="locked"):
            settings.save_settings(str(home), {"name": "other"})

    assert load_settings(str(home))["name"] == "webscheduler"
    settings.save_settings(str(home), {"name": "other"})
    assert load_settings(str(home))["name"] == "other"


def test_an_edit_by_hand_is_seen(home: Path) -> None:
    """The stamp changes with every write and every edit, or what was read before would count on."""
    stamps = [index.identities(str(home))[0]]
    state.update(str(home), lambda tasks: tasks["counter"].update(n=1))
    stamps.append(index.identities(str(home))[0])
    text = (home / "state.json").read_text()
    (home / "state.json").write_text(text.replace('"n": 1', '"n": 2'))
    stamps.append(index.identities(str(home))[0])
    (home / "state.json").unlink()
    stamps.append(index.identities(str(home))[0])
    assert len(set(stamps)) == 4


KINDS = {"bool": "bool", "int": "int", "seconds": "int", "text": "str", "line": "str", "prose": "str", "choice": "str",
         "lines": "list[str]", "names": "list[str]", "networks": "list[str]",
         "map": "dict[str, str]", "notify": "dict[str, str]", "commands": "dict[str, CommandRow]"}


@pytest.mark.parametrize(("module", "table"), [("settings", SETTINGS), ("task", FIELDS)])
def test_the_type_checker_knows_the_table(module: str, table: dict[str, Field]) -> None:
    """Each setting and field that is never None has the type of its kind, and no other name has one."""
    tree = ast.parse((PACKAGE / "store" / f"{module}.py").read_text())
    known = {}

    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name == "__getitem__":
            kind, returned = function.args.args[1].annotation, function.returns
            assert kind
            assert returned
            known.update({node.value: ast.unparse(returned) for node in ast.walk(kind)
                          if isinstance(node, ast.Constant)})

    assert known == {name: KINDS[row.kind] for name, row in table.items() if not row.nullable}
