# SPDX-License-Identifier: LGPL-3.0-or-later
"""A run seen from another container, from a jailed shell, from another host: where its pids mean nothing, or another
process.

Rule: the namespaces are real (unshare(1)); only another boot of the machine is made up, by its id in a claim.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import Done, call, environment, finished
from tests.installation import Installation, until, waits_for
from webscheduler.store import locks, processes
from webscheduler.times import format_time

# With a /proc of its own, as a container has it; or with the host's, as some jails leave it.
INSIDE = {"container": ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
          "jail": ["unshare", "--pid", "--fork", "--kill-child"]}  # fmt: skip


@pytest.fixture
def unshare(request: pytest.FixtureRequest) -> list[str]:
    """Words before a command that put it into a pid namespace of its own."""
    words = INSIDE[getattr(request, "param", "container")]

    found = ([words[0], *more, *words[1:]] for more in ([], ["--user", "--map-root-user"]))
    able = [each for each in found if shutil.which("unshare") and subprocess.run([*each, "true"]).returncode == 0]

    if not able:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("no pid namespace can be made")

    return able[0]


def webscheduler(inside: list[str], home: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start `webscheduler WORDS` inside a namespace."""
    return subprocess.Popen([*inside, sys.executable, "-m", "webscheduler", *words], env=environment(home), cwd=home,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def there(inside: list[str], installation: Installation, *words: str) -> Done:
    return finished(webscheduler(inside, installation.home, *words))


@pytest.fixture
def go_on(installation: Installation) -> Path:
    return installation.home / "go-on"


def begins(installation: Installation) -> int:
    """How many commands have begun."""
    return sum(file.read_bytes().count(b"begun\n") for file in (installation.home / "output").glob("*.log"))


@pytest.mark.parametrize("unshare", INSIDE, indirect=True)
@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "orphan"])
def test_a_run_of_the_host_is_running_in_a_container(
    installation: Installation, go_on: Path, unshare: list[str], supervised: bool
) -> None:
    """It is not started a second time there, whatever its pids mean there, nor signalled, and readers show it."""
    installation.add(argv=waits_for(go_on))
    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(lambda: begins(installation))

    if not supervised:
        os.kill(facts["supervisor"][0], signal.SIGKILL)
        until(lambda: not locks.alive(facts["supervisor"]))
        installation.end_of_time()

    done = there(unshare, installation, "run", "task")
    assert (done.status, "running" in done.err) == (1, True), done
    assert there(unshare, installation, "list").out.splitlines()[-1].endswith("yes")
    assert there(unshare, installation, "status", "--json").document["running"][0]["run"] == facts["run"]
    complaint = there(unshare, installation, "cancel", "task").complaint
    assert "another container or on another host" in complaint
    assert begins(installation) == 1
    assert installation.runs() == []
    assert locks.alive(facts["command"])
    go_on.touch()
    until(lambda: not locks.alive(facts["command"]))

    if supervised:
        installation.idle()

    assert there(unshare, installation, "run", "task").status == 0
    assert [run["status"] for run in installation.runs()] == ["success" if supervised else "interrupted", "success"]


@pytest.mark.parametrize("unshare", INSIDE, indirect=True)
def test_a_run_of_a_container_is_running_on_the_host(
    installation: Installation, go_on: Path, unshare: list[str]
) -> None:
    """It has one line, as it ended; meanwhile the task is locked, and shown as running."""
    installation.add(argv=waits_for(go_on))

    with webscheduler(unshare, installation.home, "run", "task") as inside:
        until(lambda: begins(installation))
        assert installation.trigger("wsgi").document["reason"] == "locked"
        assert installation.trigger("cgi").document["reason"] == "locked"
        assert [facts["name"] for facts in processes.live_runs(str(installation.home))] == ["task"]
        assert installation.wsgi(installation.asking_status()).document["running"]
        go_on.touch()
        assert inside.wait() == 0

    assert [run["status"] for run in installation.runs()] == ["success"]
    assert processes.live_runs(str(installation.home)) == []


def test_a_container_that_is_gone(installation: Installation, go_on: Path, unshare: list[str]) -> None:
    """Its runs are dead at once, for readers and for the next trigger."""
    installation.add(argv=waits_for(go_on))

    with webscheduler(unshare, installation.home, "run", "task") as inside:
        until(lambda: begins(installation))
        inside.kill()

    home = str(installation.home)
    until(lambda: not processes.live_runs(home))
    assert not installation.wsgi(installation.asking_status()).document["running"]
    assert len(installation.claims()) == 1
    go_on.touch()
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    assert [(run["status"], run["reason"]) for run in installation.runs()] == [
        ("interrupted", "found_dead"), ("success", None)]  # fmt: skip


def test_a_command_of_a_container_that_closed_its_claim(
    installation: Installation, go_on: Path, unshare: list[str]
) -> None:
    """Without supervisor and without the lock it is known on the host by the run's id."""
    program = """
import os, sys, time
os.closerange(3, 1000)
print("begun", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""
    installation.add(argv=[sys.executable, "-I", "-S", "-c", program, str(go_on)])
    words = [*unshare, "sh", "-c", '"$0" -m webscheduler run task & exec sleep 300', sys.executable]

    with subprocess.Popen(words, env=environment(installation.home), cwd=installation.home) as inside:
        until(lambda: begins(installation))
        (facts,) = installation.facts()
        command = until(lambda: processes.command_of(facts["run"]))
        supervisor = int(Path(f"/proc/{command[0]}/stat").read_text().rpartition(")")[2].split()[1])
        who = locks.identity(supervisor)
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: not locks.alive(who))
        assert installation.trigger("wsgi").document["reason"] == "locked"
        assert processes.live_runs(str(installation.home))
        go_on.touch()
        until(lambda: not locks.alive(command))
        assert installation.trigger("wsgi").document["status"] == "running"
        installation.idle()
        inside.kill()

    assert [run["status"] for run in installation.runs()] == ["interrupted", "success"]


@pytest.fixture
def bystander() -> Iterator[list[int]]:
    """A process that has nothing to do with any run."""
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        yield locks.identity(process.pid)
        process.kill()


def claim_of_another_boot(installation: Installation, who: list[int], **facts: Any) -> Path:
    """The claim of a run whose host had another boot id, and whose pids are those of `who` here."""
    run = locks.new_run(time.time())
    file = installation.home / "runs" / f"task@{run}"
    boot, _, namespace = locks.place().partition(" ")
    file.write_bytes(locks.line({"run": run, "name": "task", "startedAt": format_time(time.time()), "starter": who,
                                 "supervisor": who, "command": who, "place": f"{boot[::-1]} {namespace}",
                                 "deadline": 1.0, **facts}))  # fmt: skip
    return file


@pytest.mark.parametrize("more", [{}, {"cancelled": True}, {"killAt": 1.0, "ending": "time_limit"}], ids=str)
def test_a_run_of_another_host(installation: Installation, bystander: list[int], more: dict[str, Any]) -> None:
    """While its claim is locked it runs, on a host that shares the home, and nobody here is signalled for it."""
    installation.add()
    file = claim_of_another_boot(installation, bystander, **more)

    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        for door in ("cgi", "wsgi"):
            assert installation.trigger(door).document["reason"] == "locked"

        assert len(processes.live_runs(str(installation.home))) == 1
        assert "another host" in call(installation.home, "cancel", "task").complaint

    assert processes.live_runs(str(installation.home)) == []
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    assert [run["status"] for run in installation.runs()] == ["interrupted", "success"]
    assert locks.alive(bystander)


def test_runs_from_before_a_boot_are_dead(installation: Installation, bystander: list[int]) -> None:
    """After a power cut nobody holds their claims, and no pid keeps them alive; readers know without writing."""
    installation.add()
    file = claim_of_another_boot(installation, bystander)
    before = file.read_bytes()
    assert processes.live_runs(str(installation.home)) == []
    assert call(installation.home, "list").out.splitlines()[-1].endswith("-")
    assert file.read_bytes() == before
    assert installation.trigger("wsgi").document["status"] == "running"
    installation.idle()
    assert [run["status"] for run in installation.runs()] == ["interrupted", "success"]
