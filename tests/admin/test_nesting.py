# SPDX-License-Identifier: LGPL-3.0-or-later
"""JSON that is nested deeply: no door takes in what could be stored and then not be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser
from tests.admin.test_settings import restore
from tests.commandline import call
from tests.installation import Answer, Installation
from webscheduler.store.fields import MOST_DEPTH

SAID = f"it is nested deeper than {MOST_DEPTH} levels"


def nested(depth: int, kind: str = "list") -> Any:
    """A value of so many containers, one in the other."""
    value: Any = 1

    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}

    return value


def document(depth: int, kind: str = "list") -> str:
    """A document of this depth, with a task that has a field of a later version."""
    row = {"enabled": True, "command": "hello", "later": nested(depth - 3, kind)}
    return json.dumps({"format": "webscheduler tasks", "version": 1, "tasks": {"deep": row}})


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 950])
def test_what_is_nested_deeply_does_not_enter(
    owner: Browser, inhabited: Installation, tmp_path: Path, depth: int, kind: str
) -> None:
    """Neither as a backup, an import, a directory of another scheduler, nor as the value of a setting or field."""
    inhabited.add()
    before = (inhabited.home / "state.json").read_bytes(), (inhabited.home / "config.json").read_bytes()
    assert SAID in restore(owner, document(depth, kind))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "state.json").write_text(document(depth, kind))

    for source in ("foreign/state.json", "foreign"):
        done = call(inhabited.home, "import", str(tmp_path / source))
        assert (done.status, SAID in done.complaint) == (2, True)

    for name in ("environment", "commands", "notify"):
        done = call(inhabited.home, "config", "set", name, json.dumps(nested(depth, kind)))
        assert (done.status, done.complaint.startswith(f"{name}: ")) == (2, True)

    assert ((inhabited.home / "state.json").read_bytes(), (inhabited.home / "config.json").read_bytes()) == before


def test_lines_of_history_that_nobody_could_read_stay_outside(installation: Installation, tmp_path: Path) -> None:
    """A line that is nested too deeply, or longer than any line may be, is not imported; the lines around it are."""
    (tmp_path / "state.json").write_text('{"task": {"command": "hello"}}')
    (tmp_path / "logs").mkdir()
    long = json.dumps({"command": "task", "run": "long", "output": "x" * 5 * 2 ** 20})
    lines = [json.dumps({"command": "task", "run": "first"}), json.dumps({"run": "deep", "later": nested(500)}), long,
             json.dumps({"command": "task", "run": "last"})]
    (tmp_path / "logs" / "task.jsonl").write_text("\n".join(lines))
    assert call(installation.home, "import", str(tmp_path)).status == 0
    assert [line["run"] for line in installation.history()] == ["first", "last"]


def test_such_lines_stay_outside_of_an_export_too(installation: Installation, tmp_path: Path) -> None:
    """Where the lines of a history stand in the document itself."""
    installation.add()
    text = call(installation.home, "export", "json", "--history").out
    lines = [json.dumps({"run": "first"}), "," + json.dumps({"run": "deep", "later": nested(500)}), ',{"run": "last"}']
    assert '"history": {\n' in text
    head = text.partition('"history": {\n')[0]
    (tmp_path / "export.json").write_text("\n".join([head + '"history": {', '"task": [', *lines, "]", "}}", ""]))
    other = Installation(tmp_path / "other")
    assert call(other.home, "import", "json", "--history", str(tmp_path / "export.json")).status == 0
    assert [line["run"] for line in other.history()] == ["first", "last"]


def test_what_has_entered_comes_out_and_in_again(installation: Installation, tmp_path: Path) -> None:
    """An export has the tasks of a state.json one level deeper."""
    rows = json.loads(document(MOST_DEPTH + 1))["tasks"]
    (tmp_path / "state.json").write_text(json.dumps(rows))
    assert SAID in call(installation.home, "import", str(tmp_path / "state.json")).complaint
    rows["deep"]["later"] = rows["deep"]["later"][0]
    (tmp_path / "state.json").write_text(json.dumps(rows))
    assert call(installation.home, "import", str(tmp_path / "state.json")).status == 0
    (tmp_path / "export.json").write_text(call(installation.home, "export", "json").out)
    other = Installation(tmp_path / "other")
    assert call(other.home, "import", str(tmp_path / "export.json")).status == 0


def deep(act: Callable[[], Answer], frames: int) -> Answer:
    """What `act` returns, called as deeply as a framework with many layers may be."""
    return deep(act, frames - 1) if frames else act()


def test_what_may_enter_can_be_read_by_a_site_that_embeds_us(installation: Installation, tmp_path: Path) -> None:
    """Its call of the application comes with hundreds of its own; here with no index, so that state.json is parsed."""
    (tmp_path / "tasks.json").write_text(document(MOST_DEPTH))
    assert call(installation.home, "import", str(tmp_path / "tasks.json")).status == 0
    (installation.home / "index").unlink(missing_ok=True)
    answer = deep(lambda: installation.wsgi(installation.signed("deep")), 600)
    assert answer.document["accepted"] is True
    installation.idle()
