# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the two PHP modules that do this job get wrong, each as a fact of ours. Where a fault has many sides, other
tests show them all; these are the short form, under the number that the fault has in the list of them.

11 (a button in a nested form, which browsers drop) is in tests/admin, 15 (another's line of the crontab) in
test_crontab.py.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.installation import DOORS, PATIENCE, REFUSED, Installation, asking, until, waits_for
from webscheduler import editing, signing
from webscheduler.commands import registry
from webscheduler.errors import BadInput
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.schedule.describe import describe, render
from webscheduler.store import history, history_cleaning, history_reading
from webscheduler.store.settings import load_settings
from webscheduler.times import parse_time

HOUR = "2026-03-10T{}+00:00"


def locked(installation: Installation, door: str) -> bool:
    return bool(installation.trigger(door).document.get("reason") == "locked")


@pytest.mark.parametrize("door", DOORS)
def test_1_a_detached_run_keeps_its_lock(installation: Installation, door: str) -> None:
    """The task is locked for as long as its command runs, not for as long as the request that started it."""
    go_on = installation.home / "go-on"
    installation.add(argv=waits_for(go_on))
    assert installation.trigger(door).document["detached"] is True
    installation.command_runs()
    assert locked(installation, door)
    go_on.touch()
    installation.idle()
    assert not locked(installation, door)


def test_2_two_calls_at_once_do_not_both_pass_the_rate_limit(installation: Installation) -> None:
    """Of two simultaneous calls of a task with a least interval one runs, also where overlap is allowed."""
    installation.add(minIntervalSeconds=60, preventOverlap=False)
    processes = [installation.start_cgi(installation.signed()) for _ in range(2)]
    bodies = []

    for process in processes:
        with process:
            bodies.append(process.communicate()[0].partition(b"\r\n\r\n")[2])

    assert sorted(body == REFUSED for body in bodies) == [False, True]
    installation.idle()
    assert len(installation.runs()) == 1


def test_3_a_detached_run_has_limits(installation: Installation) -> None:
    """A detached command that prints for ever is ended by its time limit, and its output file stays small meanwhile."""
    installation.add(argv=["yes"], timeout=3)
    live = installation.home / "output" / f"{installation.trigger('wsgi').document['run']}.log"
    until(lambda: live.exists() and live.read_bytes().startswith(b"... [earlier"))
    sizes = [live.stat().st_size for _ in range(100)]
    installation.idle()
    assert max(sizes) <= 1024**2
    assert [line["status"] for line in installation.runs()] == ["timeout"]


def test_4_who_is_answered_first_gets_an_answer(installation: Installation) -> None:
    """`close` under CGI sends its whole response, and ends it, before the command has run."""
    go_on = installation.home / "go-on"
    installation.add(argv=waits_for(go_on), strategy="close")

    with installation.start_cgi(installation.signed(SERVER_SOFTWARE="nginx/1.22.1")) as process:
        assert process.stdout is not None
        head, _, body = process.stdout.read().partition(b"\r\n\r\n")  # to its end
        assert json.loads(body)["strategy"] == "close"
        assert f"Content-Length: {len(body)}".encode() in head
        assert process.poll() is None
        assert installation.runs() == []
        go_on.touch()

    assert [line["status"] for line in installation.runs()] == ["success"]


def test_5_a_skip_does_not_end_running(installation: Installation) -> None:
    """A skip leaves `running` in state, so the next call is skipped, too."""
    go_on = installation.home / "go-on"
    installation.add(argv=waits_for(go_on))
    installation.trigger("wsgi")
    until(lambda: installation.row()["lastRunStatus"] == "running")

    for _ in range(3):
        assert locked(installation, "wsgi")
        assert installation.row()["lastRunStatus"] == "running"

    go_on.touch()
    installation.idle()
    assert len(installation.runs()) == 1


def test_6_a_tick_every_quarter_of_an_hour_runs_7_3(installation: Installation) -> None:
    """`7 3 * * *` runs at the first tick after 03:07, once, though no tick ever comes at that minute."""
    installation.add(expression="7 3 * * *", createdAt=HOUR.format("00:00:00"))

    def tick(clock: str) -> list[str]:
        now = parse_time(HOUR.format(clock))
        assert run_by_hand(str(installation.home), "@due", "cli", lambda: now)
        installation.idle()
        return [line["scheduledFor"] for line in installation.runs()]

    assert tick("02:45:00") == []
    assert tick("03:00:00") == []
    assert tick("03:15:00") == ["2026-03-10T03:07:00.000+00:00"]
    assert tick("03:30:00") == ["2026-03-10T03:07:00.000+00:00"]


@pytest.mark.parametrize("timeout", [0, 3600])
def test_7_a_killed_run_is_over(installation: Installation, timeout: int) -> None:
    """Killed altogether, a run is over at the next call, whatever its time limit; and without one it locks its task."""
    installation.add(argv=["sleep", "600"], timeout=timeout)
    installation.trigger("wsgi")
    installation.command_runs()
    assert locked(installation, "wsgi")
    installation.end()
    assert installation.trigger("wsgi").document["status"] == "running"
    assert [line["status"] for line in installation.runs()] == ["interrupted"]


def test_8_clean_up_and_listing_of_history(installation: Installation) -> None:
    """Who waited while clean-up replaced the file, writes to the new one; and a listing reads no more than it shows."""
    home = str(installation.home)
    file = Path(history.path(home, "task"))
    history.append(home, "task", {"run": "old"})
    inode = file.stat().st_ino
    program = ("import sys; from webscheduler.store import history; "
               "history.append(sys.argv[1], 'task', {'run': 'waited'})")
    waiting: list[subprocess.Popen[bytes]] = []

    def keep(entry: dict[str, Any]) -> bool:
        if not waiting:
            waiting.append(subprocess.Popen([sys.executable, "-c", program, home]))
            descriptors = Path(f"/proc/{waiting[0].pid}/fd")
            until(lambda: str(file) in [os.path.realpath(one) for one in descriptors.iterdir()])

        return bool(entry["run"] != "old")

    assert history_cleaning.clean(home, "task", keep) == 1
    assert waiting[0].wait(PATIENCE) == 0
    assert file.stat().st_ino != inode
    assert [entry["run"] for entry in history_reading.entries(home, "task")] == ["waited"]

    with open(file, "ab") as end:
        end.truncate(1024**3)  # sparse
        end.write(b"\n")

    history.append(home, "task", {"run": "last"})
    before = Path("/proc/self/io").read_text()
    assert next(history_reading.entries(home, "task"))["run"] == "last"
    read = [int(text.partition("rchar:")[2].split()[0]) for text in (before, Path("/proc/self/io").read_text())]
    assert read[1] - read[0] < 200 * 1024


def test_9_names_arguments_and_time_limits(installation: Installation) -> None:
    """Names that would share files cannot both be; arguments are split like a shell's; a timeout is called so."""
    settings = load_settings(str(installation.home))
    editing.create(settings, "app:a", {"argv": ["true"]}, time.time())

    with pytest.raises(BadInput):
        editing.create(settings, "app_a", {"argv": ["true"]}, time.time())

    command = registry.Command("c", "setting", ["c"], True)
    text = """one 'two three' "four \\"five" si\\ x '' $HOME"""
    assert registry.arguments(command, text) == shlex.split(text)
    assert registry.arguments(command, text) == ["one", "two three", 'four "five', "si x", "", "$HOME"]
    installation.add(argv=["sleep", "600"], timeout=1, strategy="sync")
    assert installation.trigger("wsgi").document["status"] == "timeout"


def test_10_an_unknown_slug_costs_an_hmac(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work for a slug that nobody has is the same as for one that somebody has: an HMAC for its secret, and one for
    the secret before that."""
    installation.add()
    calls: list[tuple[str, str]] = []
    sign = signing.sign

    def counted(secret: str, message: str) -> str:
        calls.append((secret, message))
        return sign(secret, message)

    slugs = [installation.row()["slug"], "ab" * 16]
    monkeypatch.setattr(signing, "sign", counted)

    for slug in slugs:
        assert installation.wsgi(asking(f"/run/{slug}", "sig=" + "0" * 64)).refused

    assert [(len(secret), message) for secret, message in calls] == [(64, slug) for slug in slugs for _ in range(2)]


@pytest.mark.parametrize("door", DOORS)
def test_12_rejections_are_recorded_and_nothing_reveals_a_secret(installation: Installation, door: str) -> None:
    """A rejected call leaves a line; and no parameter of any URL makes an answer tell a secret."""
    installation.add(ipAllowlist=["203.0.113.1"])
    row = installation.row()
    assert installation.trigger(door).refused
    assert [(line["status"], line["reason"], line["ip"]) for line in installation.history()] == [
        ("rejected", "ip_denied", "192.0.2.1")]  # fmt: skip
    installation.edit(ipAllowlist=[])

    for environ in (installation.signed(), installation.asking_status()):
        query = environ["QUERY_STRING"] + "&secret=1&reveal=1&show_secret=1&debug=1"
        answer = installation.call(door, {**environ, "QUERY_STRING": query})
        assert row["secret"] not in answer.body.decode() + str(answer.headers) + answer.errors

    installation.idle()
    task = editing.with_keys(str(installation.home), "task")
    public = json.dumps(editing.public(load_settings(str(installation.home)), task, time.time()))
    assert row["secret"] not in public
    assert row["secret"] not in "".join(file.read_text() for file in (installation.home / "logs").iterdir())


def test_13_a_run_by_hand_keeps_the_arguments(installation: Installation) -> None:
    """A run by hand gets the task's arguments; and a schedule that is cleared has no next run."""
    installation.configure(commands={"say": {"argv": [sys.executable, "-c", "import sys; print(sys.argv[1:])"],
                                             "arguments": True}})  # fmt: skip
    installation.add(argv=["true"])
    installation.edit(argv=None, command="say", arguments="one 'two three'", expression="0 3 * * *")
    line = run_by_hand(str(installation.home), "task", "cli", time.time)
    assert line is not None
    assert line["output"] == "['one', 'two three']\n"
    assert installation.row()["nextRunAt"] is not None
    editing.edit(load_settings(str(installation.home)), "task", {"expression": None}, time.time())
    assert installation.row()["nextRunAt"] is None


@pytest.mark.parametrize(
    ("schedule", "not_in_words"),
    [((None, 5400), ["2 hours", "every hour", "1 hour."]), (("0 9 * * 1-5", None), ["Weekly on Mon"])],
)
def test_14_schedules_in_words(schedule: tuple[str | None, int | None], not_in_words: list[str]) -> None:
    """90 minutes are neither one hour nor two, and Monday to Friday is not Monday."""
    message, values = describe(*schedule)
    said = render(message, values, str)
    assert not [wrong for wrong in not_in_words if wrong.lower() in said.lower()]
    assert any(right in said for right in ("90 minutes", "Weekdays"))
