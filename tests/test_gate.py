# SPDX-License-Identifier: LGPL-3.0-or-later
"""The gate is held for milliseconds: what is done under it, and that neither a slow disk nor a crowd holds it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import LIBRARY, SCRIPT
from tests.commandline import call, environment
from tests.installation import Installation, answered, until
from tests.servers import KINDS, give, start, workplace
from tests.test_witnesses import OPTIONS, STRACE, Call, _calls, needs_strace, ready, script, traced
from webscheduler.store import files, history, locks
from webscheduler.times import format_time

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
FILES = ("state", "config", "capabilities")
CURRENT = ["pread64 home/locks/task.lock",
           *(f"{call} home/{file}.json" for file in FILES for call in ("open", "stat", "close"))]
LISTED = ["open home/runs", "stat home/runs", "getdents64 home/runs", "getdents64 home/runs", "close home/runs"]
TRIED = ["open home/runs/task@RUN", "flock home/runs/task@RUN", "stat home/runs/task@RUN", "stat home/runs/task@RUN"]
READ = ["stat home/runs/task@RUN", "pread64 home/runs/task@RUN"]
TAKEN_OVER = [*READ, "PROC", "stat home/runs/task@RUN", "write home/runs/task@RUN", "rename home/runs/task@RUN",
              "close home/runs/~task@RUN"]
CLAIMED = ["PROC", "open home/runs/task@RUN", "open home/runs/task@RUN", "flock home/runs/task@RUN",
           "stat home/runs/task@RUN", "write home/runs/task@RUN", "pwrite64 home/locks/task.lock"]
ALIVE = [*LISTED, *TRIED, *READ, "PROC", "close home/runs/task@RUN"]
# What a request does each time that it has the gate. PROC: any number of looks at processes.
GOLDEN = {
    "accepted": [[*CURRENT, *LISTED, *CLAIMED]],
    "locked": [[*CURRENT, *ALIVE, "pwrite64 home/locks/task.lock"]],
    "dead": [[*CURRENT, *LISTED, *TRIED, "close home/runs/task@RUN"],
             ["pread64 home/locks/task.lock", *LISTED, *TRIED, *TAKEN_OVER], [*CURRENT, *LISTED, *CLAIMED]],
}  # fmt: skip


def under_gate(calls: Sequence[Call], name: str = "task") -> list[list[Call]]:
    """The calls between the lock and the unlock of a task's gate, each time that it is held."""
    gate, found, held = f"home/locks/{name}.lock", [], False

    for each in calls:
        if (each.name, each.about) == ("flock", gate) and not each.error:
            held = not held

            if held:
                found.append([])
                continue

        if held:
            found[-1].append(each)

    assert not held
    return found


def dead(installation: Installation, name: str = "task", **facts: Any) -> str:
    """Leave the claim of a run whose supervisor was killed; the id of the run."""
    run = locks.new_run(time.time() - 60)
    gone = {"run": run, "name": name, "startedAt": format_time(time.time() - 60), "starter": [2**22, 1],
            "supervisor": [2**22, 1], "place": locks.place(), **facts}  # fmt: skip
    (installation.home / "runs" / f"{name}@{run}").write_bytes(locks.line(gone))
    return run


def plain(calls: Sequence[Call]) -> list[str]:
    """The calls as GOLDEN writes them."""
    found: list[str] = []

    for each in calls:
        if each.about.startswith("/proc") or each.name in ("getpid", "getrandom"):
            found += ["PROC"] if found[-1:] != ["PROC"] else []
        else:
            found.append(f"{each.name} {each.about}")

    return found


@pytest.mark.parametrize("what", GOLDEN)
def test_what_a_trigger_does_under_the_gate(installation: Installation, what: str) -> None:
    """This, and nothing else: no import, no fsync, nothing of history or state."""
    needs_strace()
    installation.add(argv=["/bin/true"])
    installation.configure(defaultTimeout=300)
    (installation.home / "capabilities.json").write_text("{}")
    ready(installation)

    if what == "dead":
        dead(installation)
    elif what == "locked":
        assert call(installation.home, "edit", "task", "--", "sleep", "600").status == 0  # it makes an index
        installation.trigger("cgi")
        installation.command_runs()

    calls = asked(installation) if what == "locked" else traced(installation, installation.signed())[0]
    found = [plain(held) for held in under_gate(calls)]
    assert found == GOLDEN[what], json.dumps(found, indent=1)


def asked(installation: Installation) -> list[Call]:
    """The calls of a request that leaves no process, while others live."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(STRACE), *OPTIONS, "-o", f"{folder}/of", sys.executable, "-I", "-S"]

        with installation.start_cgi(installation.signed(), words=words, script=script(installation)) as process:
            assert answered(process).document["reason"] == "locked"

        file, = Path(folder).iterdir()
        return _calls(file.read_text("utf-8", "replace"), installation)


def test_what_a_tick_does_under_each_gate(installation: Installation) -> None:
    """A tick that finds dead runs, and starts tasks, imports, syncs and records nothing under any of their gates."""
    needs_strace()
    names = ["task", "other", "third"]

    for name in names:
        installation.add(name, argv=["/bin/true"], expression="* * * * *", createdAt=format_time(time.time() - 3600))
        dead(installation, name)

    with tempfile.TemporaryDirectory() as folder:
        words = [str(STRACE), *OPTIONS, "-o", f"{folder}/of", sys.executable, "-m", "webscheduler", "run-due"]
        subprocess.run(words, env=environment(installation.home), check=True, capture_output=True, cwd=LIBRARY)
        calls = [_calls(file.read_text("utf-8", "replace"), installation) for file in Path(folder).iterdir()]

    for name in names:
        held = [each for of_process in calls for times in under_gate(of_process, name) for each in times]
        assert any(each.name == "rename" and each.about == f"home/runs/{name}@RUN" for each in held)
        assert not [str(each) for each in held if each.about.startswith(("package", "library", "python", "home/logs"))]
        assert not [str(each) for each in held if each.name in ("fsync", "fdatasync")]
        assert {each.about.rpartition("@")[0] or each.about for each in held if "write" in each.name} == {
            f"home/runs/{name}", f"home/locks/{name}.lock"}
        assert sorted(line["status"] for line in installation.runs(name)) == ["interrupted", "success"]

    assert installation.claims() == []


def test_a_slow_disk_delays_nobody_else(installation: Installation) -> None:
    """While one request waits for the disk, to record a dead run, others of the same task are answered: none with 503,
    and each accepted run is recorded once."""
    needs_strace()
    installation.add(argv=["/bin/true"], preventOverlap=False)
    ready(installation)
    run = dead(installation)
    before = len(installation.runs())
    words = [str(STRACE), "-o", os.devnull, "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=600000000",
             sys.executable, "-I", "-S"]  # fmt: skip

    with installation.start_cgi(installation.signed(), words=words, script=script(installation)) as slow:
        try:
            until(lambda: [claim.name for claim in installation.claims()] == [f"~task@{run}"], "the taking over")
            answers = [installation.trigger(door) for door in ("cgi", "wsgi") * 4]
            assert slow.poll() is None
            assert [answer.document["status"] for answer in answers] == ["running"] * 8
        finally:
            child, = Path(f"/proc/{slow.pid}/task/{slow.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGKILL)  # it waits for ten minutes
            slow.kill()

    installation.trigger("cgi")  # finds what it left
    installation.idle()
    entries = installation.runs()
    assert len({entry["run"] for entry in entries}) == len(entries) == before + 1 + 8 + 1
    assert [entry["status"] for entry in entries if entry["run"] == run] == ["interrupted"]
    assert installation.claims() == []


def test_a_run_that_was_taken_over_is_shown_and_finished(installation: Installation) -> None:
    """Who took a dead run over may be killed before it is recorded: readers say how it ended, and whoever comes next
    records it, once: the next trigger, a tick, the command line."""
    installation.configure(baseUrl="https://example.org/cron")

    for number, by in enumerate((lambda: installation.trigger("cgi"), lambda: call(installation.home, "run-due"),
                                 lambda: call(installation.home, "run", "task"),
                                 lambda: call(installation.home, "doctor", "--offline"))):
        if not number:
            installation.add(argv=["/bin/true"])

        run = dead(installation)
        claim = installation.home / "runs" / f"task@{run}"
        claim.rename(claim.with_name(f"~{claim.name}"))
        assert "running" not in call(installation.home, "list").out
        assert json.loads(call(installation.home, "status", "--json").out)["running"] == []
        by()
        installation.idle()
        assert [line["status"] for line in installation.runs() if line["run"] == run] == ["interrupted"]
        assert installation.claims() == []


def test_a_history_that_is_locked_refuses_nobody(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for its disk with a history locked keeps a dead run from being recorded, but no request."""
    monkeypatch.setattr(history, "PATIENCE", 0.2)
    installation.add(argv=["/bin/true"], preventOverlap=False)
    first, second = dead(installation), dead(installation)
    descriptor = files.open_locked(history.path(str(installation.home), "task"), 1)

    try:
        answer = installation.trigger("wsgi")
        assert (answer.status, answer.document["status"]) == (202, "running")
        left = {claim.name for claim in installation.claims()}
        assert {f"~task@{first}", f"~task@{second}"} <= left
    finally:
        os.close(descriptor)

    installation.idle()
    installation.trigger("wsgi")
    installation.idle()
    assert sorted(line["run"] for line in installation.runs())[:2] == sorted([first, second])
    assert len(installation.runs()) == 4
    assert installation.claims() == []


def test_rename_and_remove_wait_for_what_is_being_recorded(installation: Installation) -> None:
    """The line of a run that was taken over goes with its task."""
    installation.add(argv=["/bin/true"])
    run = dead(installation)
    claim = installation.home / "runs" / f"task@{run}"
    claim.rename(claim.with_name(f"~{claim.name}"))
    assert call(installation.home, "rename", "task", "renamed").status == 0
    assert [line["run"] for line in installation.runs("renamed")] == [run]
    assert installation.claims() == []


def test_a_crowd_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """Thirty clients of a real Apache call twenty tasks, each as soon as it is answered: nobody gets 503, and each run
    that was accepted is recorded once."""
    kind, seconds = KINDS["apache-cgid"], 60 if FULL else 3

    with workplace(kind) as directory:
        installation = Installation(directory / "home")
        names = [f"task-{number}" for number in range(20)]

        for name in names:
            installation.add(name, argv=["/bin/true"])

        give(installation.home, kind.user)

        with start(kind, directory, SCRIPT, env={"WEBSCHEDULER_HOME": str(installation.home)}) as server:
            urls = [f"{server.url}/run/{installation.row(name)['slug']}?sig={installation.signature(name)}"
                    for name in names]  # fmt: skip
            end = time.monotonic() + seconds

            def client(number: int) -> list[tuple[int, dict[str, Any]]]:
                choose, found = random.Random(number), []

                while time.monotonic() < end:
                    try:
                        with urllib.request.urlopen(choose.choice(urls), timeout=120) as answer:
                            found.append((answer.status, json.loads(answer.read())))
                    except urllib.error.HTTPError as error:
                        found.append((error.code, {}))

                return found

            with ThreadPoolExecutor(30) as pool:
                answers = [answer for found in pool.map(client, range(30)) for answer in found]

            installation.idle()

        statuses = Counter(status for status, _ in answers)
        accepted = sorted(document["run"] for _, document in answers if document.get("run"))
        recorded = sorted(line["run"] for name in names for line in installation.runs(name))

        with capsys.disabled():
            print(f"\n30 clients, {seconds} s: {len(answers)} answers {dict(statuses)}, {len(accepted)} accepted, "
                  f"{len(recorded)} recorded")

        assert set(statuses) == {202}
        assert recorded == accepted and len(set(accepted)) == len(accepted) > 0
        assert installation.claims() == []
