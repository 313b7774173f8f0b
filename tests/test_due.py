# SPDX-License-Identifier: LGPL-3.0-or-later
"""Ticks: what is due starts once, by priority, never too many at a time, and what cannot start now stays due.

Every tick here is a real one, by command line or URL, with real processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import accounts
from tests.commandline import Done, call, environment, finished, start
from tests.installation import Installation, until, waits_for
from webscheduler.cli.terminal import local_time
from webscheduler.runs import due, health
from webscheduler.store import history, locks, state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import DUE, load_tasks
from webscheduler.times import format_time, parse_time

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
ONCE = {"intervalSeconds": 86400}  # due at once, and then not for the rest of the test
LONG_AGO = "2020-01-01T00:00:00.000+00:00"
OLD = {"createdAt": LONG_AGO, "lastRunAt": LONG_AGO}


def tick(installation: Installation, *words: str) -> Done:
    return call(installation.home, "run-due", *words)


def ends(installation: Installation, name: str) -> list[str]:
    return [line["status"] for line in installation.runs(name)]


# Once

RUN_DUE = "import sys; from webscheduler.cli import main; sys.stdin.buffer.read(1); sys.exit(main(['run-due']))"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("both", [False, True], ids=["one tick at a time", "ticks side by side"])
def test_two_ticks_at_the_same_moment_start_no_task_twice(installation: Installation, both: bool) -> None:
    """Whether `@due` keeps them apart or, against all advice, lets them overlap: each task runs once."""
    installation.edit(DUE, preventOverlap=not both)
    tries = 100 if FULL else 6
    names = []

    for number in range(tries):
        names += [installation.add(f"task-{number}-{each}", **ONCE) for each in "abc"]
        ticks = [subprocess.Popen([sys.executable, "-c", RUN_DUE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=environment(installation.home)) for _ in range(2)]

        for process in ticks:
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.flush()

        said = [finished(process) for process in ticks]
        assert [(done.status, done.err) for done in said] == [(0, "")] * 2

    assert {name: ends(installation, name) for name in names} == {name: ["success"] for name in names}
    assert installation.claims() == []


def test_a_task_that_its_url_started_meanwhile_is_not_started_again(installation: Installation) -> None:
    """The tick finds it due, and under its gate finds that it is not due any more."""
    release = installation.home / "release"
    installation.configure(maxConcurrentTasks=1)
    installation.add("first", waits_for(release), priority=1, **ONCE)
    installation.add("second", priority=2, **ONCE)
    process = start(installation.home, "run-due", "--json")
    installation.command_runs()
    installation.trigger(name="second")
    until(lambda: ends(installation, "second") == ["success"])
    release.touch()
    done = finished(process)
    assert done.document["tasks"] == [{"name": "first", "status": "success"}, {"name": "second", "status": "skipped"}]
    assert [line["trigger"] for line in installation.history("second")] == ["url"]


def test_a_run_that_state_does_not_know_of_yet_is_known_by_its_claim(installation: Installation) -> None:
    """Between the claim and the first write of state a tick does not take the task for due."""
    release = installation.home / "release"
    installation.add("task", waits_for(release), **ONCE)
    installation.trigger(name="task")
    installation.command_runs()
    installation.edit("task", lastRunAt=None, lastRunStatus=None, lastRunId=None)
    assert tick(installation, "--dry-run").out == "nothing is due\n"
    release.touch()


# Order and number

LOGGED = ["/bin/sh", "-c", 'echo "+ $1" >> "$0"; sleep 0.05; echo "- $1" >> "$0"']


def test_a_run_that_ended_since_the_tasks_were_read_is_not_due(installation: Installation) -> None:
    """Neither its claim nor what was read of state.json tells of it: the gate does."""
    installation.add(intervalSeconds=3600)
    read = state.read(str(installation.home))
    installation.trigger()
    installation.idle()
    good, _ = load_tasks(read)
    assert due._select(load_settings(str(installation.home)), good, [], time.time()) == ([], [])


@pytest.mark.timeout(3600)
def test_a_thousand_due_tasks_run_five_at_a_time_by_priority(installation: Installation) -> None:
    """Over as many ticks as it takes, which wait for nothing: never more than five, none lost, none doubled."""
    number = 1000 if FULL else 150
    log = installation.home / "log"
    installation.configure(maxConcurrentTasks=5, tickBudgetSeconds=15 if FULL else 1, logOutput=False)
    rows = {f"task-{each:04}": (each * 7919) % number for each in range(number)}

    for name, priority in rows.items():
        installation.add(name, [*LOGGED, str(log), name], priority=priority, **ONCE)

    wanted = sorted(rows, key=lambda name: (rows[name], name))
    assert [task["name"] for task in tick(installation, "--dry-run", "--json").document["tasks"]] == wanted
    order, ticks = [], 0

    while len(order) < number:
        done = tick(installation, "--no-wait", "--json")
        assert done.status == 0
        order += [task["name"] for task in done.document["tasks"]]
        assert done.document["left"] == wanted[len(order):]
        ticks += 1

    installation.idle()
    assert order == wanted
    assert ticks > 1

    running, most = set(), 0

    for line in log.read_text().splitlines():
        sign, name = line.split()
        (running.add if sign == "+" else running.remove)(name)
        most = max(most, len(running))

    assert most <= 5
    assert all(ends(installation, name) == ["success"] for name in rows)


def test_as_many_run_side_by_side_as_the_setting_allows(installation: Installation) -> None:
    """Those that wait start as soon as others end, not when all have ended."""
    installation.configure(maxConcurrentTasks=3)
    release = {name: installation.home / f"release-{name}" for name in "abcde"}

    for priority, name in enumerate(release):
        installation.add(name, waits_for(release[name]), priority=priority, **ONCE)

    def alive() -> list[str]:
        return sorted(facts["name"] for facts in installation.facts() if locks.alive(facts.get("command")))

    process = start(installation.home, "run-due")
    until(lambda: len(alive()) >= 3)
    assert alive() == ["a", "b", "c"]
    release["b"].touch()
    until(lambda: alive() == ["a", "c", "d"])

    for file in release.values():
        file.touch()

    assert finished(process).out.splitlines() == [f"{name}: success" for name in release]


def test_runs_that_were_triggered_by_url_take_no_place(installation: Installation) -> None:
    """maxConcurrentTasks is about due runs."""
    release = installation.home / "release"
    installation.configure(maxConcurrentTasks=1)
    installation.add("by-url", waits_for(release))
    installation.add("due", **ONCE)
    installation.trigger(name="by-url")
    installation.command_runs()
    assert tick(installation).status == 0
    assert ends(installation, "due") == ["success"]
    release.touch()


def test_what_became_due_first_starts_first_among_equals(installation: Installation) -> None:
    for name, at in (("late", "2026-01-03"), ("early", "2026-01-01"), ("middle", "2026-01-02")):
        installation.add(name, intervalSeconds=60, lastRunAt=f"{at}T00:00:00Z")

    installation.add("urgent", intervalSeconds=60, lastRunAt="2026-01-04T00:00:00Z", priority=-5)
    listed = tick(installation, "--dry-run", "--json").document["tasks"]
    assert [task["name"] for task in listed] == ["urgent", "early", "middle", "late"]
    assert listed[1]["due"] == "2026-01-01T00:01:00.000+00:00"


def test_a_dry_run_writes_nothing(installation: Installation) -> None:
    installation.add("task", **ONCE)
    installation.add("broken", expression="61 * * * *")

    def state() -> dict[str, tuple[int, bytes]]:
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes())
                for path in installation.home.rglob("*") if path.is_file()}

    before = state()
    done = tick(installation, "--dry-run")
    assert done.status == 1
    assert done.out.startswith("task: would start, due since ")
    assert done.complaint.startswith("task broken: expression: minute: '61'")
    assert state() == before


def test_what_the_budget_leaves_stays_due(installation: Installation) -> None:
    """No start after the budget's end, and nothing lost: the next ticks start the rest, each once."""
    installation.configure(maxConcurrentTasks=1, tickBudgetSeconds=1)
    names = [installation.add(f"task-{number}", ["sleep", "0.7"], **ONCE) for number in range(5)]
    first = tick(installation, "--json").document
    assert first["left"], "a second is not enough for five times 0.7 seconds"
    assert [task["name"] for task in first["tasks"]] + first["left"] == names
    assert f"left due {names[-1]}\n" in installation.runs(DUE)[0]["output"]

    until(lambda: not tick(installation, "--json").document["left"])
    assert {name: ends(installation, name) for name in names} == {name: ["success"] for name in names}


# A tick waits for nothing

def test_a_long_task_blocks_no_later_tick(installation: Installation) -> None:
    """Under `fork` the tick is over, and its claim gone, while the task goes on; later ticks start the others."""
    release = installation.home / "release"
    installation.add("long", waits_for(release), intervalSeconds=1)
    assert installation.trigger(name=DUE).document["strategy"] == "fork"
    until(lambda: ends(installation, DUE) == ["success"])
    installation.command_runs()

    for number in range(3):
        installation.add(f"short-{number}", **ONCE)
        time.sleep(0.4)
        installation.trigger(name=DUE)
        until(lambda number=number: ends(installation, f"short-{number}") == ["success"])

    assert ends(installation, "long") == []
    assert [line["reason"] for line in installation.history("long")] == ["locked"]  # one line a minute
    release.touch()
    until(lambda: ends(installation, "long") == ["success"])


@pytest.mark.parametrize(("door", "strategy", "detached"), [("cgi", "sync", False), ("wsgi", "sync", False),
                                                            ("wsgi", "close", False)])
def test_under_sync_and_close_a_tick_is_over_when_all_is_done(
    installation: Installation, door: str, strategy: str, detached: bool
) -> None:
    """Where the host lets nothing live on, what was started is awaited within the request."""
    installation.edit(DUE, strategy=strategy)
    names = [installation.add(f"task-{number}", ["sleep", "0.3"], **ONCE) for number in range(3)]
    names.append(installation.add("bad", ["false"], failureStatus=500, **ONCE))
    answer = installation.trigger(door, DUE)
    assert [ends(installation, name) for name in names] == [["success"]] * 3 + [["failed"]]
    assert [line["strategy"] for line in installation.runs("bad")] == [strategy]
    assert (answer.status, answer.document["strategy"], answer.document["detached"]) == (
        200 if strategy == "sync" else 202, strategy, detached)

    if strategy == "sync":
        assert answer.document["status"] == "success"  # the tick did its work; its tasks speak for themselves
        assert answer.document["output"].splitlines() == [f"started {name}" for name in sorted(names)]


def test_run_due_waits_and_tells_by_its_exit_status(installation: Installation) -> None:
    """0 when all went well, 1 when a task failed; what failed is named on standard error, the rest on the other."""
    installation.add("good", ["sleep", "0.2"], **ONCE)
    assert tick(installation) == Done(0, "good: success\n", "")
    assert tick(installation) == Done(0, "", "")
    installation.add("bad", ["false"], **ONCE)
    done = tick(installation)
    assert (done.status, done.out) == (1, "bad: not successful\n")
    assert done.complaint == "bad did not succeed: `webscheduler logs bad` shows why"


def test_run_due_lets_the_claim_go_before_it_waits(installation: Installation) -> None:
    """Two crontab lines a minute apart, the first with a task that takes longer: the second is a tick like any."""
    release = installation.home / "release"
    installation.add("long", waits_for(release), **ONCE)
    process = start(installation.home, "run-due")
    installation.command_runs()
    until(lambda: ends(installation, DUE) == ["success"])
    installation.add("short", **ONCE)
    assert tick(installation).out == "short: success\n"
    assert process.poll() is None
    release.touch()
    assert finished(process).out == "long: success\n"


def test_run_due_while_a_tick_is_at_work(installation: Installation) -> None:
    """Nothing is wrong then: the other starts what is due."""
    release = installation.home / "release"
    installation.configure(maxConcurrentTasks=1)
    installation.add("long", waits_for(release), priority=1, **ONCE)
    installation.add("next", priority=2, **ONCE)
    process = start(installation.home, "run-due")
    installation.command_runs()
    assert tick(installation) == Done(0, "another tick is running: it starts what is due\n", "")
    assert tick(installation, "--json").document["reason"] == "locked"
    release.touch()
    assert finished(process).out == "long: success\nnext: success\n"


# Retries and slots that are let go

def test_a_task_that_fails_is_tried_again_as_often_as_it_says(installation: Installation) -> None:
    installation.add("task", ["false"], retries=2, retryDelaySeconds=0, expression="0 0 1 1 *", **OLD)
    assert [tick(installation).status for _ in range(4)] == [1, 1, 1, 0]
    lines = installation.history("task")
    assert [(line["status"], line["attempt"], line["trigger"]) for line in lines] == [
        ("failed", number, "due") for number in (1, 2, 3)]
    assert [parse_time(line["scheduledFor"]) <= parse_time(line["startedAt"]) for line in lines] == [True] * 3
    assert installation.row("task")["consecutiveFailures"] == 3


def test_an_interrupted_run_is_not_tried_again(installation: Installation) -> None:
    """Nobody knows how far it got."""
    installation.add("task", ["sleep", "60"], retries=5, retryDelaySeconds=0, **ONCE)
    process = start(installation.home, "run-due")
    facts = installation.command_runs()
    os.kill(facts["supervisor"][0], 9)
    os.kill(facts["command"][0], 9)
    assert finished(process).status == 1
    assert tick(installation) == Done(0, "", "")
    assert ends(installation, "task") == ["interrupted"]
    assert tick(installation, "--dry-run").out == "nothing is due\n"


def test_a_slot_that_is_too_late_is_recorded_once_and_let_go(installation: Installation) -> None:
    installation.add("task", expression="0 0 1 1 *", catchUpSeconds=60, lastRunStatus="success", **OLD)
    assert tick(installation, "--dry-run").out.startswith("task: too late, due since ")
    assert tick(installation).out == "task: skipped\n"
    assert tick(installation).out == ""
    line, = installation.history("task")
    assert (line["status"], line["reason"], line["run"], line["trigger"]) == ("skipped", "too_late", None, "due")
    assert line["scheduledFor"].endswith("-01-01T00:00:00.000+00:00")
    row = installation.row("task")
    assert (row["lastRunAt"], row["lastRunStatus"]) == (LONG_AGO, "success")
    assert parse_time(row["scheduledSince"]) <= time.time()


def test_who_holds_the_places_is_named(installation: Installation) -> None:
    """By the tick, its line of history and `status`: the run that hangs, and since when, while another is due."""
    installation.configure(maxConcurrentTasks=1, tickBudgetSeconds=1)
    release = installation.home / "release"
    installation.add("hangs", waits_for(release), timeout=0, priority=1, **ONCE)
    assert tick(installation, "--no-wait").out == "hangs: running\n"
    assert call(installation.home, "status", "--json").document["places"]["held"][0]["name"] == "hangs"
    installation.add("waits", **ONCE)
    done = tick(installation)
    until(lambda: installation.row("hangs")["lastRunStatus"] == "running")
    since = local_time(installation.row("hangs")["lastRunAt"])
    held = f"all places (maxConcurrentTasks) are held, by hangs since {since}\n"
    assert done.out == "waits: still due, no place is free\n" + held
    assert tick(installation, "--json").document["held"] == ["hangs"]
    output = installation.runs(DUE)[-1]["output"]
    assert output == (f"left due waits\nplace held by hangs since {installation.row('hangs')['lastRunAt']}, "
                      f"run {installation.row('hangs')['lastRunId']}\n")
    assert held in call(installation.home, "status").out
    release.touch()
    installation.idle()
    assert tick(installation).out == "waits: success\n"
    report = call(installation.home, "status")
    assert "places" not in report.out
    assert call(installation.home, "status", "--json").document["places"] == {"most": 1, "held": []}


# No process to be had

@pytest.fixture
def poor() -> Iterator[Installation]:
    """An installation of an account that the machine gives no more processes, where root can make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another account")

    with accounts.place() as directory:
        made = Installation(directory / "home")
        yield made
        made.end()


def as_account(installation: Installation, code: str, processes: int | None) -> subprocess.CompletedProcess[str]:
    accounts.give(installation.home, 54321)
    return accounts.run(["-c", code], 54321, processes, WEBSCHEDULER_HOME=str(installation.home))


COMMAND_LINE = "import sys; from webscheduler.cli import main; sys.exit(main(['run-due']))"


def test_a_tick_that_gets_no_process_leaves_all_due(poor: Installation) -> None:
    poor.add("task", **ONCE)
    poor.add("other", expression="0 0 1 1 *", **OLD)
    done = as_account(poor, COMMAND_LINE, 1)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"{name}: still due, this tick has no time left" for name in ("other", "task")]
    assert done.stderr == "webscheduler: the host gave no process: Resource temporarily unavailable\n"
    assert poor.history("task") == poor.history("other") == poor.claims() == []
    assert as_account(poor, COMMAND_LINE, None).stdout == "other: success\ntask: success\n"


def test_a_due_run_whose_command_gets_no_process_stays_due(poor: Installation) -> None:
    """It is recorded as failed with that reason, and its slot, or its attempt, is given back."""
    code = """
import resource, time
from webscheduler.runs import supervisor
from webscheduler.runs.admission import Cause, decide
from webscheduler.schedule import slots
from webscheduler.store.settings import load_settings
settings = load_settings({home!r})
slot = lambda task, last: slots.slot(task, "UTC", last, time.time())
decision = decide(settings.home, {name!r}, Cause("due", still_due=slot), time.time())
entry = supervisor.supervise(settings.home, decision.claim, time.time)
print(entry["status"], entry["reason"], entry["attempt"])
"""
    poor.add("task", expression="0 0 1 1 *", **OLD)
    poor.add("again", ["false"], retries=1, retryDelaySeconds=0, lastRunStatus="failed", **OLD)

    for name, attempt in (("task", 1), ("again", 2)):
        done = as_account(poor, code.format(home=str(poor.home), name=name), 1)
        assert (done.stdout, done.stderr) == (f"failed no_process {attempt}\n", "")
        assert poor.row(name)["lastRunAt"] == LONG_AGO
        done = as_account(poor, code.format(home=str(poor.home), name=name), None)
        assert done.stdout == f"{'success' if name == 'task' else 'failed'} None {attempt}\n"


# Files as they may be

FIRST_FIELDS = {"enabled": True, "expression": None, "intervalSeconds": None, "lastRunAt": None,
                "lastRunDuration": None, "lastRunStatus": None, "lastRunExitCode": None, "nextRunAt": None,
                "preventOverlap": True, "priority": 100, "timeout": None, "arguments": ""}


def test_an_old_state_json_is_worked_with_as_it_is(installation: Installation) -> None:
    """The first fields alone, and one that nobody knows; `running` without a claim is not running."""
    old = {**FIRST_FIELDS, "argv": ["true"], "cwd": "/", "theirs": {"kept": 1}}
    rows = {"never": {**old, "expression": "* * * * *"}, "running": {**old, "intervalSeconds": 60,
            "lastRunAt": LONG_AGO, "lastRunStatus": "running"}}  # fmt: skip
    due_row = installation.row(DUE)
    (installation.home / "state.json").write_text(json.dumps({**rows, DUE: due_row}))
    assert tick(installation).out == "running: success\n"
    assert installation.row("running")["lastRunStatus"] == "success"
    assert installation.row("running")["theirs"] == {"kept": 1}
    # Of `never` nothing was known: from now on something is.
    assert parse_time(installation.row("never")["scheduledSince"]) <= time.time()
    assert parse_time(installation.row("never")["nextRunAt"]) > parse_time(installation.row("never")["scheduledSince"])


def test_a_cleared_schedule_loses_its_next_run(installation: Installation) -> None:
    installation.add("task", expression="0 0 1 1 *", nextRunAt="2030-01-01T00:00:00Z")
    tick(installation)
    assert installation.row("task")["nextRunAt"].endswith("-01-01T00:00:00.000+00:00")
    call(installation.home, "edit", "task", "--cron", "")
    assert installation.row("task")["nextRunAt"] is None
    installation.edit("task", nextRunAt="2030-01-01T00:00:00Z")  # a slip in the file is mended by the next tick
    tick(installation)
    assert installation.row("task")["nextRunAt"] is None


def test_a_task_that_cannot_be_told_holds_up_no_other(installation: Installation) -> None:
    installation.add("broken", expression="61 * * * *")
    installation.add("odd", priority="high", **ONCE)
    installation.add("zoned", timezone="Mars/Olympus", expression="* * * * *")
    installation.add("good", **ONCE)
    done = tick(installation)
    assert (done.status, done.out) == (1, "good: success\n")
    assert [problem.split(":")[1] for problem in sorted(done.err.splitlines())] == [
        " task broken", " task odd", " task zoned"]
    assert installation.runs(DUE)[0]["errorOutput"].count("\n") == 3


def test_a_state_json_that_only_its_copy_stands_in_for_stops_no_tick(installation: Installation) -> None:
    """What is due runs, once, though nothing can be written down but history and the gates."""
    installation.add("task", **ONCE)
    (installation.home / "state.json").write_text("{")
    done = tick(installation)
    assert (done.status, done.out) == (1, "task: success\n")
    assert "state.json cannot be parsed" in done.complaint
    tick(installation)
    assert ends(installation, "task") == ["success"]
    assert (installation.home / "state.json").read_text() == "{"


def test_a_time_that_a_wrong_clock_left_blocks_no_task(installation: Installation) -> None:
    """Once the clock was a year ahead; the next tick counts from its own time, in state and at the gate."""
    ahead = time.time() + 366 * 86400
    installation.add("task", expression="* * * * *", lastRunAt=format_time(ahead), lastRunStatus="success")

    with locks.Gate(str(installation.home), "task") as gate:
        gate.last_start = ahead
        gate.save()

    tick(installation)
    assert installation.history("task") == []
    assert parse_time(installation.row("task")["lastRunAt"]) <= time.time()

    # A minute later, which is now for the files.
    past = time.time() - 60

    with locks.Gate(str(installation.home), "task") as gate:
        assert gate.last_start <= time.time()
        gate.last_start = past
        gate.save()

    installation.edit("task", lastRunAt=format_time(past), createdAt=format_time(past))
    assert tick(installation).out == "task: success\n"


def test_a_gate_that_cannot_be_had_stops_no_other_task(installation: Installation) -> None:
    """A time of one task is to be corrected under its gate, which cannot be opened: the tick says so, and runs the
    others, those that come after it too."""
    for name, fields in {"before": ONCE, "broken": {**ONCE, "lastRunAt": "2999-01-01T00:00:00.000+00:00"},
                         "behind": ONCE}.items():
        installation.add(name, **fields)

    (installation.home / "locks" / "broken.lock").mkdir()
    done = tick(installation)
    assert done.status == 1
    assert "broken.lock" in done.complaint
    assert ends(installation, "before") == ends(installation, "behind") == ["success"]


# Whether all is well

def test_a_task_is_late_a_quarter_of_an_hour_after_its_slot(installation: Installation) -> None:
    settings = load_settings(str(installation.home))
    installation.add("task", expression="7 3 * * *", createdAt="2026-03-01T03:07:00Z")

    def told(now: str) -> Any:
        return health.health(settings, state.read(settings.home), "task", parse_time(now))["status"]

    assert [told(f"2026-03-02T03:{minute}:00Z") for minute in ("00", "07", "22", "23")] == [
        "healthy", "healthy", "healthy", "late"]


def test_the_rhythm_of_ticks_is_the_median_of_their_last_gaps(installation: Installation) -> None:
    home = str(installation.home)
    assert health.rhythm(home) == {"lastAt": None, "every": None}

    for second in (0, 900, 1800, 2700, 90000, 90900):  # a night without calls is no rhythm
        history.append(home, DUE, {"run": f"r{second}", "startedAt": format_time(1767225600 + second)})
        history.append(home, DUE, {"run": None, "startedAt": format_time(1767225600 + second + 1)})

    assert health.rhythm(home) == {"lastAt": format_time(1767225600 + 90900), "every": 900}


def test_status_names_what_is_finer_than_the_ticks_or_as_fine(installation: Installation) -> None:
    """With what to do; a schedule in order is not named, nor one that is off."""
    for second in range(0, 9000, 900):
        at = format_time(time.time() - 9000 + second)
        history.append(str(installation.home), DUE, {"run": f"r{second}", "startedAt": at})

    installation.add("finer", expression="*/5 * * * *")
    installation.add("equal", intervalSeconds=900)
    installation.add("fine", intervalSeconds=840)
    installation.add("quarter", expression="*/15 * * * *")
    installation.add("off", expression="*/5 * * * *", enabled=False)
    installation.add("broken", expression="61 * * * *")
    warnings = call(installation.home, "status", "--json").document["warnings"]
    assert sorted(each.partition(",")[0] for each in warnings if "ticks come every 900 s" in each) == [
        "equal has an interval of 900 s", "finer is scheduled every 300 s"]
    assert "an interval of 840 s" in next(each for each in warnings if each.startswith("equal"))
