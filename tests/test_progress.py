# SPDX-License-Identifier: LGPL-3.0-or-later
"""What long work shows of itself: one line on the terminal of standard error, overwritten, and nothing elsewhere."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commandline import call, start
from tests.installation import PATIENCE, Installation

COLUMNS = 60


def on_a_terminal(home: Path, *words: str, until: str = "",
                  then: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """(exit status, what a terminal got of standard error). As soon as that has the text `until`, `then` is called."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = start(home, *words, stderr=theirs)
    os.close(theirs)
    got, deadline = "", time.monotonic() + PATIENCE

    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                got += os.read(ours, 4096).decode()
            except OSError:  # the other end is closed
                break

        if until and until in got:
            until = ""
            then()

    os.close(ours)
    assert process.stdout
    process.stdout.close()
    assert not until, got
    return process.wait(PATIENCE), got


def shown(got: str) -> list[str]:
    """The texts that were on the one line before any message, without how long they took; none is wider than it."""
    parts = got.partition("webscheduler: ")[0].split("\r")
    assert all(len(part) < COLUMNS for part in parts), parts
    texts = [re.sub(r", \d+ s *$", "", part) for part in parts]
    return [text for number, text in enumerate(texts) if text.strip() and texts[:number][-1:] != [text]]


@pytest.fixture
def other(installation: Installation, tmp_path: Path) -> Path:
    """A directory of tasks with their history."""
    (tmp_path / "other" / "logs").mkdir(parents=True)
    rows = {name: {"command": "hello", "enabled": False} for name in ("a", "b")}
    (tmp_path / "other" / "state.json").write_text(json.dumps(rows))

    for name in rows:
        (tmp_path / "other" / "logs" / f"{name}.jsonl").write_text(json.dumps(
            {"command": name, "status": "success", "startedAt": "2026-01-01T00:00:00+00:00",
             "finishedAt": "2026-01-01T00:00:01+00:00"}) + "\n")

    return tmp_path / "other"


def held(path: Path) -> Callable[[], None]:
    """A lock that keeps the work from its end; what lets it go."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return lambda: os.close(descriptor)


def test_removing_history_tells_how_far_it_is(installation: Installation) -> None:
    for name in ("a", "b"):
        installation.add(name)
        (installation.home / "logs" / f"{name}.jsonl").write_text('{"status": "success"}\n')

    free = held(installation.home / "logs" / "b.jsonl")
    status, got = on_a_terminal(installation.home, "purge-logs", "--yes", until="removing history 2 of 2", then=free)
    assert status == 0
    assert shown(got)[-1] == "removing history 2 of 2"
    assert got.endswith(" " * (COLUMNS - 1) + "\r")


def test_an_import_tells_how_far_it_is(installation: Installation, other: Path) -> None:
    (installation.home / "logs" / "b.jsonl").write_text("")
    free = held(installation.home / "logs" / "b.jsonl")
    status, got = on_a_terminal(installation.home, "import", str(other), until="importing history 2 of 2", then=free)
    assert status == 0, got
    assert f"reading {other}"[:COLUMNS - 10] in got


def test_an_error_comes_on_a_clean_line(installation: Installation, other: Path) -> None:
    """After the line of the work was cleared."""
    installation.add("a")
    status, got = on_a_terminal(installation.home, "import", str(other))
    assert status == 2
    assert got.rpartition(" \r")[2].startswith("webscheduler: a task named 'a' exists already")


def test_a_bundle_and_a_probe_tell_what_they_are_at(installation: Installation) -> None:
    status, got = on_a_terminal(installation.home, "bundle", "--output", "b.cgi")
    assert (status, shown(got)) == (0, ["writing b.cgi"])
    status, got = on_a_terminal(installation.home, "probe", "--base", "http://127.0.0.1:9", "--seconds", "1")
    assert status == 2
    assert shown(got)[0].startswith("probe")
    assert "the call did not reach the scheduler" in got


@pytest.mark.parametrize("words", [["purge-logs", "--yes"], ["import", "other"], ["bundle", "--output", "b.cgi"],
                                   ["probe", "--base", "http://127.0.0.1:9", "--seconds", "1"]])
def test_pipes_get_nothing_of_it(installation: Installation, other: Path, words: list[str]) -> None:
    done = call(installation.home, *words, cwd=other.parent)
    assert "\r" not in done.out + done.err
    assert all(line.startswith("webscheduler: ") for line in done.err.splitlines()), done.err


def test_json_gets_nothing_of_it(installation: Installation) -> None:
    status, got = on_a_terminal(installation.home, "probe", "--base", "http://127.0.0.1:9", "--seconds", "1", "--json")
    assert status == 2
    assert got.startswith("webscheduler: ")
