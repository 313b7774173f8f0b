# SPDX-License-Identifier: LGPL-3.0-or-later
"""The verbs for history: what is shown, in which order, and how it is followed."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import call, environment, finished, start
from tests.installation import PATIENCE, Installation, until, waits_for
from webscheduler.cli import here
from webscheduler.runs import recorder
from webscheduler.store import history, history_cleaning
from webscheduler.times import format_time

BEGAN = 1_700_000_000.0


def entry(number: int, task: str = "a", **more: Any) -> dict[str, Any]:
    moment = format_time(BEGAN + number)
    return {"command": task, "run": f"run-{number}", "startedAt": moment, "finishedAt": moment, "duration": 1.0,
            "status": "success", "exitCode": 0, "output": "", "errorOutput": "", "reason": None, "trigger": "url",
            **more}


def write(installation: Installation, *entries: dict[str, Any]) -> None:
    for each in entries:
        history.append(str(installation.home), each["command"], each)


def shown(installation: Installation, *words: str) -> list[str]:
    return [each["run"] for each in call(installation.home, "logs", "--json", *words).document]


class Following:
    """`logs --follow` in a process of its own, and the lines that it has printed so far."""

    def __init__(self, installation: Installation, *words: str, before: Callable[[], None]) -> None:
        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            before()

        self.process = start(installation.home, "logs", "--follow", *words, preexec_fn=prepare)
        self.lines: list[str] = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout

        for text in self.process.stdout:
            self.lines.append(text.decode())

    def runs(self) -> list[str]:
        return [json.loads(text)["run"] for text in self.lines]

    def sees(self, *runs: str) -> None:
        """Wait for these runs, which must come in this order and once."""
        until(lambda: len(self.lines) >= len(runs), f"{runs}, {self.lines}")
        assert self.runs() == list(runs)

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C; exit status and standard error."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        self.thread.join(PATIENCE)
        assert self.process.stdout and self.process.stderr
        errors = self.process.stderr.read().decode()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode, errors


@pytest.fixture
def following(installation: Installation) -> Iterator[Any]:
    started: list[Following] = []

    def follow(*words: str, before: Callable[[], None] = lambda: None) -> Following:
        started.append(Following(installation, *words, before=before))
        return started[-1]

    yield follow

    for each in started:
        if each.process.poll() is None:
            assert each.end() == (0, "")


def test_histories_are_merged_newest_first(installation: Installation) -> None:
    """Over all tasks by the end of the run, up to the limit; of one task its own."""
    write(installation, *(entry(n, "abc"[n % 3]) for n in range(30)))
    assert shown(installation) == [f"run-{n}" for n in range(29, 9, -1)]
    assert shown(installation, "--limit", "3") == ["run-29", "run-28", "run-27"]
    assert shown(installation, "--limit", "100") == [f"run-{n}" for n in range(29, -1, -1)]
    assert shown(installation, "--limit", "0") == []
    assert shown(installation, "b", "--limit", "2") == ["run-28", "run-25"]


def test_more_histories_than_a_process_may_open_files(installation: Installation, following: Any) -> None:
    """Are read all the same, a part at a time; and followed, as far as the host lets a process ask for more."""
    number = 0

    for task in range(60):
        for _ in range(4):
            write(installation, entry(number, f"t{task}", output="x" * 40_000))
            number += 1

    for path in (installation.home / "logs").iterdir():
        os.utime(path)  # as after clean-up

    def few(hard: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))

    done = finished(start(installation.home, "logs", "--json", "--limit", "1000", preexec_fn=few(40)))
    assert [each["run"] for each in done.document] == [f"run-{n}" for n in range(number - 1, -1, -1)]
    seen = following("--json", "--limit", "1", before=few(200))
    seen.sees(f"run-{number - 1}")


def test_a_status_is_looked_for_beyond_the_limit(installation: Installation) -> None:
    """--status counts the lines that are shown, not those that are read."""
    write(installation, *(entry(n, status="failed" if n in (1, 3) else "success") for n in range(60)))
    assert shown(installation, "--status", "failed") == ["run-3", "run-1"]
    assert shown(installation, "--status", "failed", "--limit", "1") == ["run-3"]
    assert shown(installation, "--status", "timeout") == []


def test_what_does_not_parse_is_skipped(installation: Installation) -> None:
    """Torn and foreign lines, and fields of the wrong kind, harm nothing."""
    write(installation, entry(1), entry(2, finishedAt=None, duration="x", status=None, exitCode=[], trigger={}))

    with (installation.home / "logs" / "a.jsonl").open("a") as file:
        file.write('[]\n{"run":\n\n{"run": "no time"}\n{"run": "torn"')

    assert set(shown(installation)) == {"run-1", "run-2", "no time"}
    assert call(installation.home, "logs").status == 0
    assert call(installation.home, "logs", "--run", "no time").status == 0


@pytest.mark.parametrize("foreign", ['{"run": "x", "startedAt": 5}', '{"run": "x", "startedAt": "soon"}', "[" * 99_999])
def test_a_foreign_line_stops_no_tick(installation: Installation, foreign: str) -> None:
    """What an editor left in the history of `@due`, be its time no time or its JSON too deep, keeps nobody from
    running what is due, telling how things are, or cleaning up."""
    installation.add(intervalSeconds=3600)

    with (installation.home / "logs" / "_due.jsonl").open("a") as file:
        file.write(f"{foreign}\n")

    assert call(installation.home, "run-due").status == 0
    assert [line["status"] for line in installation.runs()] == ["success"]
    assert call(installation.home, "status").status == 0
    assert call(installation.home, "logs").status == 0
    assert call(installation.home, "purge-logs", "--yes").status == 0


def test_only_as_much_is_read_as_is_shown(installation: Installation) -> None:
    """The newest line of a long history costs a few blocks of it, not the file."""
    write(installation, entry(1))
    file = installation.home / "logs" / "a.jsonl"
    text = json.dumps(entry(2, output="x" * 1000)).encode() + b"\n"
    file.write_bytes(text * 20000)
    write(installation, entry(3))
    code = ("import sys\nfrom webscheduler.cli import main\nmain(['logs', '--limit', '2', '--json'])\n"
            "print(open('/proc/self/io').read().split()[1], file=sys.stderr)")  # rchar: bytes read, libraries included
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(installation.home),
                          text=True, timeout=PATIENCE)
    assert [each["run"] for each in json.loads(done.stdout)] == ["run-3", "run-2"]
    assert int(done.stderr) < file.stat().st_size / 2


def test_one_run_is_shown_with_both_streams(installation: Installation) -> None:
    """logs --run finds it in any history; as JSON it is an array of one."""
    installation.add("a")
    write(installation, entry(1), entry(2, "b", status="failed", exitCode=3, output="out\x1b", errorOutput="err\n"))
    text = call(installation.home, "logs", "--run", "run-2").out
    assert "b: failed, exit status 3" in text
    assert "--- output\nout\\x1b\n--- error output\nerr\n" in text
    assert [each["errorOutput"] for each in call(installation.home, "logs", "--run", "run-2", "--json").document] == [
        "err\n"]
    assert call(installation.home, "logs", "a", "--run", "run-2").status == 2


def test_a_run_in_progress_is_shown_with_what_it_has_printed(installation: Installation, tmp_path: Path) -> None:
    """logs --run while it runs: status running, and the live output; --follow goes on until its end."""
    installation.add(argv=waits_for(tmp_path / "go"), strategy="fork")
    installation.trigger()
    run = installation.command_runs()["run"]
    until(lambda: Path(recorder.live_file(str(installation.home), run)).read_bytes() == b"begun\n")
    document = call(installation.home, "logs", "--run", run, "--json").document
    assert [(each["status"], each["output"]) for each in document] == [("running", "begun\n")]
    assert "begun\n" in call(installation.home, "logs", "task", "--run", run).out
    watching = start(installation.home, "logs", "--run", run, "--follow")
    assert watching.stdout

    while watching.stdout.readline() != b"begun\n":
        pass

    (tmp_path / "go").touch()
    rest, errors = watching.communicate(timeout=PATIENCE)
    assert (watching.returncode, errors) == (0, b"")
    assert b"the run has ended" in rest
    assert "begun\nended\n" in call(installation.home, "logs", "--run", run).out


def test_new_lines_are_followed_in_their_order(installation: Installation, following: Any) -> None:
    """The last lines first, oldest first, then each new one once; new histories are noticed; Ctrl-C is status 0."""
    write(installation, entry(1), entry(2), entry(3, "b"))
    seen = following("--json", "--limit", "2")
    seen.sees("run-2", "run-3")
    write(installation, entry(4))
    seen.sees("run-2", "run-3", "run-4")
    write(installation, entry(5, "new"))
    seen.sees("run-2", "run-3", "run-4", "run-5")
    write(installation, entry(6, "new"), entry(7, "b"))
    until(lambda: len(seen.lines) == 6)
    assert sorted(seen.runs()[4:]) == ["run-6", "run-7"]
    assert seen.end() == (0, "")


def test_following_survives_clean_up(installation: Installation, following: Any) -> None:
    """What clean-up keeps is not shown again, what comes afterwards is, and a purged history begins anew."""
    write(installation, *(entry(n) for n in range(6)))
    seen = following("--json", "--limit", "1")
    seen.sees("run-5")
    home = str(installation.home)
    history_cleaning.clean(home, "a", lambda each: each["run"] in ("run-1", "run-4"))
    write(installation, entry(6))
    seen.sees("run-5", "run-6")
    write(installation, entry(7))
    history_cleaning.clean(home, "a", lambda each: each["run"] == "run-1")  # run-7 is seen or not, but never twice
    write(installation, entry(8))
    until(lambda: "run-8" in seen.runs())
    history_cleaning.clean(home, "a", lambda each: False)
    write(installation, entry(9))
    until(lambda: "run-9" in seen.runs())
    assert seen.runs() == ["run-5", "run-6", "run-7", "run-8", "run-9"]


def test_following_survives_removal_and_renaming(installation: Installation, following: Any) -> None:
    """A history that goes and comes back, and one that gets another name, are followed on without repetition."""
    installation.add("a")
    write(installation, entry(1))
    seen = following("--json")
    seen.sees("run-1")
    assert call(installation.home, "rename", "a", "b").status == 0
    write(installation, entry(2, "b"))
    until(lambda: "run-2" in seen.runs())
    assert call(installation.home, "remove", "b", "--yes").status == 0
    write(installation, entry(3, "b"))
    until(lambda: "run-3" in seen.runs())
    assert seen.runs() == ["run-1", "run-2", "run-3"]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_to_the_files_each_line_is_told_once(installation: Installation, seed: int) -> None:
    """Appends, clean-ups, renamings, removals and torn tails in any order between two looks: no line is told twice, and
    none is missed that was there at a look."""
    chance, home = random.Random(seed), str(installation.home)
    told: list[str] = []
    written: list[str] = []
    directory = installation.home / "logs"
    write(installation, entry(0), entry(1, "b"))
    followed = here.Followed(home, None)

    def look() -> None:
        told.extend(each["run"] for each in followed.new())

    try:
        for number in range(2, 150):
            names = [path.stem for path in directory.glob("*.jsonl")]
            name, deed = chance.choice(names or ["a"]), chance.randrange(12)
            file = directory / f"{name}.jsonl"

            if deed < 6:
                history.append(home, name, entry(number, name))
                written.append(f"run-{number}")
            elif deed < 8:
                history_cleaning.clean(home, name, lambda each: each["run"] not in told or chance.random() < 0.5)
            elif deed == 8 and names:
                look()  # what is written over was seen
                file.replace(directory / f"{chance.choice('abcd')}.jsonl")
            elif deed == 9 and names:
                look()
                file.unlink()
            elif deed == 10:
                with file.open("a") as torn:
                    torn.write('{"run": "to')
            else:
                look()

        look()
        assert sorted(told) == sorted(written)
    finally:
        for each in followed.open.values():
            each.close()


def test_following_one_task_with_one_status(installation: Installation, following: Any) -> None:
    """Other tasks and other ends are not shown; a torn line is shown when it is whole."""
    installation.add("a")
    seen = following("a", "--json", "--status", "failed")
    write(installation, entry(1), entry(2, "b", status="failed"), entry(3, status="failed"))
    seen.sees("run-3")
    whole = json.dumps(entry(4, status="failed"))

    with (installation.home / "logs" / "a.jsonl").open("a") as file:
        file.write(whole[:20])
        file.flush()
        write(installation, entry(5, "b", status="failed"))
        assert call(installation.home, "logs").status == 0
        file.write(whole[20:] + "\n")

    seen.sees("run-3", "run-4")


def test_purging_empties_one_or_all_histories(installation: Installation) -> None:
    """purge-logs asks; with --yes the lines are gone, and how many is said."""
    installation.add("a")
    write(installation, entry(1), entry(2), entry(3, "b"), entry(4, "c"))
    done = call(installation.home, "purge-logs")
    assert done.status == 2 and "--yes" in done.complaint
    assert len(shown(installation)) == 4
    assert call(installation.home, "purge-logs", "a", "--yes").out == "2 lines are removed.\n"
    assert shown(installation) == ["run-4", "run-3"]
    assert call(installation.home, "purge-logs", "--yes").status == 0
    assert shown(installation) == []
    assert "no task is named" in call(installation.home, "purge-logs", "nothing", "--yes").complaint
