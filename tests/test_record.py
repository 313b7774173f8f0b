# SPDX-License-Identifier: LGPL-3.0-or-later
"""What became of a run is recorded once and truly, whatever happens between its steps."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import LIBRARY
from tests.commandline import call, environment
from tests.installation import DOORS, Installation, answered, until, waits_for
from webscheduler.runs import cancel
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import history, history_reading, processes, state
from webscheduler.times import format_time

# The command fails, so that a record made up later would differ from the true one.
FAILING = ["sh", "-c", "echo out; echo err >&2; exit 3"]
KILLED = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from webscheduler.runs import dead_runs, recorder
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import history, history_reading, locks, processes, state
module, function = eval(sys.argv[3])
real = getattr(module, function)
calls = 0

def step(*arguments, **named):
    global calls
    calls += 1
    if calls == int(sys.argv[4]) and sys.argv[5] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **named)
    if calls == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(module, function, step)
run_by_hand(sys.argv[2], "task", "cli", time.time)
"""
GOES_ON = """
import sys, time
sys.path.insert(0, sys.argv[1])
from webscheduler.runs.by_hand import run_by_hand
run_by_hand(sys.argv[2], "task", "cli", time.time)
print("went on")
"""
# Each step of a record, and which of its calls: the outcome into the claim comes after supervisor, state and limits.
STEPS = {
    "the outcome": ('(recorder, "entry_of")', 1),
    "history": ("(history, 'append')", 1),
    "state": ("(state, 'update_row')", 1),
    "the claim's removal": ("(locks.Claim, 'remove')", 1),
    "the lock's release": ("(locks.Claim, 'release')", 1),
}


def run(installation: Installation, **fields: Any) -> dict[str, Any]:
    if fields:
        installation.edit(**fields)
    line = run_by_hand(str(installation.home), "task", "cli", time.time)
    assert line is not None
    return line


def test_a_line_is_found_whatever_the_clock_said(installation: Installation) -> None:
    """Killed behind its line, which a clock set back by days dated before the start of the run: one line still."""
    installation.add(argv=FAILING)
    words = [str(LIBRARY), str(installation.home), *map(str, STEPS["history"]), "after"]
    assert subprocess.run([sys.executable, "-c", KILLED, *words]).returncode == -9
    (line,) = installation.runs()
    log = Path(history.path(str(installation.home), "task"))
    log.write_text(json.dumps({**line, "finishedAt": format_time(time.time() - 3 * 86400)}) + "\n")
    run(installation, argv=["true"])
    assert [(each["run"] == line["run"], each["status"]) for each in installation.runs()] == [
        (True, "failed"), (False, "success")]  # fmt: skip


@pytest.mark.parametrize("told", ["by TERM", "by cancel"])
def test_told_to_end_while_recording(installation: Installation, told: str) -> None:
    """A supervisor that is told to end when its command has ended records the true outcome, and goes on after it."""
    installation.add(argv=FAILING)
    home = str(installation.home)
    log = history.path(home, "task")

    with open(log, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with subprocess.Popen([sys.executable, "-c", GOES_ON, str(LIBRARY), home], stdout=subprocess.PIPE) as process:
            (facts,) = until(lambda: [each for each in processes.live_runs(home, "task") if "outcome" in each])

            if told == "by TERM":
                process.send_signal(signal.SIGTERM)
                time.sleep(0.1)  # it is taken at once, or not at all
            else:
                assert not cancel.end(home, "task", facts["run"], 0.3)

            fcntl.flock(held, fcntl.LOCK_UN)
            assert process.communicate() == (b"went on\n", None)

        assert process.returncode == 0

    (line,) = installation.runs()
    assert (line["status"], line["reason"], line["exitCode"]) == ("failed", None, 3)
    assert installation.claims() == []


@pytest.mark.parametrize("by", ["the host", "its owner"])
def test_what_the_host_ended_is_remembered_of_its_strategy(installation: Installation, by: str) -> None:
    """A supervisor that the host tells to end records its run, and that this strategy does not carry one that long
    here; what its owner cancels shows nothing."""
    installation.add(argv=waits_for(installation.home / "never"), strategy="fork")
    assert installation.trigger("cgi").document["accepted"]
    facts = installation.command_runs()

    if by == "the host":
        os.kill(facts["supervisor"][0], signal.SIGTERM)
    else:
        assert cancel.end(str(installation.home), "task", facts["run"], 10)

    installation.idle()
    (line,) = installation.runs()
    assert line["status"] == "interrupted"
    seen = installation.home / "capabilities.json"
    servers = json.loads(seen.read_text())["servers"] if seen.exists() else {}
    deaths = [(strategy, death["run"], death["after"]) for row in servers.values()
              for strategy, of in row.items() for death in of.get("deaths", ())]
    assert deaths == ([("fork", line["run"], line["duration"])] if by == "the host" else [])


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_killed_around_a_step(installation: Installation, step: tuple[str, int], side: str) -> None:
    """Killed before or after any step of its record, a run has exactly one line: the true one as soon as its outcome
    stands in the claim, else `interrupted` with what it had printed. State agrees, and counts it once."""
    installation.add(argv=FAILING)
    program = [sys.executable, "-c", KILLED, str(LIBRARY), str(installation.home), step[0], str(step[1]), side]
    assert subprocess.run(program).returncode == -9
    known = step is not STEPS["the outcome"]

    assert run(installation, argv=["true"])["status"] == "success"
    first, second = installation.runs()
    assert (first["status"], first["reason"], first["exitCode"]) == (
        ("failed", None, 3) if known else ("interrupted", "found_dead", None))  # fmt: skip
    assert (first["output"], first["errorOutput"]) == (("out\n", "err\n") if known else ("out\nerr\n", ""))
    assert second["status"] == "success"
    assert installation.claims() == []
    assert list((installation.home / "output").iterdir()) == []
    assert installation.row()["lastRunId"] == second["run"]


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_state_counts_each_failure_once(installation: Installation, step: tuple[str, int], side: str) -> None:
    """However a failed run was recorded, it is one failure in a row."""
    from webscheduler.runs import dead_runs

    installation.add(argv=FAILING)
    program = [sys.executable, "-c", KILLED, str(LIBRARY), str(installation.home), step[0], str(step[1]), side]
    assert subprocess.run(program).returncode == -9

    assert dead_runs.record_dead_runs(str(installation.home), "task", time.time()) == []

    assert installation.row()["consecutiveFailures"] == 1
    assert installation.row()["lastRunStatus"] == installation.runs()[0]["status"]
    assert run(installation)["status"] == "failed"
    assert installation.row()["consecutiveFailures"] == 2
    assert len(installation.runs()) == 2


def test_failures_in_a_row(installation: Installation) -> None:
    """Failures are counted until a run succeeds; skips neither count nor end the count."""
    installation.add(argv=["false"])
    run(installation)
    run(installation, argv=["sleep", "60"], timeout=1)
    installation.edit(enabled=False)
    assert installation.trigger("wsgi").refused
    assert installation.row()["consecutiveFailures"] == 2
    assert installation.row()["lastRunStatus"] == "timeout"
    run(installation, argv=["true"])
    assert installation.row()["consecutiveFailures"] == 0


def test_state_breaks_while_it_runs(installation: Installation) -> None:
    """With state.json broken meanwhile a run still gets its line and lets its claim go, and the broken file stays."""
    go_on = installation.home / "go-on"
    installation.add(argv=waits_for(go_on))
    installation.trigger("wsgi")
    installation.command_runs()
    (installation.home / "state.json").write_bytes(b"{")
    go_on.touch()
    installation.idle()
    assert [line["status"] for line in installation.runs()] == ["success"]
    assert (installation.home / "state.json").read_bytes() == b"{"


def test_history_goes_while_it_runs(installation: Installation) -> None:
    """When the line cannot be written, the outcome waits in the claim, and the next trigger that can writes it."""
    go_on = installation.home / "go-on"
    installation.add(argv=["sh", "-c", f"while [ ! -e {go_on} ]; do sleep 0.02; done; echo out; exit 3"])
    installation.trigger("wsgi")
    installation.command_runs()
    shutil.rmtree(installation.home / "logs")
    go_on.touch()
    installation.gone()
    assert len(installation.claims()) == 1
    assert installation.trigger("wsgi").status == 503
    (installation.home / "logs").mkdir()
    installation.edit(argv=["true"])
    installation.trigger("wsgi")
    installation.idle()
    first, second = installation.runs()
    assert (first["status"], first["exitCode"], first["output"]) == ("failed", 3, "out\n")
    assert second["status"] == "success"


def test_the_task_goes_while_it_runs(installation: Installation) -> None:
    """A task that somebody took out of state.json by hand still gets the line of its run, and does not come back."""
    go_on = installation.home / "go-on"
    installation.add(argv=waits_for(go_on))
    installation.trigger("wsgi")
    installation.command_runs()
    state.update(str(installation.home), lambda tasks: tasks.pop("task"))
    go_on.touch()
    installation.idle()
    assert [line["status"] for line in installation.runs()] == ["success"]
    assert "task" not in state.read(str(installation.home))


def test_a_running_task_is_neither_renamed_nor_removed(installation: Installation) -> None:
    """`rename` and `remove` refuse while a run lives, and go through after it, with its history."""
    from webscheduler import editing
    from webscheduler.errors import BadInput

    home, go_on = str(installation.home), installation.home / "go-on"
    installation.add(argv=waits_for(go_on))
    installation.trigger("wsgi")
    installation.command_runs()

    with pytest.raises(BadInput, match="is running"):
        editing.rename(home, "task", "new", time.time())

    with pytest.raises(BadInput, match="is running"):
        editing.remove(home, "task", time.time())

    go_on.touch()
    installation.idle()
    environ = installation.signed()
    editing.rename(home, "task", "new", time.time())
    assert [entry["status"] for entry in history_reading.entries(home, "new")] == ["success"]
    assert installation.wsgi(environ).document["status"] == "running"
    installation.idle()
    assert len(installation.runs("new")) == 2
    editing.remove(home, "new", time.time())
    assert installation.wsgi(environ).refused
    assert not Path(history.path(home, "new")).exists()


def test_a_full_disk_loses_what_was_printed_and_not_how_it_ended(installation: Installation) -> None:
    """Where neither claim nor history can take the output, the line says so, and how the run ended."""
    installation.add(argv=["sh", "-c", "head -c 20000 /dev/zero | tr '\\0' x; exit 7"], strategy="sync")
    limit = (8192, resource.RLIM_INFINITY)  # no file may grow beyond that
    environ = {**installation.signed(), "PYTHONDONTWRITEBYTECODE": "1"}  # Python would leave half of a compiled module

    with installation.start_cgi(
        environ, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    ) as process:
        answer = answered(process)

    said = "... [not kept] File too large ...\n"
    assert (answer.status, answer.document["status"], answer.document["output"]) == (200, "failed", said)
    assert "recorded" not in answer.document
    installation.trigger()
    first, second = installation.runs()
    assert [(line["status"], line["exitCode"]) for line in (first, second)] == [("failed", 7)] * 2
    assert (first["output"], first["errorOutput"], len(second["output"])) == (said, "", 20000)


@pytest.mark.parametrize("door", [*DOORS, "cli"])
def test_a_run_that_cannot_be_recorded_has_run(installation: Installation, door: str) -> None:
    """Who waits for it hears how it ended and that this is not recorded yet, never that nothing ran; the next trigger
    records it."""
    logs = installation.home / "logs"
    installation.add(argv=["sh", "-c", f"rm -r {logs}; echo out; exit 3"], strategy="sync")

    if door == "cli":
        done = call(installation.home, "run", "task")
        told, run, status = done.err, done.err.split("run ")[1].split()[0], done.status
        assert done.out == "out\n"
        assert "task: failed, exit status 3" in done.err
        assert status == 1
    else:
        answer = installation.trigger(door)
        told, run = answer.errors, answer.document["run"]
        assert answer.status == 200
        assert answer.document == {**answer.document, "accepted": True, "status": "failed", "exitCode": 3,
                                   "output": "out\n", "recorded": False}

    assert "not recorded yet" in told
    assert str(logs) in told
    assert len(installation.claims()) == 1
    logs.mkdir()
    installation.edit(argv=["true"])
    assert installation.trigger("wsgi").document["status"] == "success"
    assert [(line["run"] == run, line["status"], line["output"]) for line in installation.runs()] == [
        (True, "failed", "out\n"), (False, "success", "")]  # fmt: skip
    assert installation.claims() == []


def test_a_disk_full_of_what_was_printed_has_room_for_the_record(tmp_path: Path) -> None:
    """What is kept for those who watch a run goes before its line is lost: nobody else would make that room."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")

    script = """mount -t tmpfs -o size=150k n "$HOME" && w() { "$0" -m webscheduler "$@"; } && w init &&
w add task -- sh -c 'head -c 50000 /dev/zero | tr "\\0" x' && w run task && w logs --json >&2"""
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, sys.executable], capture_output=True,
                          text=True, env=environment(tmp_path / "home"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "x" * 50000 in done.stderr


@pytest.mark.parametrize("ended", [0, 3])
def test_a_claim_that_is_restored_after_its_run(installation: Installation, ended: int) -> None:
    """A copy of a claim that was made during the run, without an outcome, is put back by a restore: the run keeps its
    one line, and state what that says."""
    go_on = installation.home / "go-on"
    installation.add(argv=["sh", "-c", f'while [ ! -e "$0" ]; do sleep 0.02; done; exit {ended}', str(go_on)])
    installation.trigger("wsgi")
    installation.command_runs()
    (claim,) = installation.claims()
    copy = (installation.home / "runs" / claim).read_bytes()
    go_on.touch()
    installation.idle()
    (before,) = installation.runs()
    (installation.home / "runs" / claim).write_bytes(copy)
    go_on.unlink()
    installation.edit(argv=["true"])
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    first, second = installation.runs()
    assert first == before
    assert (first["status"], second["status"]) == ("failed" if ended else "success", "success")


@pytest.mark.parametrize("door", DOORS)
def test_a_run_that_spoils_state_is_answered_as_the_run_that_it_was(installation: Installation, door: str) -> None:
    """Whether another status was asked for on failure is known from state.json; where that cannot be read any more, the
    caller still hears that the command ran, and does not call again."""
    files = [str(installation.home / name) for name in ("state.json", "state.json.bak")]
    installation.add(argv=["sh", "-c", 'for file; do echo "{" > "$file"; done; exit 3', "sh", *files], strategy="sync",
                     failureStatus=500)  # fmt: skip
    answer = installation.trigger(door)
    assert (answer.status, answer.document["accepted"], answer.document["status"]) == (200, True, "failed")
    assert [run["status"] for run in installation.runs()] == ["failed"]


def test_running_without_a_claim_is_not_running(installation: Installation) -> None:
    """State may say `running` of a run that nobody knows any more: that keeps no task from running."""
    installation.add(strategy="sync")
    installation.edit(lastRunStatus="running", lastRunAt="2026-01-01T00:00:00+00:00", lastRunId="gone")
    assert installation.trigger("wsgi").document["status"] == "success"
    assert len(installation.runs()) == 1


def test_the_clock_went_back(installation: Installation) -> None:
    """With the clock set back after a run, the next run is recorded all the same, and state tells of it."""
    installation.add()
    ahead = time.time() + 86400
    run_by_hand(str(installation.home), "task", "cli", lambda: ahead)
    line = run(installation, argv=["false"])
    assert [entry["status"] for entry in installation.runs()] == ["success", "failed"]
    assert installation.row()["lastRunId"] == line["run"]
    assert installation.row()["lastRunStatus"] == "failed"
