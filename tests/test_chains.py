# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks that run after others: `onSuccess` and `onFailure`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser, restore
from tests.commandline import call
from tests.installation import DOORS, Installation, until
from webscheduler.store import chains, state
from webscheduler.vocabulary import DUE

FAILING = ("sh", "-c", "exit 3")


@pytest.fixture
def chain(installation: Installation) -> Iterator[Installation]:
    """`task`, which is followed by `good` after success, which is followed by `last`; and by `bad` after a failure."""
    for name, fields in (("last", {}), ("good", {"onSuccess": ["last"]}), ("bad", {})):
        installation.add(name, **fields)

    installation.add(onSuccess=["good"], onFailure=["bad"])
    yield installation
    installation.idle()


def ran(installation: Installation, name: str) -> list[dict[str, Any]]:
    """The runs of a task, the oldest first."""
    file = installation.home / "logs" / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def left(installation: Installation) -> dict[str, int]:
    return {name: len(chains.marks(row)) for name, row in state.read(str(installation.home)).items()
            if chains.marks(row)}


@pytest.mark.parametrize("door", DOORS)
def test_a_run_is_followed(chain: Installation, door: str) -> None:
    """By the supervisor of the run before, without a tick; each run says which one it followed."""
    run = chain.trigger(door).document["run"]
    until(lambda: ran(chain, "last"))
    chain.idle()
    good, last = ran(chain, "good"), ran(chain, "last")
    assert [(entry["after"], entry["trigger"], entry["status"]) for entry in good] == [(run, "after", "success")]
    assert [entry["after"] for entry in last] == [good[0]["run"]]
    assert ran(chain, "bad") == [] and left(chain) == {}
    assert ran(chain, "task")[0]["after"] is None


def test_a_run_by_hand_is_followed_too(chain: Installation) -> None:
    assert call(chain.home, "run", "task").status == 0
    until(lambda: ran(chain, "last"))
    assert len(ran(chain, "good")) == 1


def test_a_failure_is_followed_after_the_last_attempt(chain: Installation) -> None:
    """Not before, though ticks come."""
    chain.edit(argv=list(FAILING), retries=1, retryDelaySeconds=0)
    chain.trigger()
    chain.idle()
    assert ran(chain, "bad") == [] and left(chain) == {}
    assert call(chain.home, "run-due").status == 1
    until(lambda: ran(chain, "bad"))
    assert [entry["attempt"] for entry in ran(chain, "task")] == [1, 2]
    assert [entry["after"] for entry in ran(chain, "bad")] == [ran(chain, "task")[1]["run"]]
    assert ran(chain, "good") == []


def test_a_failure_whose_retry_another_run_overtook_is_followed(chain: Installation) -> None:
    """Once that has failed, too: a task that is due at each tick would never come to its last attempt."""
    chain.edit(argv=list(FAILING), retries=1, retryDelaySeconds=3600)
    first = chain.trigger().document["run"]
    chain.idle()
    assert ran(chain, "bad") == [] and left(chain) == {}
    chain.trigger()
    until(lambda: ran(chain, "bad"))
    chain.idle()
    chain.edit(argv=["true"])
    chain.trigger()
    until(lambda: ran(chain, "last"))
    chain.idle()
    assert [entry["after"] for entry in ran(chain, "bad")] == [first]


def test_a_timeout_is_followed(chain: Installation) -> None:
    chain.edit(argv=["sleep", "60"], timeout=1)
    chain.trigger()
    assert until(lambda: ran(chain, "bad"))


def test_a_cancelled_run_is_followed_by_nothing(chain: Installation) -> None:
    chain.edit(argv=["sleep", "60"])
    chain.trigger()
    until(lambda: any("command" in facts for facts in chain.facts()))
    assert call(chain.home, "cancel", "task").status == 0
    chain.idle()
    assert ran(chain, "task")[0]["status"] == "interrupted"
    assert left(chain) == {} and ran(chain, "good") == ran(chain, "bad") == []


def test_a_failure_of_a_disabled_task_is_followed_at_once(chain: Installation) -> None:
    """Run by hand: no tick tries it again, so this was its last attempt."""
    chain.edit(argv=list(FAILING), retries=3, enabled=False)
    assert call(chain.home, "run", "task").status == 1
    assert until(lambda: ran(chain, "bad"))


@pytest.mark.parametrize("why", ["disabled", "locked"])
def test_what_is_skipped_is_recorded_and_not_tried_again(chain: Installation, why: str) -> None:
    if why == "disabled":
        chain.edit("good", enabled=False)
    else:
        chain.edit("good", argv=["sleep", "60"])
        chain.trigger(name="good")
        until(lambda: any("command" in facts for facts in chain.facts()))

    chain.trigger()
    until(lambda: ran(chain, "good"))
    until(lambda: left(chain) == {})
    assert [(entry["status"], entry["reason"], entry["trigger"], entry["after"]) for entry in ran(chain, "good")] == [
        ("skipped", why, "after", ran(chain, "task")[0]["run"])]
    chain.end()
    chain.edit("good", enabled=True, argv=["true"])
    call(chain.home, "run-due")
    chain.idle()
    assert not [entry for entry in ran(chain, "good") if entry["after"] and entry["status"] == "success"]


def test_a_tick_starts_what_nobody_started(chain: Installation) -> None:
    """After a `sync` run, which a request waits for."""
    chain.edit(strategy="sync")
    assert chain.trigger().status == 200
    assert left(chain) == {"good": 1}
    said = [each for each in call(chain.home, "doctor", "--json").document if each["about"] == "ticks"]
    assert said[0]["state"] == "mend" and "waiting to follow others: good" in said[0]["text"]
    chain.trigger(name=DUE)
    until(lambda: ran(chain, "last"))
    chain.idle()
    assert len(ran(chain, "good")) == 1 and left(chain) == {}


def test_a_tick_leaves_what_runs_alone(chain: Installation) -> None:
    """The mark of a run stays until that is recorded, and is neither used again nor skipped."""
    go_on = chain.home / "go-on"
    chain.edit("good", argv=["sh", "-c", f"while [ ! -e {go_on} ]; do sleep 0.02; done"])
    chain.trigger()
    until(lambda: any(facts.get("after") and "command" in facts for facts in chain.facts()))
    assert call(chain.home, "run-due", "--json").document["tasks"] == []
    assert call(chain.home, "run-due", "--dry-run").out.strip() == "nothing is due"
    go_on.touch()
    until(lambda: ran(chain, "last"))
    assert [entry["status"] for entry in ran(chain, "good")] == ["success"]


def test_no_more_start_than_there_are_places(chain: Installation) -> None:
    """The others wait for a tick."""
    assert call(chain.home, "config", "set", "maxConcurrentTasks", "1").status == 0
    chain.edit(onSuccess=["good", "bad"])
    chain.edit("good", onSuccess=[])
    chain.trigger()
    until(lambda: ran(chain, "good"))
    chain.idle()
    assert left(chain) == {"bad": 1}
    call(chain.home, "run-due")
    until(lambda: ran(chain, "bad"))


def test_a_mark_of_an_earlier_copy_is_not_used_again(chain: Installation) -> None:
    """state.json is put back to where the run was still to come: history knows that it did."""
    chain.edit(strategy="sync")
    chain.trigger()
    before = (chain.home / "state.json").read_bytes()
    call(chain.home, "run-due")
    until(lambda: ran(chain, "last"))
    chain.idle()
    (chain.home / "state.json").write_bytes(before)
    call(chain.home, "run-due")
    chain.idle()
    assert len(ran(chain, "good")) == 1
    assert left(chain) == {}


@pytest.mark.parametrize("broken", [5, "text", [7, None], {"a": 1}])
def test_what_a_hand_has_broken_stops_no_record(chain: Installation, broken: object) -> None:
    """In the row of what follows: the run before is recorded all the same."""
    chain.edit("good", followUps=broken)
    chain.trigger()
    until(lambda: ran(chain, "task"))
    chain.idle()
    assert chain.row()["lastRunStatus"] == "success"


@pytest.mark.parametrize(("words", "problem"), [
    (["edit", "last", "--on-success", "task"], "--on-success: 'task' leads back to 'last'"),
    (["edit", "last", "--on-success", "bad", "--on-failure", "task"], "--on-failure: 'task' leads back to 'last'"),
    (["edit", "last", "--on-failure", "last"], "--on-failure: 'last' leads back to 'last'"),
    (["edit", "last", "--on-success", "goood"], "--on-success: no task is named 'goood' (did you mean 'good'?)"),
    (["edit", "last", "--on-success", "@due"], "--on-success: no task is named '@due'"),
    (["add", "new", "--on-failure", "nobody", "--", "true"], "--on-failure: no task is named 'nobody'"),
])
def test_what_is_no_chain_is_refused(chain: Installation, words: list[str], problem: str) -> None:
    before = (chain.home / "state.json").read_bytes()
    done = call(chain.home, *words)
    assert done.status == 2 and done.complaint.startswith(problem)
    assert (chain.home / "state.json").read_bytes() == before


def test_sixteen_in_a_row_are_the_most(installation: Installation) -> None:
    """From either end; a longer one that was written by hand ends after sixteen."""
    installation.add("t17")

    for number in range(16, 1, -1):
        assert call(installation.home, "add", f"t{number}", "--on-success", f"t{number + 1}", "--", "true").status == 0

    assert "more than 16 runs in a row" in call(
        installation.home, "add", "t1", "--on-success", "t2", "--", "true").complaint
    installation.add("t1", onSuccess=["t2"])
    installation.trigger(name="t1")
    until(lambda: ran(installation, "t16"))
    installation.idle()
    call(installation.home, "run-due")
    assert not ran(installation, "t17")


def test_names_follow_a_rename_and_a_removal(chain: Installation) -> None:
    assert call(chain.home, "rename", "good", "better").status == 0
    assert chain.row()["onSuccess"] == ["better"]
    assert call(chain.home, "remove", "better", "--yes").status == 0
    assert chain.row()["onSuccess"] == []


def test_an_import_takes_chains_along(chain: Installation, tmp_path: Path) -> None:
    """All or nothing: one whose follower is not there is refused."""
    file, other = tmp_path / "tasks.json", Installation(tmp_path / "other")
    exported = call(chain.home, "export", "json").document
    file.write_text(json.dumps(exported))
    assert call(other.home, "import", "json", str(file)).status == 0
    assert other.row("good")["onSuccess"] == ["last"]
    del exported["tasks"]["last"]
    file.write_text(json.dumps(exported))
    third = Installation(tmp_path / "third")
    assert "task good: onSuccess: no task is named 'last'" in call(third.home, "import", "json", str(file)).complaint
    assert "good" not in state.read(str(third.home))


def test_an_import_refuses_circles_and_what_is_too_long(chain: Installation, tmp_path: Path) -> None:
    """However long, and in one sentence."""
    file, other = tmp_path / "tasks.json", Installation(tmp_path / "other")

    for count, last, problem in ((3, "t0", "leads back to"), (3000, "t2999", "more than 16 runs in a row")):
        rows = {f"t{number}": {"argv": ["true"], "onSuccess": [f"t{number + 1}"]} for number in range(count - 1)}
        rows[f"t{count - 1}"] = {"argv": ["true"], "onSuccess": [last] if last == "t0" else []}
        file.write_text(json.dumps(rows))
        done = call(other.home, "import", "json", str(file))
        assert done.status == 2 and problem in done.complaint and done.complaint.startswith("task t")


def test_what_was_still_to_follow_elsewhere_is_not_imported(chain: Installation, tmp_path: Path) -> None:
    """A backup may be old."""
    chain.edit(strategy="sync")
    chain.trigger()
    assert left(chain) == {"good": 1}
    file, other = tmp_path / "tasks.json", Installation(tmp_path / "other")
    file.write_text(json.dumps(call(chain.home, "export", "json").document))
    assert call(other.home, "import", "json", str(file)).status == 0
    assert left(other) == {}


def test_a_backup_of_which_tasks_are_left_out_comes_back(chain: Installation) -> None:
    """From a file that is not sealed, programs stay out: what leads to them leads nowhere. What is here stays."""
    browser = Browser(chain, user=lambda environ: {"name": "owner", "role": "owner"})
    rows = {"new": {"argv": ["true"], "onSuccess": ["newer"]}, "hi": {"command": "hello", "onSuccess": ["new", "last"]}}
    backup = {"format": "webscheduler tasks", "version": 1, "tasks": rows}
    restore(browser, backup)
    assert chain.row("hi")["onSuccess"] == ["last"]
    assert "new" not in state.read(str(chain.home))


def test_a_crontab_says_what_it_can_of_a_chain(chain: Installation) -> None:
    """&& after the commands of a shell; nothing where webscheduler itself runs the task there."""
    chain.edit(expression="0 3 * * *", argv=["first"], onFailure=[], preventOverlap=False, timeout=0)
    chain.edit("good", argv=["second"], preventOverlap=False, timeout=0)
    chain.edit("last", argv=["third"], timeout=0)
    text = call(chain.home, "export", "crontab").out
    last = 'cd / && flock -n -E0 "$HOME"/.webscheduler-last.lock third'
    assert f"0 3 * * * (cd / && first) && ((cd / && second) && ({last}))" in text
    chain.edit(onSuccess=["good", "last"], onFailure=["bad"])
    text = call(chain.home, "export", "crontab").out
    assert "# task: what follows its failure is lost" in text and "&& { (" in text

    assert "# last: is left out: it has no schedule of its own, and runs after good, task\n" in text

    for kind in ("systemd", "kubernetes"):
        text = call(chain.home, "export", kind).out
        assert "# task: what follows it is lost, since this format cannot say it\n" in text
        assert "# bad: is left out: it has no schedule of its own, and runs after task\n" in text


def test_a_crontab_ends_what_would_never_end(installation: Installation) -> None:
    """Of tasks that all lead to one another by many ways, as an import may bring them, or in circles, written by hand.
    """
    for number in range(15, 0, -1):
        installation.add(f"t{number}", onSuccess=[f"t{number + 1}", f"u{number + 1}"] if number < 15 else [])
        installation.add(f"u{number}", onSuccess=[f"t{number + 1}", f"u{number + 1}"] if number < 15 else [])

    installation.edit("t1", expression="0 3 * * *")
    installation.add("round", expression="0 4 * * *", onSuccess=["round"])
    text = call(installation.home, "export", "crontab").out
    assert "# t1: what follows it is lost" in text and "# round: what follows it is lost" in text
    assert max(map(len, text.splitlines())) < 4000


def test_the_line_of_a_crontab_does_so(chain: Installation, tmp_path: Path) -> None:
    """A shell runs what follows a success, and nothing after a failure or a lock that is held."""
    said = tmp_path / "said"
    chain.edit(expression="0 3 * * *", argv=["sh", "-c", f"echo first >> {said}"], onFailure=[], timeout=5)
    chain.edit("good", argv=["sh", "-c", f"echo second >> {said}; exit 1"])
    chain.edit("last", argv=["sh", "-c", f"echo third >> {said}"])
    line = next(line for line in call(chain.home, "export", "crontab").out.splitlines() if line.startswith("0 3 "))
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run(["sh", "-c", line[len("0 3 * * * "):]], env=environment, check=False)
    assert said.read_text().split() == ["first", "second"]
    lock = tmp_path / ".webscheduler-task.lock"
    subprocess.run(["flock", lock, "sh", "-c", line[len("0 3 * * * "):]], env=environment, check=False)
    assert said.read_text().split() == ["first", "second"]


def test_the_panel_shows_and_sets_chains(chain: Installation) -> None:
    """A task leads to what follows it, a run to what it followed; names are one a line."""
    chain.trigger()
    until(lambda: ran(chain, "last"))
    chain.idle()
    browser = Browser(chain, user=lambda environ: {"name": "owner", "role": "owner"})
    page = browser.get("task", name="task")
    assert 'name=good">good</a>' in page and "After a failure" in page
    run = ran(chain, "good")[0]
    page = browser.get("run", name="good", run=run["run"])
    assert f'name=task&amp;run={run["after"]}">task</a>' in page and "another task" in page
    browser.get("edit", name="last")
    page = browser.submit("edit", onSuccess="bad\ntask", do="save")
    assert "leads back to" in page
    browser.submit("edit", onSuccess="bad", do="save")
    assert chain.row("last")["onSuccess"] == ["bad"]


def test_lists_and_the_timeline_show_chains(chain: Installation) -> None:
    """What a task follows stands with its schedule, and below what it follows on the next day."""
    chain.edit(expression="0 3 * * *")
    text = call(chain.home, "list").out
    assert "after success of task" in text and "after failure of task" in text
    assert call(chain.home, "show", "last").out.count("after success of good") == 1
    page = Browser(chain, user=lambda environ: {"name": "viewer", "role": "viewer"}).get("")
    assert "After success of <a href" in page
    assert "↳ good" in page
