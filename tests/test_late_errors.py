# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors that come when something was done already: either nothing has changed, or the error says what has.

Rules: a file is made unwritable as only `chattr +i` does it for root, too. Where no real disk makes a call fail when it
is wanted, strace says EIO in its place: one call of one process, found in a trace of the same thing without a fault.
For close(2), which frees the number also when it fails, strace leaves the file open; so only what follows is looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.admin.client import Browser, populate
from tests.admin.test_settings import backup, restore
from tests.commandline import call
from tests.installation import Installation, answered
from tests.test_witnesses import STRACE, needs_strace, script


class Traced:
    """What was run under strace: how it was answered, and its calls, each with its number among those of its name."""

    def __init__(self, installation: Installation, fault: str = "", call: str = "") -> None:
        with tempfile.TemporaryDirectory() as folder:
            options = ["-y", "-s", "60", "-e", "signal=none", "-o", f"{folder}/of"]
            options += ["-e", f"inject={fault}"] if fault else ["-e", f"trace={call}"]
            words = [str(STRACE), *options, sys.executable, "-I", "-S"]

            with installation.start_cgi(installation.signed(), words=words, script=script(installation)) as process:
                self.answer = answered(process)

            installation.gone()
            self.lines = Path(folder, "of").read_text("utf-8", "replace").splitlines()

    def numbers(self, call: str, about: str) -> list[int]:
        """Which of the calls of that name are about this."""
        calls = [line for line in self.lines if line.startswith(f"{call}(")]
        return [place for place, line in enumerate(calls, 1) if re.search(about, line)]


@pytest.mark.parametrize("error", ["EIO", "EDQUOT"])
@pytest.mark.parametrize(("what", "times"), [(r"runs/task@", 2), (r"locks/task\.lock", 1)])
def test_closing_fails_after_a_run_was_accepted(
    installation: Installation, what: str, times: int, error: str
) -> None:
    """On a network file system close(2) may say that something was not written. A run that goes on was accepted."""
    needs_strace()
    installation.add()
    Traced(installation, call="close")  # once to make the index, and what Python keeps of modules
    numbers = Traced(installation, call="close").numbers("close", what)
    assert len(numbers) == times

    for number in numbers:
        traced = Traced(installation, fault=f"close:error={error}:when={number}")
        (failed,) = [line for line in traced.lines if "INJECTED" in line]
        assert re.search(what, failed)
        assert (traced.answer.status, traced.answer.document["status"]) == (202, "running")
        installation.idle()

    assert [run["status"] for run in installation.runs()] == ["success"] * (2 + times)


# What the command line does, and how it is said if standard output cannot be written.
DOING = {
    "add new -- true": "Added new, but ", "edit task --title t": "Changed task: title, but ",
    "rename task new": "Renamed task to new; its URL is the same, but ", "remove task --yes": "Removed task and its ",
    "disable task": "disabled: task, but ", "rotate-secret task": "task has a new secret; its old URLs no longer ",
    "config set name n": "name is changed, but ", "set-password alice": "alice can sign in, but ",
    "api-key add new --role viewer": "the key new is made, but ", "api-key revoke known": "The key known no longer ",
    "purge-logs --yes": "1 line is removed, but ", "run task": "task: success after ",
    "run-due --json": "@due has run: ",
    "import -": "0 tasks imported, but ", "init --password-stdin alice": "alice can sign in to the panel, but ",
    "bundle --output FILE": "FILE runs on ",
}  # fmt: skip


@pytest.mark.parametrize("words", DOING)
def test_output_that_cannot_be_written_does_not_undo(installation: Installation, words: str) -> None:
    """Whoever hears of the full disk hears what was done all the same, and is not left to do it again."""
    home = installation.home
    installation.add(argv=["echo", "hello"])
    call(home, "run", "task")
    call(home, "api-key", "add", "known", "--role", "viewer")
    before = (home / "state.json").read_bytes(), (home / "config.json").read_bytes()
    said = DOING[words].replace("FILE", f"{home.parent}/bundle")

    with open("/dev/full", "wb") as full:
        done = call(home, *words.replace("FILE", f"{home.parent}/bundle").split(), stdout=full,
                    given=b"correct horse battery\n" if "password" in words else b"{}")

    told = done.err.splitlines()[-1]
    assert told.startswith(f"webscheduler: {said}")
    assert told.endswith(", but No space left on device")
    assert done.status == 1
    after = (home / "state.json").read_bytes(), (home / "config.json").read_bytes()
    assert (before == after) == words.startswith(("set-password", "api-key", "purge", "import", "init", "bundle"))


@contextmanager
def immutable(file: Path) -> Iterator[None]:
    """Nobody can write the file, or put another in its place, whatever the rights of its folder."""
    if not shutil.which("chattr") or subprocess.run(["chattr", "+i", file], capture_output=True).returncode:
        pytest.skip("chattr +i needs e2fsprogs, root, and a file system that knows it")

    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", file], check=True)


@pytest.mark.parametrize("words", ["add new -- true", "edit task --title t", "rename task new", "remove task --yes",
                                   "disable task", "rotate-secret task"])
@pytest.mark.parametrize("file", ["state.json", "state.json.bak"])
def test_a_file_that_cannot_be_replaced_keeps_everything(installation: Installation, file: str, words: str) -> None:
    """What is said to be not written is not written: the tasks are as they were, and so is their history."""
    home = installation.home
    installation.add()
    call(home, "run", "task")
    call(home, "api-key", "add", "known", "--role", "viewer")
    before = (home / "state.json").read_bytes(), installation.history()

    with immutable(home / file):
        done = call(home, *words.split())

    assert (done.status, done.out) == (1, "")
    assert done.complaint == f"{home / file} cannot be written: Operation not permitted"
    assert ((home / "state.json").read_bytes(), installation.history()) == before
    assert [each for each in home.iterdir() if each.name.endswith(".tmp")] == []
    assert call(home, *words.split()).status == 0


def test_what_was_purged_before_an_error_is_said(installation: Installation) -> None:
    """Of several histories one cannot be written: how many lines of the others are gone is told."""
    for name in ("a", "b", "c"):
        installation.add(name)
        call(installation.home, "run", name)

    with immutable(installation.home / "logs" / "c.jsonl"):
        done = call(installation.home, "purge-logs", "--yes")

    assert done.complaint.endswith(
        "logs/c.jsonl cannot be written: Operation not permitted (lines of others that are removed: 2)")
    assert [len(installation.history(name)) for name in ("a", "b", "c")] == [0, 0, 1]


def test_sync_says_what_it_has_written(installation: Installation) -> None:
    """A command is said to be new once it is."""
    (installation.home.parent / "jobs.py").write_text(
        "from webscheduler import schedulable\n\n\n@schedulable('greet')\ndef greet(): ...\n")
    installation.configure(modules=["jobs"], environment={"PYTHONPATH": str(installation.home.parent)})

    with immutable(installation.home / "state.json"):
        done = call(installation.home, "sync")

    assert "is new" not in done.out
    assert "cannot be written" in done.err
    assert done.status == 1
    assert "is new" in call(installation.home, "sync").out


@pytest.fixture
def owner(installation: Installation) -> Browser:
    installation.configure(baseUrl="https://example.org/cron")
    populate(installation)
    installation.add()
    browser = Browser(installation)
    browser.sign_in()
    return browser


def test_a_new_secret_is_shown_though_nobody_can_count_it(installation: Installation, owner: Browser) -> None:
    """That it is shown once is counted in a file; where that cannot be written it is shown, or it would be lost."""
    owner.get("secret", name="task")

    with immutable(installation.home / "throttle.json"):
        page = owner.submit("secret")
        assert installation.row()["secret"] in page


def test_a_backup_whose_settings_cannot_be_restored(installation: Installation, owner: Browser) -> None:
    """What was restored is told."""
    document = backup(owner)
    installation.edit(title="another")

    with immutable(installation.home / "config.json"):
        page = restore(owner, document)

    assert page.status == 503
    assert "the tasks are restored, the settings are not: " in page
    assert installation.row()["title"] != "another"
