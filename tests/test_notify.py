# SPDX-License-Identifier: LGPL-3.0-or-later
"""Notifications: what is told, once, of tasks that fail, recover and are late; and what waits until it can be sent."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import call
from tests.installation import Installation, until, waits_for
from tests.listeners import Hook, listening
from webscheduler.host import doctor
from webscheduler.runs import channels, notifications
from webscheduler.store import locks
from webscheduler.store.settings import CHANNELS, load_settings
from webscheduler.times import format_time

NOBODY = "http://127.0.0.1:9/"


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook on loopback."""
    with listening() as made:
        yield made


@pytest.fixture
def broken(installation: Installation) -> Path:
    """While this file is there, the task `job` fails."""
    file = installation.home.parent / "broken"
    installation.add("job", ["test", "!", "-e", str(file)])
    return file


def run(installation: Installation, name: str = "job") -> str:
    """Run a task now; how it ended."""
    done = call(installation.home, "run", name, "--json")
    status: str = done.document["status"]
    return status


def tick(installation: Installation) -> None:
    assert call(installation.home, "run-due").err == ""


def waiting(installation: Installation) -> list[dict[str, Any]]:
    """What notices.json keeps."""
    file = installation.home / "notices.json"
    found: list[dict[str, Any]] = json.loads(file.read_text())["waiting"] if file.exists() else []
    return found


def overdue(installation: Installation, name: str, **fields: Any) -> None:
    """A task that was due in 2020."""
    old = "2020-01-01T00:00:00+00:00"
    fields = {"argv": ["true"], "createdAt": old, "scheduledSince": old, "expression": "0 0 1 1 *", **fields}
    installation.add(name, **fields)


def test_once_when_it_fails_and_once_when_it_recovers(installation: Installation, broken: Path, hook: Hook) -> None:
    """Five runs, of which the second to fourth fail, make two notifications."""
    installation.configure(notify={"url": hook.url})

    for fails in (False, True, True, True, False):
        broken.touch() if fails else broken.unlink(missing_ok=True)
        assert run(installation) == ("failed" if fails else "success")

    assert [document["status"] for document in hook.documents] == ["failed", "success"]
    assert hook.texts == ["job ended as failed", "job has recovered"]
    assert waiting(installation) == []


def test_only_the_last_attempt_of_a_slot_tells(installation: Installation, broken: Path, hook: Hook) -> None:
    """But what is interrupted is not tried again."""
    installation.configure(notify={"url": hook.url})
    installation.edit("job", retries=1)
    broken.touch()
    run(installation)
    assert hook.calls == []
    installation.add("killed", ["sh", "-c", "kill -TERM $PPID; sleep 9"], retries=1)
    assert run(installation, "killed") == "interrupted"
    assert hook.texts == ["killed ended as interrupted"]


def test_what_cannot_be_sent_is_kept(installation: Installation, broken: Path) -> None:
    """It goes with the next run, also of another task, or the next tick; status, doctor and JSON say since when nothing
    arrives, and what to do."""
    installation.configure(notify={"url": NOBODY})
    other = installation.add("other")
    broken.touch()
    before = time.time()
    assert run(installation) == "failed"
    (kept,) = waiting(installation)
    assert (kept["to"], kept["subject"]) == (["url"], "job ended as failed")
    found = notifications.failing(load_settings(str(installation.home)))["url"]
    assert format_time(before) <= found["since"] <= format_time(time.time())
    said = "nothing has arrived by url since "
    told = next(line for line in call(installation.home, "status").out.splitlines() if said in line)
    assert "Connection refused), and 1 notifications are kept: correct that, then `webscheduler notify test`" in told
    assert said in call(installation.home, "doctor", "--offline").out
    broken.unlink()
    run(installation)
    assert [each["subject"] for each in waiting(installation)] == ["job ended as failed", "job has recovered"]
    assert notifications.failing(load_settings(str(installation.home)))["url"] == {**found, "kept": 2}

    with listening() as hook:
        installation.configure(notify={"url": hook.url})
        run(installation, other)
        assert hook.texts == ["job ended as failed", "job has recovered"]

    assert waiting(installation) == []
    assert said not in call(installation.home, "status").out
    installation.configure(notify={"url": NOBODY})
    broken.touch()
    run(installation)

    with listening() as hook:
        installation.configure(notify={"url": hook.url})
        tick(installation)
        assert hook.texts == ["job ended as failed"]


def test_at_most_a_hundred_are_kept(installation: Installation) -> None:
    """The newest; and each with the end of its output alone."""
    settings = load_settings(str(installation.home))
    settings["notify"] = {"url": NOBODY}

    def add(notices: Any) -> None:
        for number in range(130):
            notifications._add(settings, notices, ["url"], str(number), {"output": "x" * 60000}, 0.0)

    notifications.update(settings.home, add)
    assert [each["subject"] for each in waiting(installation)] == [str(number) for number in range(30, 130)]
    assert (installation.home / "notices.json").stat().st_size < 300000
    assert (installation.home / "notices.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_begun_anew(installation: Installation, broken: Path, hook: Hook) -> None:
    """It is no reason to tell nothing."""
    installation.configure(notify={"url": hook.url})
    broken.touch()

    for text in ("{", "[]", '{"waiting": [1], "told": {}, "failing": {}}', '{"waiting": [{"to": 1}]}', '{"told": 1}'):
        (installation.home / "notices.json").write_text(text)
        del hook.calls[:]
        run(installation)
        assert hook.texts == ["job ended as failed"], text


def test_notify_that_is_set_while_a_task_fails(installation: Installation, broken: Path, hook: Hook) -> None:
    """The next failure or tick tells of it, once; so does a second channel, which gets no less than the first."""
    broken.touch()
    run(installation)
    installation.configure(notify={"url": hook.url})
    run(installation)
    run(installation)
    tick(installation)
    assert hook.texts == ["job ended as failed"]
    installation.add("two", ["false"])
    installation.configure(notify={})
    run(installation, "two")
    installation.configure(notify={"url": hook.url})
    tick(installation)
    tick(installation)
    assert hook.texts == ["job ended as failed", "two ended as failed"]
    assert hook.documents[1]["exitCode"] == 1
    broken.unlink()
    run(installation)
    assert hook.texts[2:] == ["job has recovered"]
    assert call(installation.home, "rename", "two", "three").status == 0
    tick(installation)
    assert len(hook.calls) == 3


def test_a_run_whose_supervisor_was_killed_is_told_of(installation: Installation, hook: Hook) -> None:
    """By the tick that records it."""
    installation.configure(notify={"url": hook.url})
    installation.add("job", waits_for(installation.home / "never"))
    installation.trigger(name="job")
    facts = installation.command_runs()
    os.kill(facts["supervisor"][0], signal.SIGKILL)
    os.killpg(facts["command"][0], signal.SIGKILL)
    until(lambda: not locks.alive(facts["command"]) and not locks.alive(facts["supervisor"]))
    tick(installation)
    assert hook.texts == ["job ended as interrupted"]


def test_a_task_with_notify_false_is_never_told_of(installation: Installation, hook: Hook) -> None:
    """Neither its failure, nor that it has recovered, nor that it comes late; the same tick tells of another."""
    installation.configure(notify={"url": hook.url})
    file = installation.home.parent / "broken"

    for name, told in (("quiet", False), ("heard", True)):
        overdue(installation, name, argv=["test", "!", "-e", str(file)], notify=told)

    tick(installation)
    assert [(document["text"], document["late"]) for document in hook.documents] == [
        ("[webscheduler] late tasks: 1, the first is heard", "heard")]
    del hook.calls[:]

    for fails in (True, False):
        file.touch() if fails else file.unlink()
        run(installation, "quiet"), run(installation, "heard")

    assert hook.texts == ["heard ended as failed", "heard has recovered"]


def test_late_is_told_once_and_never_of_what_waits_or_runs(installation: Installation, hook: Hook) -> None:
    """No tick came for long: that is told by the first that comes. What waits for a place, or still runs, is not late,
    however many ticks see it."""
    installation.configure(notify={"url": hook.url}, maxConcurrentTasks=1, tickBudgetSeconds=1)
    release = installation.home / "release"
    overdue(installation, "first", argv=waits_for(release), priority=1)
    overdue(installation, "second", priority=2)
    assert call(installation.home, "run-due", "--no-wait").status == 0
    assert [document["late"] for document in hook.documents] == ["first"]
    # The run goes on, and by now its next slot is past as well.
    old = "2020-01-01T00:00:00+00:00"
    (claim,) = installation.claims()
    claim.write_text(claim.read_text() + json.dumps({"startedAt": old}) + "\n")
    installation.edit("first", expression="* * * * *", lastRunAt=old)

    for _ in range(2):
        call(installation.home, "run-due", "--no-wait")

    assert len(hook.calls) == 1
    (installation.home / "logs" / "_due.jsonl").unlink()  # as if no tick had ever come
    call(installation.home, "run-due", "--no-wait")
    assert len(hook.calls) == 1
    release.touch()
    installation.idle()
    tick(installation)
    assert len(hook.calls) == 1


def test_a_send_delays_neither_record_nor_claim(installation: Installation, broken: Path, hook: Hook) -> None:
    """While the other side does not answer, the run is in history, its claim is gone, and the task can run again."""
    installation.configure(notify={"url": hook.url})
    hook.answers.clear()
    broken.touch()
    assert installation.trigger(name="job").document["accepted"]
    until(lambda: installation.runs("job"), "the line of history")
    installation.idle()
    assert installation.trigger(name="job").document["status"] != "skipped"
    installation.idle()
    assert hook.calls == []
    hook.answers.set()
    until(lambda: hook.texts == ["job ended as failed"])
    until(lambda: not waiting(installation))


def test_many_who_send_at_the_same_time_send_each_once(installation: Installation, hook: Hook) -> None:
    """Whoever sends takes along what the others add meanwhile."""
    installation.configure(notify={"url": hook.url})
    hook.wait = 0.05
    names = [installation.add(f"job-{number}", ["false"]) for number in range(8)]

    for name in names:
        assert installation.trigger("wsgi", name).document["accepted"]

    until(lambda: len(hook.calls) >= len(names) and not waiting(installation), "what was to be sent")
    installation.idle()
    assert sorted(hook.texts) == [f"{name} ended as failed" for name in names]


def test_on_a_full_disk_nothing_is_sent_twice(installation: Installation, hook: Hook, monkeypatch: Any) -> None:
    """What could not be taken out of the file after it was sent would be sent with every run."""
    home = str(installation.home)
    installation.configure(notify={"url": hook.url})
    settings = load_settings(home)
    notifications.update(home, lambda notices: notifications._add(settings, notices, ["url"], "x", {}, 0.0))
    (installation.home / "notices.json.lock").unlink()
    (installation.home / "notices.json.lock").mkdir()  # no write of the file can begin

    for _ in range(2):
        with pytest.raises(OSError, match="Is a directory"):
            notifications.deliver(settings, time.time)

    assert hook.calls == []
    (installation.home / "notices.json.lock").rmdir()
    notifications.deliver(settings, time.time)
    assert hook.texts == ["x"]


def test_an_unknown_channel(installation: Installation, broken: Path, hook: Hook) -> None:
    """Of a later version, after a downgrade: it loads, the others are told, doctor says it, and it is kept."""
    installation.configure(notify={"pigeon": {"loft": 5}, "url": hook.url})
    broken.touch()
    assert run(installation) == "failed"
    assert hook.texts == ["job ended as failed"]
    found = [each.text() for each in doctor.of_tasks(load_settings(str(installation.home)), {}, time.time())]
    assert any("knows no channel pigeon" in text for text in found)
    assert call(installation.home, "config", "set", "name", "Shop").status == 0
    assert load_settings(str(installation.home))["notify"]["pigeon"] == {"loft": 5}
    done = call(installation.home, "config", "set", "notify", '{"pigeon": "x"}')
    assert (done.status, done.complaint) == (2, "notify: no channel is named 'pigeon': there are email, url")


def test_every_channel_has_a_sender() -> None:
    """Who adds a channel to the settings cannot forget to send to it."""
    assert set(channels.SENDERS) == set(CHANNELS)
