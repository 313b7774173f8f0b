# SPDX-License-Identifier: LGPL-3.0-or-later
"""One run at a time, exactly one line for each, whoever is killed and whenever."""

from __future__ import annotations

import errno
import fcntl
import functools
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import CHECKOUT, LIBRARY
from tests.commandline import call, environment
from tests.installation import DOORS, Answer, Installation, answered, until, waits_for
from tests.test_witnesses import STRACE, needs_strace, script
from webscheduler.runs import ending, recorder
from webscheduler.runs.admission import Cause, decide
from webscheduler.store import locks, processes
from webscheduler.store.files import lock_file
from webscheduler.times import format_time


@pytest.fixture
def go_on(installation: Installation) -> Path:
    """A file; a task whose argv is `waits_for` it runs until it is there."""
    return installation.home / "go-on"


@pytest.fixture
def running(installation: Installation, go_on: Path) -> dict[str, Any]:
    """The facts of a run of the task, whose command has said `begun` and goes on until `go_on` is there."""
    installation.add(argv=waits_for(go_on))
    return begun(installation)


def begun(installation: Installation) -> dict[str, Any]:
    """Trigger a task that `waits_for`, and wait until its command has said `begun`: from then on it says nothing, so a
    pipe that nobody reads does not end it. The facts of the run."""
    run = installation.trigger("wsgi").document["run"]
    live = Path(recorder.live_file(str(installation.home), run))
    until(lambda: live.exists() and live.read_bytes() == b"begun\n")
    return installation.command_runs()


def kill(who: list[int], number: int = signal.SIGKILL) -> None:
    """Signal a process that a claim names, and wait until it has ended."""
    os.kill(who[0], number)
    until(lambda: not locks.alive(who), f"the end of {who}")


def group(number: int) -> list[int]:
    """The living processes of a process group."""
    found = []

    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, of_group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue

        if int(of_group) == number and state not in "ZX":
            found.append(int(pid))

    return found


def descriptors() -> int:
    """How many this process has, without those of what other tests left to be collected."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def locked(answer: Answer) -> bool:
    return bool(answer.status == 202 and answer.document.get("reason") == "locked")


def outcomes(installation: Installation, name: str = "task") -> list[tuple[str, str | None]]:
    return [(run["status"], run["reason"]) for run in installation.runs(name)]


def simultaneous(installation: Installation, door: str, count: int) -> list[Answer]:
    """As many triggers at once."""
    environ = installation.signed()

    if door == "cgi":
        processes = [installation.start_cgi(environ) for _ in range(count)]
        answers = []

        for process in processes:
            with process:
                answers.append(answered(process))

        return answers

    barrier = threading.Barrier(count)
    answers = []

    def call() -> None:
        barrier.wait()
        answers.append(installation.wsgi(environ))

    threads = [threading.Thread(target=call) for _ in range(count)]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join()

    return answers


@pytest.mark.parametrize("door", DOORS)
def test_five_at_once(installation: Installation, go_on: Path, door: str) -> None:
    """Of five triggers at once one runs the task and four are `locked`; so is any other until the run has ended, and
    the next after that runs."""
    installation.add(argv=waits_for(go_on))
    answers = simultaneous(installation, door, 5)
    assert sorted(answer.document["status"] for answer in answers) == ["running"] + ["skipped"] * 4
    assert sum(map(locked, answers)) == 4
    assert locked(installation.trigger(door))
    assert locked(installation.trigger(door))
    assert len(installation.claims()) == 1
    go_on.touch()
    installation.idle()
    assert outcomes(installation) == [("success", None)]
    assert installation.trigger(door).document["status"] == "running"
    installation.idle()
    assert outcomes(installation) == [("success", None)] * 2


def test_a_skip_leaves_the_running_state(installation: Installation, running: dict[str, Any]) -> None:
    """A skip never changes what state says of the run in progress."""
    until(lambda: installation.row()["lastRunStatus"] == "running")
    before = installation.row()
    assert locked(installation.trigger())
    assert installation.row() == before


@pytest.mark.parametrize("door", DOORS)
def test_the_supervisor_is_killed(installation: Installation, go_on: Path, running: dict[str, Any], door: str) -> None:
    """After kill -9 of the supervisor the task stays locked until its command ends; then there is one `interrupted`
    line with the output so far, and the trigger that found it runs."""
    kill(running["supervisor"])
    assert locked(installation.trigger(door))
    assert locked(installation.trigger(door))
    assert installation.runs() == []
    go_on.touch()
    until(lambda: not locks.alive(running["command"]))
    assert installation.trigger(door).document["status"] == "running"
    installation.idle()
    first, second = installation.runs()
    assert (first["run"], first["status"], first["output"]) == (running["run"], "interrupted", "begun\n")
    assert first["reason"] in ("found_dead", "supervisor_gone")
    assert (first["exitCode"], first["duration"], first["startedAt"]) == (None, None, running["startedAt"])
    assert second["status"] == "success"
    assert list((installation.home / "output").iterdir()) == []


def test_the_supervisor_is_killed_and_the_command_closed_everything(installation: Installation, go_on: Path) -> None:
    """A command that closes what it inherited (as ssh and sudo do) still keeps its task locked while it lives."""
    program = """
import os, sys, time
os.closerange(3, 1000)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""
    installation.add(argv=[sys.executable, "-I", "-S", "-c", program, str(go_on)])
    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(lambda: not Path(f"/proc/{facts['command'][0]}/fd/{len(os.listdir('/proc/self/fd')) + 3}").exists())
    (claim,) = installation.claims()
    until(lambda: str(claim) not in [os.path.realpath(fd) for fd in Path(f"/proc/{facts['command'][0]}/fd").iterdir()])
    kill(facts["supervisor"])
    assert locked(installation.trigger("wsgi"))
    assert locked(installation.trigger("wsgi"))
    go_on.touch()
    until(lambda: not locks.alive(facts["command"]))
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    assert [status for status, _ in outcomes(installation)] == ["interrupted", "success"]


def test_the_supervisor_is_killed_before_it_names_the_command(installation: Installation, go_on: Path) -> None:
    """A command that no claim names is known by the run's id in its environment: the task is locked while it lives, and
    the run has one line."""
    installation.add(argv=waits_for(go_on))
    program = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import locks, processes
identity = locks.identity

def slow(pid=None):
    if pid is not None:
        open(sys.argv[2] + "/started", "w").close()
        time.sleep(300)
    return identity(pid)

locks.identity = slow
run_by_hand(sys.argv[2], "task", "cli", time.time)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(LIBRARY), str(installation.home)]) as supervisor:
        until(lambda: (installation.home / "started").exists())
        supervisor.kill()

    (facts,) = installation.facts()
    assert "command" not in facts
    (alive,) = processes.live_runs(str(installation.home), "task")  # readers know it, and write nothing
    assert locks.alive(alive["command"])
    assert installation.facts() == [facts]
    assert installation.trigger("wsgi").document["reason"] == "locked"
    assert installation.facts()[0]["command"]
    go_on.touch()
    until(lambda: processes.command_of(facts["run"]) is None)
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    assert [status for status, _ in outcomes(installation) if status != "skipped"] == ["interrupted", "success"]


def test_the_command_is_the_first_of_those_that_carry_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its children inherit the mark, in sessions of their own too; the one that started them is the command, even if a
    child ends while it is looked at."""
    run = "20260101000000-" + os.urandom(4).hex()
    script = "for n in 1 2 3; do setsid sleep 300 & done; echo ready; wait"

    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True,
                          env={"PATH": "/usr/bin:/bin", locks.RUN_VARIABLE: run}) as command:  # fmt: skip
        try:
            assert command.stdout is not None
            command.stdout.readline()
            carrying = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and marked(pid, run)]
            assert len(carrying) > 1
            assert processes.command_of(run) == locks.identity(command.pid)
            identity = locks.identity

            def ending(pid: int | None = None) -> list[int]:
                if pid in carrying and pid != command.pid:
                    os.kill(pid, signal.SIGKILL)
                    until(lambda: not os.path.exists(f"/proc/{pid}"))

                return identity(pid)

            monkeypatch.setattr(locks, "identity", ending)
            assert processes.command_of(run) == identity(command.pid)
        finally:
            for pid in [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and marked(pid, run)]:
                os.kill(pid, signal.SIGKILL)


def marked(pid: str, run: str) -> bool:
    try:
        return f"{locks.RUN_VARIABLE}={run}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


@pytest.mark.parametrize(
    "program",
    {
        "willing": "sleep 300 & : > \"$0\"; while :; do sleep 0.02; done",
        "stubborn": "trap '' TERM; sleep 300 & : > \"$0\"; while :; do sleep 0.02; done",
        "stubborn child": "(trap '' TERM; : > \"$0\"; while :; do sleep 0.02; done) & while :; do sleep 0.02; done",
    }.items(),
    ids=lambda item: item[0],
)
def test_the_time_limit_of_an_orphan(
    installation: Installation, program: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever triggers a task whose supervisor is gone ends its command when its time is up, and all of its group;
    one that ignores TERM, too, after a grace period."""
    monkeypatch.setattr(ending, "GRACE", 1.0)
    ready = installation.home / "ready"
    installation.add(argv=["sh", "-c", program[1], str(ready)])
    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(ready.exists)
    kill(facts["supervisor"])
    assert locked(installation.trigger("wsgi"))
    installation.end_of_time()
    until(lambda: installation.trigger("wsgi").document["status"] == "running", "the end of the orphan")
    assert not locks.alive(facts["command"])
    first = installation.runs()[0]
    assert (first["run"], first["status"], first["reason"]) == (facts["run"], "interrupted", "time_limit")
    assert group(facts["command"][0]) == []


def test_an_orphan_without_limit_is_left_alone(installation: Installation, go_on: Path) -> None:
    """With `timeout` 0 nobody ends an orphan."""
    installation.add(argv=waits_for(go_on), timeout=0)
    facts = begun(installation)
    kill(facts["supervisor"])
    assert locked(installation.trigger("wsgi"))
    assert locks.alive(facts["command"])


@pytest.mark.parametrize("door", DOORS)
def test_everything_is_killed(installation: Installation, go_on: Path, running: dict[str, Any], door: str) -> None:
    """After kill -9 of supervisor and command the very next trigger runs, whatever the timeout, and one line says
    `interrupted`."""
    kill(running["supervisor"])
    kill(running["command"])
    installation.gone()
    go_on.touch()
    assert installation.trigger(door).document["status"] == "running"
    installation.idle()
    assert outcomes(installation) == [("interrupted", "found_dead"), ("success", None)]
    assert installation.row()["consecutiveFailures"] == 0


def test_a_stray_descendant_blocks_nothing(installation: Installation, go_on: Path) -> None:
    """When supervisor and command are gone, a background process of theirs that still holds the claim's descriptor
    does not keep the task locked."""
    waiting = f"while [ ! -e {go_on} ]; do sleep 0.02; done"
    installation.add(argv=["sh", "-c", f"(setsid sh -c '{waiting}') & {waiting}"])
    installation.trigger("wsgi")
    facts = installation.command_runs()
    kill(facts["supervisor"])
    kill(facts["command"])
    assert installation.processes()
    assert installation.trigger("wsgi").document["status"] == "running"
    go_on.touch()
    installation.idle()
    assert outcomes(installation) == [("interrupted", "supervisor_gone"), ("success", None)]


SCRIBE = """
import os
for entry in os.listdir("/proc/self/fd"):
    path = f"/proc/self/fd/{entry}"
    if int(entry) > 2 and os.path.exists(path) and "@" in os.readlink(path):
        for harm in (lambda: os.write(int(entry), b'\\n{"outcome": {"status": "success"}}\\n'),
                     lambda: os.ftruncate(int(entry), 0)):
            try:
                harm()
                print("done")
            except OSError as error:
                print(error.strerror)
"""


@pytest.mark.parametrize("door", DOORS)
def test_a_command_writes_nothing_into_its_claim(installation: Installation, door: str) -> None:
    """The one descriptor of its claim that it inherits can be neither written nor cut: a command that logs into
    every descriptor makes no outcome."""
    installation.add(argv=[sys.executable, "-c", SCRIBE + "raise SystemExit(3)"])
    assert installation.trigger(door).document["status"] == "running"
    installation.idle()
    line, = installation.runs()
    assert (line["status"], line["exitCode"], line["output"]) == (
        "failed", 3, "Bad file descriptor\nInvalid argument\n")


def test_a_command_by_hand_writes_nothing_into_its_claim(installation: Installation) -> None:
    """Neither does one that was started on the command line, or by a tick."""
    installation.add(argv=[sys.executable, "-c", SCRIBE], expression="* * * * *",
                     createdAt=format_time(time.time() - 3600))  # fmt: skip

    for words in ("run-due",), ("run", "task"):
        assert call(installation.home, *words).status == 0
        installation.idle()

    assert [line["output"] for line in installation.runs()] == ["Bad file descriptor\nInvalid argument\n"] * 2


@pytest.mark.parametrize("door", DOORS)
def test_either_process_keeps_the_lock(installation: Installation, go_on: Path, door: str) -> None:
    """The claim is locked while its supervisor or its command lives, and free as soon as both are gone."""
    closed = f"import os, time; os.closerange(3, 1000); open({str(go_on)!r}, 'w'); time.sleep(300)"
    installation.add("inherited", argv=["sleep", "300"])
    installation.add("closed", argv=[sys.executable, "-c", closed])
    installation.trigger(door, "inherited")
    facts = installation.command_runs()
    claim, = installation.claims()
    assert modes(facts["supervisor"][0], claim) == [os.O_RDONLY, os.O_RDWR]
    assert modes(facts["command"][0], claim) == [os.O_RDONLY]
    assert not lock_is_free(claim)
    kill(facts["supervisor"])
    assert not lock_is_free(claim)
    kill(facts["command"])
    assert lock_is_free(claim)
    claim.unlink()

    installation.trigger(door, "closed")
    facts = installation.command_runs()
    claim, = installation.claims()
    until(go_on.exists)
    assert modes(facts["command"][0], claim) == []
    assert not lock_is_free(claim)
    kill(facts["supervisor"])
    assert lock_is_free(claim)
    kill(facts["command"])


def modes(pid: int, file: Path) -> list[int]:
    """How a process has opened the file, each time: O_RDONLY, O_RDWR (proc(5), fdinfo)."""
    found = []

    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            if os.readlink(entry) == str(file):
                flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().partition("flags:")[2].split()[0]
                found.append(int(flags, 8) & os.O_ACCMODE)

    return sorted(found)


def lock_is_free(file: Path) -> bool:
    """Whether nobody has the file locked."""
    with open(file, "r+b") as opened:
        return lock_file(opened.fileno())


def test_a_daemon_blocks_nothing(installation: Installation, go_on: Path) -> None:
    """A run ends with its command, also when that leaves a daemon which holds its pipes and its claim."""
    installation.add(argv=["sh", "-c", f"echo started; setsid sh -c 'while [ ! -e {go_on} ]; do sleep 0.02; done' &"])

    for _ in range(3):
        assert installation.trigger("wsgi").document["status"] == "running"
        installation.idle()

    daemons = installation.processes()
    assert len(daemons) >= 3
    assert [(run["status"], run["output"]) for run in installation.runs()] == [("success", "started\n")] * 3
    go_on.touch()


def test_overlap_may_be_allowed(installation: Installation, go_on: Path) -> None:
    """With preventOverlap off two runs at once give two lines; both killed, two `interrupted`."""
    installation.add(argv=waits_for(go_on), preventOverlap=False)
    runs = [installation.trigger("wsgi").document["run"] for _ in range(2)]
    until(lambda: sum(locks.alive(facts.get("command")) for facts in installation.facts()) == 2)
    go_on.touch()
    installation.idle()
    assert sorted(run["run"] for run in installation.runs()) == sorted(runs)
    assert outcomes(installation) == [("success", None)] * 2

    go_on.unlink()
    killed = [installation.trigger("wsgi").document["run"] for _ in range(2)]
    until(lambda: sum(locks.alive(facts.get("command")) for facts in installation.facts()) == 2)
    installation.end()
    go_on.touch()
    last = installation.trigger("wsgi").document["run"]
    installation.idle()
    lines = {run["run"]: run["status"] for run in installation.runs()[2:]}
    assert lines == {killed[0]: "interrupted", killed[1]: "interrupted", last: "success"}
    assert len(installation.runs()) == 5


def test_a_late_finisher_does_not_touch_a_newer_run(installation: Installation, go_on: Path) -> None:
    """When an older run ends after a newer one began, state keeps telling of the newer one."""
    installation.add(argv=["sh", "-c", f"while [ ! -e {go_on} ]; do sleep 0.02; done; exit 3"], preventOverlap=False)
    first = installation.trigger("wsgi").document["run"]
    until(lambda: installation.row()["lastRunId"] == first)
    installation.edit(argv=["true"])
    second = installation.trigger("wsgi").document["run"]
    until(lambda: len(installation.runs()) == 1)
    until(lambda: installation.row()["lastRunStatus"] == "success")
    go_on.touch()
    installation.idle()
    assert {run["run"]: run["status"] for run in installation.runs()} == {second: "success", first: "failed"}
    row = installation.row()
    assert (row["lastRunId"], row["lastRunStatus"], row["lastRunExitCode"]) == (second, "success", 0)


def test_cancel(installation: Installation, running: dict[str, Any]) -> None:
    """A run is cancelled by a word in its claim and TERM to its supervisor: the whole group ends, and one line says
    `interrupted`, `cancelled`."""
    (claim,) = installation.claims()

    with open(claim, "ab") as file:
        file.write(locks.line({"cancelled": True}))

    os.kill(running["supervisor"][0], signal.SIGTERM)
    installation.idle()
    (line,) = installation.runs()
    assert (line["run"], line["status"], line["reason"], line["signal"]) == (
        running["run"], "interrupted", "cancelled", signal.SIGTERM)  # fmt: skip
    assert line["output"] == "begun\n"
    assert not locks.alive(running["command"])
    assert group(running["command"][0]) == []
    assert installation.row()["lastRunStatus"] == "interrupted"
    assert installation.row()["consecutiveFailures"] == 1


def test_a_supervisor_that_is_told_to_end(installation: Installation, running: dict[str, Any]) -> None:
    """TERM to the supervisor, as at a server's stop, ends the group and records one `interrupted` line."""
    os.kill(running["supervisor"][0], signal.SIGTERM)
    installation.idle()
    assert outcomes(installation) == [("interrupted", "terminated")]
    assert not locks.alive(running["command"])


def test_cancelled_but_killed(installation: Installation, go_on: Path, running: dict[str, Any]) -> None:
    """A run that was cancelled and whose supervisor did not live to say so, is found and recorded as cancelled."""
    (claim,) = installation.claims()

    with open(claim, "ab") as file:
        file.write(locks.line({"cancelled": True}))

    installation.end()
    go_on.touch()
    installation.trigger("wsgi")
    installation.idle()
    assert outcomes(installation) == [("interrupted", "cancelled"), ("success", None)]


def test_pids_of_others(installation: Installation, go_on: Path) -> None:
    """A claim left by a crash whose pids belong to other processes now is a dead run, for readers and for triggers."""
    installation.add(argv=["true"])
    me = locks.identity()
    other = [me[0], me[1] + 1]
    run = locks.new_run(time.time())
    (installation.home / "runs" / f"task@{run}").write_bytes(locks.line(
        {"run": run, "name": "task", "startedAt": format_time(time.time()), "starter": other, "supervisor": other,
         "command": other}))  # fmt: skip
    assert processes.live_runs(str(installation.home)) == []
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    assert outcomes(installation) == [("interrupted", "found_dead"), ("success", None)]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{", b"\x00" * 100, b"[]\n5\nnull\n\"x\"\n", b'\n{"startedAt": 7, "supervisor": "x"}\n',
     b'\n{"outcome": {"run": "another"}}\n', b'\n{"command": [-1, 0], "supervisor": [0, 0]}\n',
     b'\n{"startedAt": "yesterday", "deadline": "x", "command": [true, 1]}\n'],
)  # fmt: skip
def test_a_claim_of_nonsense(installation: Installation, content: bytes) -> None:
    """Whatever a dead claim holds, one `interrupted` line comes of it, and the task runs."""
    installation.add()
    (installation.home / "runs" / "task@20260101000000-00000000").write_bytes(content)
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    first, second = installation.runs()
    assert (first["run"], first["status"]) == ("20260101000000-00000000", "interrupted")
    assert second["status"] == "success"
    assert installation.row()["lastRunStatus"] == "success"


def test_a_claim_takes_words_from_many(installation: Installation) -> None:
    """What supervisor, command and whoever cancels write into a claim is all there, whoever wrote when; a torn line
    spoils no other."""
    claim = locks.make_claim(str(installation.home), "task", "r", {"run": "r"})

    with open(claim.path, "ab", buffering=0) as another:
        for number in range(10):
            claim.append({f"a{number}": number})
            another.write(locks.line({f"b{number}": number}) + b'{"torn": ')

    assert claim.facts() == {"run": "r", **{f"{who}{number}": number for number in range(10) for who in "ab"}}
    claim.close()


def test_readers_lock_nothing(installation: Installation, running: dict[str, Any]) -> None:
    """Looking at what runs tries no lock and writes nothing: an idle task never looks busy because of a reader."""
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from webscheduler.store import locks, processes
locks._flock = None
assert [facts["name"] for facts in processes.live_runs(sys.argv[2])] == ["task"]
assert [facts["name"] for facts in processes.live_runs(sys.argv[2], "task")] == ["task"]
assert processes.live_runs(sys.argv[2], "other") == []
"""
    before = {file: file.read_bytes() for file in installation.home.rglob("*") if file.is_file()}
    subprocess.run([sys.executable, "-c", program, str(LIBRARY), str(installation.home)], check=True)
    after = {file: file.read_bytes() for file in installation.home.rglob("*") if file.is_file()}
    assert {file: after[file] for file in before if file.name != "task.jsonl"} == before


def test_names_that_share_a_beginning(installation: Installation, go_on: Path) -> None:
    """The runs of one task are not those of another whose name begins alike."""
    installation.add("task", argv=waits_for(go_on))
    installation.add("task2")
    installation.add("tas")
    installation.trigger("wsgi")
    installation.command_runs()
    for name in ("task2", "tas"):
        assert installation.trigger("wsgi", name).document["status"] == "running"
        until(functools.partial(installation.runs, name))
    assert locked(installation.trigger("wsgi"))
    go_on.touch()


# When the disk does not take it


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Set how large a file may become, which fails writes as a full disk does."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))

    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 10, 256, 300, 350, 400, 450, 500, 600])
def test_a_full_disk_leaves_no_task_locked(installation: Installation, quota: Any, size: int) -> None:
    """A server that could not write a claim, or part of it, answers 503 or runs; in any case it has let the claim go,
    so the task runs as soon as there is room, and no run has two lines."""
    installation.add()
    environ = installation.signed()
    quota(size)

    try:
        answers = [installation.wsgi(environ) for _ in range(3)]
    finally:
        quota(None)

    assert all(answer.status in (202, 503) for answer in answers)
    # What is still ending may hold its claim for a moment.
    until(lambda: installation.trigger("wsgi").document.get("status") == "running")

    def recorded() -> bool:
        """Who found a dead run while another process had the history locked left it to whoever comes next."""
        installation.gone()
        return not installation.claims() or not installation.trigger("wsgi")

    until(recorded, "the record of all runs")
    runs = [run["run"] for run in installation.runs()]
    assert len(set(runs)) == len(runs)
    assert installation.runs()[-1]["status"] == "success"


def test_a_dead_run_that_cannot_be_recorded_yet(installation: Installation) -> None:
    """A server that finds a dead run and cannot write its line answers 503, lets it go, and records it later."""
    installation.add()

    for run in ("20260101000000-00000000", "20260101000000-00000001"):
        facts = {"run": run, "name": "task", "startedAt": format_time(time.time()), "starter": locks.identity()}
        (installation.home / "runs" / f"task@{run}").write_bytes(locks.line(facts))

    shutil.rmtree(installation.home / "logs")
    before = descriptors()
    assert installation.trigger("wsgi").status == 503
    assert installation.trigger("wsgi").status == 503
    assert descriptors() == before
    (installation.home / "logs").mkdir()
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    assert [status for status, _ in outcomes(installation)] == ["interrupted", "interrupted", "success"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EIO])
@pytest.mark.parametrize("call", [1, 2])
def test_a_file_system_without_locks(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, number: int, call: int
) -> None:
    """Any error of flock but that somebody has the lock means no run, and 503 with a sentence; nothing is left."""
    installation.add()
    environ = installation.signed()
    flock, calls = fcntl.flock, []

    def failing(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            calls.append(descriptor)

            if len(calls) >= call:
                raise OSError(number, os.strerror(number))

        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", failing)
    before = descriptors()
    answer = installation.wsgi(environ)
    assert answer.status == 503
    assert "locked here" in answer.errors
    assert descriptors() == before
    monkeypatch.undo()
    assert installation.claims() == []
    assert installation.history() == []
    assert installation.wsgi(environ).document["status"] == "running"


def test_a_file_system_that_locks_only_what_can_be_written(installation: Installation) -> None:
    """NFS, where flock(2) needs a descriptor that can be written: that one is locked, and the command inherits it."""
    needs_strace()
    installation.add(argv=["sleep", "300"])
    log = installation.home.parent / "calls"
    # Of the request's process, not of its children: the gate, the claim as it can only be read, the claim, the gate.
    words = [str(STRACE), "-o", str(log), "-e", "trace=flock", "-e", "inject=flock:error=EBADF:when=2", sys.executable]

    with installation.start_cgi(installation.signed(), words=words, script=script(installation)) as process:
        assert answered(process).document["status"] == "running"

    assert ["EBADF" in line for line in log.read_text().splitlines() if "flock(" in line] == [False, True, False, False]
    facts = installation.command_runs()
    assert modes(facts["command"][0], *installation.claims()) == [os.O_RDWR]
    kill(facts["supervisor"])
    assert not lock_is_free(*installation.claims())
    assert locked(installation.trigger("cgi"))
    kill(facts["command"])
    assert lock_is_free(*installation.claims())


def test_doctor_says_where_a_command_can_write_its_claim(installation: Installation) -> None:
    """Where what can only be read cannot be locked; and nowhere else."""
    needs_strace()
    file = installation.home / "locks" / ".doctor.lock"
    told = "only what can be written can be locked here"
    # Of its lock: it is locked, unlocked, and locked as what can only be read.
    options = ["-o", os.devnull, "-P", str(file), "-e", "trace=flock", "-e", "inject=flock:error=EBADF:when=3"]

    for words in (), (str(STRACE), *options):
        done = subprocess.run([*words, sys.executable, "-m", "webscheduler", "doctor", "--offline"], cwd=LIBRARY,
                              env=environment(installation.home), capture_output=True, text=True)  # fmt: skip
        assert "locks work between processes" in done.stdout
        assert (told in done.stdout) == bool(words)


def test_no_descriptor_is_left(installation: Installation) -> None:
    """A server that answers for years does not collect descriptors."""
    installation.add()
    installation.add("off", enabled=False)
    installation.add("slow", argv=["sleep", "60"])
    installation.trigger("wsgi", "slow")
    installation.command_runs()

    def all_kinds() -> int:
        for name in ("task", "off", "slow"):
            installation.trigger("wsgi", name)
        installation.wsgi({**installation.signed(), "QUERY_STRING": "sig=1"})
        installation.wsgi(installation.asking_status())
        until(lambda: not any(claim.name.startswith("task@") for claim in installation.claims()))
        return descriptors()

    first = all_kinds()
    assert {all_kinds() for _ in range(5)} == {first}


def test_zombies_are_bounded(installation: Installation) -> None:
    """Fifty detached runs leave a server with at most a few children to be waited for: each call takes those before."""
    installation.add(preventOverlap=False)

    def zombies() -> int:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return sum(locks._stat(int(pid))[0] == "Z" for pid in children)

    before = zombies()  # of other tests in this process

    for _ in range(50):
        installation.trigger("wsgi")

    installation.idle()
    installation.gone()
    installation.trigger("wsgi")
    installation.idle()
    assert zombies() - before <= 5
    assert outcomes(installation) == [("success", None)] * 51


# The decision


def test_a_secret_that_changes_at_this_moment(installation: Installation) -> None:
    """What was read before the gate counts only while nothing changed: a rotated secret refuses who was let in."""
    from webscheduler.runs.admission import Ticket
    from webscheduler.runs.indexing import refresh
    from webscheduler.store.lookup import Parsed, in_full, look

    installation.add()
    home, row = str(installation.home), installation.row()
    assert refresh(home)

    for view, secret in ((look(home), "f" * 64), (Parsed(home), "e" * 64)):
        ticket = Ticket(in_full(view, view.find(row["slug"])), None, 300, "192.0.2.1")
        installation.edit(secret=secret)
        assert decide(home, "task", Cause("url", ticket), time.time(), view).status == "changed"

    installation.edit(enabled=False)
    view = Parsed(home)
    ticket = Ticket(in_full(view, view.find(row["slug"])), None, 300, "192.0.2.1")
    assert decide(home, "task", Cause("url", ticket), time.time(), view).reason == "disabled"
    assert installation.claims() == []


def test_by_hand(installation: Installation, go_on: Path) -> None:
    """A run by hand asks neither for enabled, least interval nor address, but always for the claim."""
    from webscheduler.runs.by_hand import run_by_hand

    installation.add(enabled=False, minIntervalSeconds=3600, ipAllowlist=["192.0.2.99"])

    for _ in range(2):
        line = run_by_hand(str(installation.home), "task", "cli", time.time)
        assert line is not None
        assert (line["status"], line["trigger"], line["strategy"]) == ("success", "cli", "sync")

    installation.edit(enabled=True, argv=waits_for(go_on), minIntervalSeconds=0, ipAllowlist=[])
    installation.trigger("wsgi")
    installation.command_runs()
    assert run_by_hand(str(installation.home), "task", "cli", time.time) is None
    go_on.touch()
    installation.idle()


def test_a_gate_is_never_replaced(installation: Installation) -> None:
    """Whatever happens to a task, the file of its gate stays the same, for all who wait on it."""
    installation.add()
    installation.trigger("wsgi")
    installation.idle()
    inode = (installation.home / "locks" / "task.lock").stat().st_ino
    for _ in range(3):
        installation.trigger()
        installation.idle()
    assert (installation.home / "locks" / "task.lock").stat().st_ino == inode


def test_modes(installation: Installation) -> None:
    """All of a home is for its owner alone, and the umask that commands inherit is the caller's."""
    before = os.umask(0o007)

    try:
        installation.add(argv=["sh", "-c", "umask; echo x >&2"])
        installation.trigger("cgi")
        installation.idle()
        installation.wsgi({**installation.signed(), "QUERY_STRING": "sig=1"})
    finally:
        os.umask(before)

    assert installation.runs()[0]["output"] == "0007\n"
    for file in (installation.home, *installation.home.rglob("*")):
        assert file.stat().st_mode & 0o777 == (0o700 if file.is_dir() else 0o600), file


# Bursts


@pytest.mark.parametrize("kind", ["interval", "timed"])
def test_bursts(installation: Installation, kind: str) -> None:
    """Of 24 triggers at once exactly one passes a least interval, and one a timed signature, however often it is
    tried."""
    bursts = 100 if os.environ.get("WEBSCHEDULER_FULL") else 10
    program = [sys.executable, "-m", "tests.torture.bursts", str(installation.home), kind, str(bursts), "24"]
    done = subprocess.run(program, cwd=CHECKOUT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"bursts": bursts, "accepted": [1] * bursts, "refused": [23] * bursts,
                                       "lines": bursts}




def test_threads(installation: Installation) -> None:
    """A server may answer in many threads at once: nothing is shared that they could spoil."""
    names = [installation.add(f"task{number}") for number in range(8)]
    environs = {name: installation.signed(name) for name in names}
    accepted: dict[str, list[str]] = {name: [] for name in names}

    def call(name: str) -> None:
        for _ in range(12):
            document = installation.wsgi(environs[name]).document
            if document["status"] == "running":
                accepted[name].append(document["run"])

    threads = [threading.Thread(target=call, args=[name]) for name in names]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join()

    installation.idle()
    for name in names:
        assert accepted[name]
        assert [run["run"] for run in installation.runs(name)] == accepted[name]
        assert {run["status"] for run in installation.runs(name)} == {"success"}
