# SPDX-License-Identifier: LGPL-3.0-or-later
"""A timed URL is accepted once: not again after the clock was set back, a rename, a removal, a restored state.json."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.commandline import call
from tests.installation import Installation
from webscheduler import trigger
from webscheduler.http import Request, Response
from webscheduler.store import locks, marks, state


def at(installation: Installation, environ: dict[str, str], seconds: float) -> Response:
    """Answer the request as if it were so many seconds from now."""
    found = trigger.answer(Request(dict(environ)), str(installation.home), False, lambda: time.time() + seconds, print)
    installation.idle()
    return found


def accepted(response: Response) -> bool:
    assert response.status == 202, response.body
    return response.body != trigger.REFUSED


def timed(installation: Installation, name: str = "task", ago: int = 0) -> dict[str, str]:
    return installation.signed(name, ts=int(time.time()) - ago)


@pytest.fixture
def task(installation: Installation) -> Installation:
    installation.add(signature="timed")
    return installation


def test_not_again_after_the_clock_was_set_back(task: Installation) -> None:
    """Two URLs are used, ten minutes apart by the clock. When it is set back to the first, neither is accepted."""
    first, second = timed(task, ago=600), timed(task)
    assert accepted(at(task, first, -600))
    assert accepted(at(task, second, 0))
    assert not accepted(at(task, first, -600))
    assert not accepted(at(task, timed(task, ago=500), -500))
    later = task.signed(ts=int(time.time()) + 5)
    assert accepted(at(task, later, 5))


@pytest.mark.parametrize("change", ["rename", "rename and back", "remove and restore", "restore",
                                    "rename to one that was removed"])
def test_not_again_under_another_name_or_from_an_older_copy(task: Installation, change: str) -> None:
    """The mark belongs to what the URL names, not to what the task is called."""
    file, home = task.home / "state.json", task.home
    before = file.read_bytes()
    environ, name = timed(task), "task"
    assert accepted(at(task, environ, 0))

    if change == "rename":
        name = "new"
        assert call(home, "rename", "task", name).status == 0
    elif change == "rename and back":
        assert call(home, "rename", "task", "new").status == call(home, "rename", "new", "task").status == 0
    elif change == "remove and restore":
        assert call(home, "remove", "task", "--yes").status == 0
        file.write_bytes(before)
    elif change == "restore":
        file.write_bytes(before)
    else:
        name = "other"
        task.add(name)
        assert call(home, "remove", name, "--yes").status == call(home, "rename", "task", name).status == 0

    assert not accepted(at(task, environ, 0))
    assert accepted(at(task, task.signed(name, ts=int(time.time()) + 1), 1))


def test_a_task_of_the_same_name_begins_anew(task: Installation) -> None:
    """Another slug, another mark: what was used with the one before says nothing of this one."""
    assert accepted(at(task, task.signed(ts=int(time.time()) + 200), 0))
    assert call(task.home, "remove", "task", "--yes").status == 0
    task.add(signature="timed")
    assert accepted(at(task, timed(task), 0))


def test_a_clock_that_was_ahead_is_said_and_ended(task: Installation) -> None:
    """What was accepted years ahead is a mark for as long: the refusal and doctor say so, and a new secret ends it."""
    years = 3 * 365 * 86400
    assert accepted(at(task, task.signed(ts=int(time.time()) + years), years))
    assert not accepted(at(task, timed(task), 0))
    assert "ahead of this clock" in (task.home / "refused.json").read_text()
    assert "rotate-secret task" in call(task.home, "doctor", "--offline").out
    assert call(task.home, "rotate-secret", "task").status == 0
    assert accepted(at(task, timed(task), 0))
    assert "rotate-secret task" not in call(task.home, "doctor", "--offline").out


def test_eight_secrets_have_their_marks(task: Installation) -> None:
    """A secret that comes back, with a copy of state.json, comes back with its mark."""
    row = task.row()
    used = []

    for number in range(marks.MOST):
        task.edit(secret=f"{number:064x}")
        used.append((task.row()["secret"], timed(task)))
        assert accepted(at(task, used[-1][1], 0))

    for secret, environ in used:
        task.edit(secret=secret)
        assert not accepted(at(task, environ, 0))

    file = task.home / "locks" / f"{row['slug']}.ts"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size == marks.SIZE
    assert not [secret for secret, _ in used if secret in file.read_text()]


def test_what_an_older_version_noted_counts(task: Installation) -> None:
    """Without a mark, that in the record of the gate is believed."""
    environ = timed(task, ago=100)
    with locks.Gate(str(task.home), "task") as gate:
        gate.last_ts = int(time.time()) - 50
        gate.save()
    assert not accepted(at(task, environ, 0))
    assert accepted(at(task, timed(task), 0))


@pytest.mark.parametrize("content", [b"\0" * 512, b"x y z\n1\n" + b"f" * 500, b"\xff" * 512])
def test_a_damaged_mark(task: Installation, content: bytes) -> None:
    """It neither stops the task nor raises; the record of the gate still counts."""
    environ = timed(task)
    assert accepted(at(task, environ, 0))
    Path(task.home, "locks", f"{task.row()['slug']}.ts").write_bytes(content)
    assert not accepted(at(task, environ, 0))
    assert accepted(at(task, task.signed(ts=int(time.time()) + 1), 1))


def test_a_mark_that_cannot_be_written_starts_nothing(task: Installation) -> None:
    """Else the same URL would start it again."""
    Path(task.home, "locks", f"{task.row()['slug']}.ts").mkdir()
    assert at(task, timed(task), 0).status == 503
    assert task.claims() == [] and task.runs() == []
    assert state.read(str(task.home))["task"]["lastRunAt"] is None
