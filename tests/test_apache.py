# SPDX-License-Identifier: LGPL-3.0-or-later
"""The main promise on a real Apache with mod_cgid: a URL runs a command, once, to its end, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import SCRIPT
from tests.installation import Installation, until
from tests.matrix import Call
from tests.servers import KINDS, Server, give, start, workplace
from webscheduler.store import locks

SECONDS = 5
KIND = KINDS["apache-cgid"]


class Site(NamedTuple):
    """An installation behind Apache."""

    installation: Installation
    server: Server

    def add(self, name: str, command: str, **fields: Any) -> None:
        self.installation.add(name, ["/bin/sh", "-c", command], **fields)
        give(self.installation.home, KIND.user)

    def edit(self, name: str, **fields: Any) -> None:
        self.installation.edit(name, **fields)
        give(self.installation.home, KIND.user)

    def url(self, name: str) -> str:
        row = self.installation.row(name)
        return f"{self.server.url}/run/{row['slug']}?sig={self.installation.signature(name)}"

    def trigger(self, name: str) -> Any:
        with urllib.request.urlopen(self.url(name), timeout=60) as answer:
            return json.loads(answer.read())

    def begun(self, name: str) -> dict[str, Any]:
        """Wait until the task's command runs; the facts of its claim."""
        return until(lambda: next((facts for facts in self.installation.facts()
                                   if facts.get("name") == name and locks.alive(facts.get("command"))), None))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workplace(KIND) as directory:
        installation = Installation(directory / "home")
        give(installation.home, KIND.user)

        try:
            with start(KIND, directory, SCRIPT, env={"WEBSCHEDULER_HOME": str(installation.home)}) as server:
                yield Site(installation, server)
        finally:
            installation.end()


def kill(who: list[int]) -> None:
    os.kill(who[0], signal.SIGKILL)
    until(lambda: not locks.alive(who))


def test_a_run_of_five_seconds_answers_at_once_and_ends_as_one_success(site):
    """The answer is complete and the connection closed while the command still runs; its end is one line."""
    site.add("long", f"sleep {SECONDS}; echo done")
    call = Call(site.url("long"))

    try:
        until(lambda: call.read(0.05) or call.ended is not None, "the end of the connection")
        assert call.document["accepted"] is True
        assert (call.document["strategy"], call.document["detached"]) == ("fork", True)
        facts = site.begun("long")
        assert facts["run"] == call.document["run"]
        assert site.installation.runs("long") == []
    finally:
        call.socket.close()

    until(lambda: site.installation.runs("long"))
    (line,) = site.installation.runs("long")
    assert (line["status"], line["output"], line["exitCode"]) == ("success", "done\n", 0)
    assert line["duration"] >= SECONDS


def test_five_at_once_are_one_run_and_four_locked(site):
    """Simultaneous triggers of a task that lasts: one runs, four say so; one more during the run is skipped as well."""
    go_on = site.installation.home.parent / "go-on"
    site.add("crowd", f'while [ ! -e "{go_on}" ]; do sleep 0.1; done')

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: site.trigger("crowd"), range(5)))

    assert sorted(answer["status"] for answer in answers) == ["running"] + ["skipped"] * 4
    assert {answer.get("reason") for answer in answers if answer["status"] == "skipped"} == {"locked"}
    site.begun("crowd")
    assert site.trigger("crowd")["reason"] == "locked"
    until(lambda: site.installation.row("crowd")["lastRunStatus"] == "running")  # said of a run that lasts a second
    go_on.touch()
    until(lambda: site.installation.runs("crowd"))
    assert [line["status"] for line in site.installation.runs("crowd")] == ["success"]
    assert sum(line["count"] for line in site.installation.history("crowd") if line["reason"] == "locked") >= 1


@pytest.mark.parametrize("strategy", ["fork", "sync"])
def test_a_body_that_nobody_needs_costs_no_response(site, strategy):
    """A panel that posts something to the URL gets its answer: what was not read would reset mod_cgid's socket."""
    name = f"posted-{strategy}"
    site.add(name, "echo done", strategy=strategy)

    for size in (5, 100_000):
        request = urllib.request.Request(site.url(name), data=b"x" * size)

        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["accepted"] is True

        until(lambda: not site.installation.claims(), "the end of the run")


def test_killed_supervisor_locks_until_the_command_ends(site):
    """kill -9 of the supervisor: locked while the command lives, then one `interrupted`, and the task runs again."""
    go_on = site.installation.home / "go-on"
    site.add("orphan", f"while [ ! -e {go_on} ]; do sleep 0.05; done")
    site.trigger("orphan")
    facts = site.begun("orphan")
    kill(facts["supervisor"])
    assert site.trigger("orphan")["reason"] == "locked"
    assert site.installation.runs("orphan") == []
    go_on.touch()
    until(lambda: not locks.alive(facts["command"]))
    assert site.trigger("orphan")["status"] == "running"
    until(lambda: len(site.installation.runs("orphan")) == 2)
    assert [line["status"] for line in site.installation.runs("orphan")] == ["interrupted", "success"]
    assert site.installation.runs("orphan")[0]["run"] == facts["run"]


def test_an_orphan_is_ended_by_the_next_trigger_when_its_time_is_up(site):
    """A command whose supervisor was killed does not outlive its time limit for longer than until the next trigger."""
    site.add("overdue", "exec sleep 600")
    site.trigger("overdue")
    facts = site.begun("overdue")
    kill(facts["supervisor"])
    site.edit("overdue", timeout=1)  # of the next run
    site.installation.end_of_time()
    until(lambda: site.trigger("overdue")["status"] == "running")
    assert not locks.alive(facts["command"])
    until(lambda: len(site.installation.runs("overdue")) == 2)
    first, second = site.installation.runs("overdue")
    assert (first["status"], first["run"]) == ("interrupted", facts["run"])
    assert second["status"] == "timeout"


def test_killed_altogether_the_next_trigger_runs_at_once(site):
    """kill -9 of supervisor and command: the very next trigger runs, and the lost run has its one line."""
    site.add("killed", "sleep 600")
    site.trigger("killed")
    facts = site.begun("killed")
    kill(facts["supervisor"])
    os.killpg(facts["command"][0], signal.SIGKILL)
    until(lambda: not locks.alive(facts["command"]))
    site.edit("killed", timeout=2)  # of the next run
    answer = site.trigger("killed")
    assert answer["status"] == "running"
    (line,) = site.installation.runs("killed")
    assert (line["status"], line["run"]) == ("interrupted", facts["run"])
    until(lambda: len(site.installation.runs("killed")) == 2)


def test_a_client_that_hangs_up_costs_no_run(site):
    """The command runs to its end though nobody waited for the answer."""
    site.add("hang-up", "sleep 1; echo done")
    call = Call(site.url("hang-up"))
    call.hang_up()
    until(lambda: site.installation.runs("hang-up"))
    assert [line["output"] for line in site.installation.runs("hang-up")] == ["done\n"]


def test_a_broken_home_is_one_line_in_the_error_log_and_503_outside(site):
    """The client learns nothing but that it cannot work; the server's error log says what is wrong, in one line."""
    site.add("any", "true")
    url = site.url("any")
    state = Path(site.installation.home, "state.json")
    content = state.read_bytes()
    before = len(site.server.log_text())

    try:
        state.write_bytes(b"{")
        Path(f"{state}.bak").write_bytes(b"{")

        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(url, timeout=60)

        assert error.value.code == 503
        assert error.value.read() == b'{"accepted": false}'
        error.value.close()
    finally:
        state.write_bytes(content)
        Path(f"{state}.bak").write_bytes(content)

    new = [line for line in site.server.log_text()[before:].splitlines() if "webscheduler: " in line]
    assert len(new) == 1
    assert "state.json cannot be parsed" in new[0]
    assert "Traceback" not in site.server.log_text()
