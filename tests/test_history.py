# SPDX-License-Identifier: LGPL-3.0-or-later
"""History: appended to by many, cleaned up meanwhile, torn by kills, read from its end."""

from __future__ import annotations

import fcntl
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from tests import LIBRARY
from tests.installation import Installation
from webscheduler.errors import Unusable
from webscheduler.store import history, history_cleaning, history_reading, history_view
from webscheduler.store.settings import load_settings
from webscheduler.times import format_time
from webscheduler.vocabulary import ENTRY

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
APPEND = """
import sys
sys.path.insert(0, sys.argv[1])
from webscheduler.store import history, history_reading
for number in range(int(sys.argv[4])):
    history.append(sys.argv[2], "task", {"run": f"{sys.argv[3]}-{number}", "output": "x" * (number * 997 % 9000)})
"""


@pytest.fixture
def home(installation: Installation) -> str:
    return str(installation.home)


def contains(home: str, run: str) -> bool:
    return history_reading.find(home, ["task"], run) is not None


def file_of(home: str, name: str = "task") -> Path:
    return Path(history.path(home, name))


def runs(home: str, name: str = "task") -> list[str]:
    """All run ids, oldest first; each line must be whole."""
    return [json.loads(line)["run"] for line in file_of(home, name).read_bytes().splitlines()]


def read_bytes() -> int:
    """Bytes that this process has read so far (proc(5), /proc/PID/io)."""
    return int(Path("/proc/self/io").read_text().partition("rchar:")[2].split()[0])


def test_a_line_that_was_not_synced_is_none(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told that a line cannot be written writes it again: then it is there once."""
    real, failing = os.fsync, [OSError(28, "No space left on device")]

    def fsync(descriptor: int) -> None:
        if failing:
            raise failing.pop()
        real(descriptor)

    history.append(home, "task", {"run": "before"})
    monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(Unusable, match="No space left"):
        history.append(home, "task", {"run": "this"})

    assert runs(home) == ["before"]
    history.append(home, "task", {"run": "this"})
    assert runs(home) == ["before", "this"]


@pytest.mark.timeout(1200)
def test_appenders_against_clean_up(home: str) -> None:
    """Eight processes append while a ninth cleans up over and over: no line is lost, doubled or mixed with another."""
    each = 1000 if FULL else 150  # so many that clean-up has its turns on a busy machine, too
    writers = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(LIBRARY), home, str(number), str(each)])
        for number in range(8)
    ]
    rounds = 0

    while any(writer.poll() is None for writer in writers):
        history.append(home, "task", {"run": "old"})
        assert history_cleaning.clean(home, "task", lambda entry: entry["run"] != "old") >= 1
        rounds += 1
        time.sleep(0.005)  # who cleans up without a pause lets nobody else in

    assert [writer.returncode for writer in writers] == [0] * 8
    assert rounds > 5
    assert sorted(runs(home)) == sorted(f"{writer}-{number}" for writer in range(8) for number in range(each))
    for writer in range(8):  # each one's own are in their order
        own = [run for run in runs(home) if run.startswith(f"{writer}-")]
        assert own == [f"{writer}-{number}" for number in range(each)]


def test_appenders_that_are_killed(home: str) -> None:
    """Appenders killed at any moment leave at most a torn tail: whole lines parse, and what was reported is there."""
    chance = random.Random()
    program = APPEND.replace('"x" * (number * 997 % 9000)})', '"x" * 150000}); print(number, flush=True)')

    for writer in range(100 if FULL else 15):
        words = [sys.executable, "-c", program, str(LIBRARY), home, str(writer), "1000000"]

        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.random() * 0.01)
            process.kill()
            reported = 1 + len(process.stdout.read().split())

        history.append(home, "task", {"run": "after"})
        own = [run for run in runs(home) if run.startswith(f"{writer}-")]
        assert own[:reported] == [f"{writer}-{number}" for number in range(reported)]
        assert len(own) in (reported, reported + 1)
        assert runs(home)[-1] == "after"
        history_cleaning.clean(home, "task", lambda entry: False)


@pytest.mark.parametrize("tail", [b'{"run": "torn"', b"{", b'"\xff', *(b"x" * size for size in (8191, 8192, 8193))])
@pytest.mark.parametrize("before", [[], ["a"], ["a", "b"]])
def test_a_torn_tail(home: str, before: list[str], tail: bytes) -> None:
    """What a kill tore is no line for readers, and the next append cuts it off."""
    for run in before:
        history.append(home, "task", {"run": run})

    with open(file_of(home), "ab") as file:
        file.write(tail)

    assert [entry["run"] for entry in history_reading.entries(home, "task")] == before[::-1]
    assert not contains(home, "torn")
    history.append(home, "task", {"run": "next"})
    assert runs(home) == [*before, "next"]


def test_a_line_without_its_end_is_not_there(home: str) -> None:
    """A line that lacks nothing but its line break is torn, for readers as for the next append, so both agree."""
    history.append(home, "task", {"run": "a"})
    with open(file_of(home), "ab") as file:
        file.write(b'{"run": "b"}')
    assert not contains(home, "b")
    history.append(home, "task", {"run": "b"})
    assert runs(home) == ["a", "b"]


@pytest.mark.parametrize("damage", [b"\n", b"{\n", b"null\n", b"[1]\n", b"7\n", b"\xff\n", b'"run"\n', b"\x00\x00\n"])
def test_damage_in_the_middle(home: str, damage: bytes) -> None:
    """Lines that do not parse are skipped, wherever they are."""
    for position in range(3):
        lines = [json.dumps({"run": run}).encode() + b"\n" for run in "ab"]
        lines.insert(position, damage)
        file_of(home).write_bytes(b"".join(lines))
        assert [entry["run"] for entry in history_reading.entries(home, "task")] == ["b", "a"]
        assert contains(home, "a")
        history.append(home, "task", {"run": "c"})
        assert [entry["run"] for entry in history_reading.entries(home, "task")] == ["c", "b", "a"]


def test_listing_reads_the_end_only(home: str) -> None:
    """Of a history of 1 GiB, the last entries are had by reading a few blocks of its end."""
    with open(file_of(home), "wb") as file:
        file.truncate(1024**3)  # sparse: takes no room
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(json.dumps({"run": str(number)}).encode() + b"\n" for number in range(1000)))

    before = read_bytes()
    found = history_reading.entries(home, "task")
    assert [next(found)["run"] for _ in range(20)] == [str(number) for number in range(999, 979, -1)]
    assert contains(home, "500")
    found.close()  # type: ignore[attr-defined]
    assert read_bytes() - before < 512 * 1024

    before = read_bytes()
    history.append(home, "task", {"run": "next"})
    assert read_bytes() - before < 64 * 1024


@pytest.mark.parametrize("size", [0, 1, 2, 100, 65535, 65536, 65537, 70000, 131072, 200000])
def test_lines_across_blocks(home: str, size: int) -> None:
    """Lines of any length come whole and in order, however they lie across the blocks that are read."""
    entries = [{"run": str(number), "output": "x" * (size + number)} for number in range(5)]
    for entry in entries:
        history.append(home, "task", entry)
    assert list(history_reading.entries(home, "task")) == entries[::-1]


@pytest.mark.parametrize("size", [1, 20_000, 150_000])
def test_clean_up_while_somebody_reads(home: str, size: int) -> None:
    """A reader gets each line that is kept once, and perhaps some that are not."""
    for number in range(40):
        history.append(home, "task", {"run": number, "finishedAt": format_time(number // 4 + 1), "output": "x" * size})

    reader = history_reading.entries(home, "task")
    found = [next(reader)["run"] for _ in range(6)]
    history_cleaning.clean(home, "task", lambda entry: entry["run"] >= 20 or entry["run"] % 2 == 0)
    found += [entry["run"] for entry in reader]
    assert found == sorted(set(found), reverse=True)
    assert set(found) >= {*range(20, 40), *range(0, 20, 2)}


@pytest.mark.parametrize("read", [15, 25, 45])
def test_clean_up_while_somebody_reads_lines_out_of_order(home: str, read: int) -> None:
    """It goes on after the line that it had, though that has an earlier time than others before it."""
    moments = [*range(100, 120), *range(1, 21), *range(120, 140)]
    write(home, [timed(moment, f"{number}", "x" * 20_000) for number, moment in enumerate(moments)])
    reader = history_reading.entries(home, "task")
    found = [next(reader)["run"] for _ in range(read)]
    history_cleaning.clean(home, "task", lambda entry: entry["run"] != "0")
    found += [entry["run"] for entry in reader]
    assert found == [str(number) for number in reversed(range(1, 60))]


def test_no_history(home: str) -> None:
    """A task that never ran has an empty history, and looking at it makes no file."""
    assert list(history_reading.entries(home, "task")) == []
    assert not contains(home, "a")
    assert history_cleaning.clean(home, "task", lambda entry: True) == 0
    assert not file_of(home).exists()


def test_contains_means_this_run(home: str) -> None:
    """A run counts as recorded by its own line, not by one that mentions it."""
    history.append(home, "task", {"run": "a", "output": 'see "b"', "reason": "b"})
    assert contains(home, "a")
    assert not contains(home, "b")


def timed(moment: float, run: str = "", output: str = "x" * 1000) -> dict[str, str]:
    """An entry of a run that took a second; its id begins with the time at which it began, as ours do."""
    run = run or time.strftime("%Y%m%d%H%M%S", time.gmtime(moment - 1)) + f"-{int(moment) % 2**32:08x}"
    return {"run": run, "finishedAt": format_time(moment), "output": output}


def write(home: str, entries: Iterable[dict[str, str] | bytes], name: str = "task") -> None:
    """Write the history as it is given: entries, or lines that are none."""
    with open(file_of(home, name), "wb") as file:
        for entry in entries:
            file.write((entry if isinstance(entry, bytes) else json.dumps(entry).encode()) + b"\n")


def test_listing_up_to_an_instant(home: str) -> None:
    """Of a long history only what ended by then is read; to the very instant."""
    write(home, (timed(number, f"r{number}") for number in range(1, 20_000)))
    before = read_bytes()
    newest = islice(history_reading.entries(home, "task", 500.5), 3)
    assert [entry["run"] for entry in newest] == ["r500", "r499", "r498"]
    assert read_bytes() - before < 2_000_000 < file_of(home).stat().st_size / 10


def test_an_old_run_is_found_by_its_id(home: str) -> None:
    """The time in its id leads to it, wherever it is, without reading much; a look for what is not there reads all."""
    entries = [timed(1_000_000 + 60 * number) for number in range(20_000)]
    write(home, entries)

    for entry in (entries[0], entries[1], entries[7777], entries[-2], entries[-1]):
        before = read_bytes()
        assert history_reading.find(home, ["task"], entry["run"]) == entry
        assert read_bytes() - before < 1_000_000

    assert history_reading.find(home, ["task"], timed(1_000_030)["run"]) is None


def test_the_history_that_has_it_is_tried_by_time_first(home: str) -> None:
    """Where the task is not named, no history is read whole as long as another may have the run by its time."""
    write(home, [timed(1_000_000 + 60 * number) for number in range(20_000)])
    wanted = timed(1_000_030)
    history.append(home, "other", wanted)  # type: ignore[arg-type]
    before = read_bytes()
    assert history_reading.find(home, ["task", "other"], wanted["run"]) == wanted
    assert read_bytes() - before < 2 * history_reading.NEAR < file_of(home).stat().st_size / 10


@pytest.mark.parametrize("seed", range(8))
def test_lines_out_of_order_hide_no_run(home: str, seed: int) -> None:
    """Clocks that were wrong for a while put lines of another time among the others; each run is found all the same."""
    chance = random.Random(seed)
    now = time.time() - 500 * 60
    entries = [timed(now + 60 * number) for number in range(400)]
    first, days = chance.randrange(340), chance.choice([-40, -1, 1, 40])
    entries[first:first + 60] = [timed(now + 60 * number + days * 86400) for number in range(first, first + 60)]

    if seed % 2:
        chance.shuffle(entries)

    write(home, entries)

    for entry in entries:
        assert history_reading.find(home, ["task"], entry["run"]) == entry

    for entry in entries[::40]:
        assert history_reading.find_by_scanning(home, "task", entry["run"]) == entry


@pytest.mark.parametrize("days", [1, 40, 1 / 24, 1 / 8, -1 / 24, -1 / 8, -1, -40, -4000])
def test_a_wrong_clock_hides_nothing_from_pages(home: str, days: float) -> None:
    """Each run is on one page: those that a wrong clock put elsewhere go with the ones around them."""
    now = time.time() - 500 * 60
    write(home, [timed(now + 60 * number + (days * 86400 if 200 <= number < 260 else 0), f"r{number}")
                 for number in range(400)])
    assert [run for page in paged(home, ["task"], 50, now + 86400) for run in page] == [
        f"r{number}" for number in reversed(range(400))]


@pytest.mark.parametrize("first", [0, 40, 300, 340])
@pytest.mark.parametrize("days", [-40, -1, -1 / 8, 1 / 8, 1, 40, 500])
def test_a_wrong_clock_hides_no_other_run(home: str, days: float, first: int) -> None:
    """Of two tasks, of one of which a clock was wrong for sixty runs; whether that is the past by now or not. Each run
    of the last days is shown where only those are asked for, and among the newest that both have had."""
    now = time.time() - 400 * 1800
    wrong = range(first, first + 60)
    write(home, [timed(now + 1800 * number + (days * 86400 if number in wrong else 0), f"a{number}")
                 for number in range(400)])
    write(home, [timed(now + 1800 * number + 1, f"b{number}") for number in range(400)], "other")
    names, until = ["task", "other"], time.time() + 86400

    for since in (0, 1, 130, 390):
        shown = paged(home, names, 50, until, now + 1800 * since + 0.5)
        runs = [run for page in shown for run in page]
        assert len(set(runs)) == len(runs)
        assert {f"a{number}" for number in range(since + 1, 400) if number not in wrong} <= set(runs)
        assert {run for run in runs if run[0] == "b"} == {f"b{number}" for number in range(since, 400)}
        own = [int(run[1:]) for run in runs if run[0] == "a"]
        assert own == sorted(own, reverse=True)

    newest = {str(entry["run"]) for _, entry in islice(history_view.merged(home, names), 120)}
    assert {f"a{number}" for number in range(340, 400) if number not in wrong} <= newest


def test_a_line_of_a_wrong_clock_that_is_the_past_by_now(home: str) -> None:
    """It was written ahead, and another clock has been right ever since: no page leads back to it over and over."""
    now = time.time() - 90 * 86400
    write(home, [timed(now + 86400 * number + (40 * 86400 if number % 9 == 4 and number < 40 else 0), f"r{number}")
                 for number in range(90)])

    for most in (4, 5, 50):
        pages = paged(home, ["task"], most, time.time())
        assert [run for page in pages for run in page] == [f"r{number}" for number in reversed(range(90))]

    day = paged(home, ["task"], 50, now + 86400 * 20 + 1, now + 86400 * 10 - 1)
    assert {f"r{number}" for number in range(10, 21) if number != 13} <= {run for page in day for run in page}


def test_what_is_longer_than_any_line_is_skipped(home: str) -> None:
    """A hole of zeros, or a line without an end, is read past in little memory; the lines around it are found."""
    entries = [timed(1_000_000 + number) for number in range(100)]
    damage = b"\0" * (history_reading.LONGEST_LINE + 300_000)
    write(home, [*entries[:50], damage, *entries[50:99], damage + json.dumps(entries[99]).encode()])
    program = f"""
import resource, sys
sys.path[:0] = {sys.path!r}
from webscheduler.store import history, history_reading
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert history_reading.find({home!r}, ["task"], {entries[10]["run"]!r})
assert history_reading.find_by_scanning({home!r}, "task", {entries[10]["run"]!r})
assert len(list(history_reading.entries({home!r}, "task"))) == 99
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 4 * history_reading.LONGEST_LINE // 1024

    assert list(history_reading.entries(home, "task")) == entries[98::-1]
    for entry in entries[9:99:10]:
        assert history_reading.find(home, ["task"], entry["run"]) == entry


def test_a_line_up_to_the_longest_is_kept(home: str) -> None:
    entries = [timed(1_000_000 + number, output="x" * (history_reading.LONGEST_LINE - 200)) for number in range(3)]
    write(home, entries)
    assert list(history_reading.entries(home, "task")) == entries[::-1]
    assert [history_reading.find(home, ["task"], entry["run"]) for entry in entries] == entries


@pytest.mark.parametrize("tail", [b'{"run": "torn"', b"\0" * 100_000])
def test_a_torn_tail_hides_no_run(home: str, tail: bytes) -> None:
    """What a kill left incomplete at the end leads no search astray."""
    entries = [timed(1_000_000 + number) for number in range(200)]
    write(home, entries)
    with open(file_of(home), "ab") as file:
        file.write(tail)
    for entry in entries:
        assert history_reading.find(home, ["task"], entry["run"]) == entry
    assert history_reading.find(home, ["task"], "torn") is None


@pytest.mark.parametrize("run", ["a", "20260101", "20260101000000", "2026010100000x-00000000", "²0260101000000-0",
                                 "99999999999999-00000000", '2026-01-01T00:00"'])
def test_ids_that_tell_no_time(home: str, run: str) -> None:
    """An id of another kind is looked for in all lines."""
    assert history_reading.find(home, ["task"], run) is None
    write(home, [timed(5, "other"), timed(6, run)])
    assert history_reading.find(home, ["task", "nothing"], run) == timed(6, run)


@pytest.mark.skipif(not FULL, reason="slow; WEBSCHEDULER_FULL=1 runs it")
@pytest.mark.timeout(600)
def test_a_history_of_a_gibibyte(home: str) -> None:
    """In a history of 1 GiB an old run is found by a few blocks; all of it is read where that must be."""
    count = 1024**3 // len(json.dumps(timed(1_000_000)))
    write(home, (timed(1_000_000 + 60 * number) for number in range(count)))
    entry = timed(1_000_000 + 60 * (count // 10))
    before = read_bytes()
    assert history_reading.find(home, ["task"], entry["run"]) == entry
    assert read_bytes() - before < 1_000_000
    assert history_reading.find_by_scanning(home, "task", entry["run"]) == entry
    assert history_reading.find(home, ["task"], timed(1_000_030)["run"]) is None


def test_an_entry_has_all_keys_in_their_order(home: str) -> None:
    """Whatever keys are given, in whatever order."""
    made = history.entry(status="skipped", count=3, command="task")
    assert list(made) == list(ENTRY)
    assert made == {**ENTRY, "status": "skipped", "count": 3, "command": "task"}


@pytest.mark.parametrize("seed", range(40))
def test_lines_without_a_time_hide_no_other(home: str, seed: int) -> None:
    """Whatever damage lies between, each line on the right side of an instant is found, and none of the other."""
    chance = random.Random(seed)
    damage = [b"", b"{", b"null", b'{"run": "foreign"}', b'{"finishedAt": 7}', b'{"finishedAt": "soon"}', b"\0" * 3000]
    count = chance.randrange(1, 20)

    with open(file_of(home), "wb") as file:
        for number in range(1, count + 1):
            file.writelines(chance.choice(damage) + b"\n" for _ in range(chance.randrange(4)))
            file.write(json.dumps(timed(number, f"r{number}")).encode() + b"\n")

    for instant in range(1, count + 1):
        ended = [entry for entry in history_reading.entries(home, "task", instant) if history.ended(entry)]
        assert [entry["run"] for entry in ended] == [f"r{number}" for number in range(instant, 0, -1)]


def test_a_disk_that_is_full(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that cannot be written whole is not there at all, and the error is told."""
    import resource

    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    history.append(home, "task", {"run": "a"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))

    try:
        with pytest.raises(Unusable, match=r"task\.jsonl cannot be written"):
            history.append(home, "task", {"run": "b", "output": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert file_of(home).read_bytes() == b'{"run": "a"}\n'


def test_a_link_is_not_followed(home: str, tmp_path: Path) -> None:
    """A history that somebody made a link elsewhere is not written to."""
    (tmp_path / "elsewhere").write_bytes(b"")
    file_of(home).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unusable):
        history.append(home, "task", {"run": "a"})
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_colliding_names_cannot_both_exist(installation: Installation) -> None:
    """`app:a` and `app_a` would share their files, so the second is refused."""
    from webscheduler import editing
    from webscheduler.errors import BadInput

    settings = load_settings(str(installation.home))
    editing.create(settings, "app:a", {"argv": ["true"]}, time.time())
    with pytest.raises(BadInput, match="share"):
        editing.create(settings, "app_a", {"argv": ["true"]}, time.time())
    assert file_of(str(installation.home), "app:a").name == "app_a.jsonl"


@pytest.mark.parametrize("name", ["..", "a/b", "../../x", "é", "a b", "a\\b", "a:b"])
def test_names_stay_in_their_directory(home: str, name: str) -> None:
    """No task's name leads out of logs/."""
    history.append(home, name, {"run": "a"})
    assert file_of(home, name).parent == Path(home, "logs")
    assert [entry.name for entry in Path(home, "logs").iterdir()] == [file_of(home, name).name]


def test_a_stopped_holder_hangs_nobody_for_ever(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot get the lock of a log says so in the end, and has written nothing."""
    monkeypatch.setattr(history, "PATIENCE", 0.1)
    home = str(installation.home)
    history.append(home, "task", {"run": "one"})

    with open(history.path(home, "task"), "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)

        with pytest.raises(Unusable, match=r"task\.jsonl cannot be written: another process keeps it locked"):
            history.append(home, "task", {"run": "two"})

    history.append(home, "task", {"run": "three"})
    assert [entry["run"] for entry in history_reading.entries(home, "task")] == ["three", "one"]


# The histories of several tasks as one

def paged(home: str, names: list[str], most: int, until: float, since: float = 0.0) -> list[list[str]]:
    """The runs of all pages, each begun where the one before said."""
    pages, cursor = [], ""

    while True:
        entries, cursor = history_view.page(home, names, (), since, until, cursor, most)
        pages.append([str(entry["run"]) for entry in entries])

        if not cursor:
            return pages

        assert len(pages) < 30, "the pages do not end"


@pytest.mark.parametrize("most", range(1, 9))
def test_pages_begin_within_an_instant(home: str, most: int) -> None:
    """Runs that ended at the same instant, of one task and of several, are on one page each, however many pages the
    instant goes over; all but the last page are full."""
    names = ["a", "b", "c"]

    for name, moments in zip(names, [(1, 2, 2, 2, 2, 3), (2, 2, 2, 3, 3), (2, 4)]):
        for number, moment in enumerate(moments):
            history.append(home, name, timed(moment, f"{name}{number}"))

    whole = [entry["run"] for _, entry in history_view.merged(home, names, 4.0)]
    assert len(set(whole)) == 13
    pages = paged(home, names, most, 4.0)
    assert [run for page in pages for run in page] == whole
    assert [len(page) for page in pages[:-1]] == [most] * (len(pages) - 1)


@pytest.mark.parametrize("most", [7, 50])
def test_pages_of_more_histories_than_a_cursor_names(home: str, most: int) -> None:
    """A URL has room for the places in some of them; each run is on one page all the same."""
    names = [f"t{number}" for number in range(80)]

    for number, name in enumerate(names):
        write(home, [timed(1_000_000 + 100 * step + number % 3, f"{name}-{step}", "x") for step in range(4)], name)

    cursor, shown = "", []

    while True:
        entries, cursor = history_view.page(home, names, (), 0.0, time.time(), cursor, most)
        shown += [str(entry["run"]) for entry in entries]
        assert len(shown) <= 320 and len(cursor) < 2000

        if not cursor:
            break

    assert sorted(shown) == sorted(f"{name}-{step}" for name in names for step in range(4))
    assert [int(run[-1]) for run in shown] == [step for step in (3, 2, 1, 0) for _ in range(80)]


def test_the_newest_entries_are_few_where_they_are_long(home: str) -> None:
    """As many as are asked for; but no more once they are long together, though always one."""
    for number in range(30):
        history.append(home, "task", timed(number, f"r{number}"))

    assert [entry["run"] for entry in history_view.recent(home, "task", 5)] == ["r29", "r28", "r27", "r26", "r25"]
    assert len(history_view.recent(home, "task")) == 20

    for field in ("output", "errorOutput"):
        for number in range(5):
            history.append(home, "long", {**timed(number, f"{field}{number}"), field: "x" * (history_view.RECENT // 2)})

        # Half, all, and past it: what is long for a page is not read on.
        assert [entry["run"] for entry in history_view.recent(home, "long")] == [f"{field}4", f"{field}3"]

    history.append(home, "long", {**timed(9, "huge"), "output": "x" * history_view.RECENT})
    assert [entry["run"] for entry in history_view.recent(home, "long")] == ["huge"]


@pytest.mark.parametrize("most", [1, 2, 3, 7])
@pytest.mark.parametrize("gone", [1, 2, 5])
def test_pages_go_on_after_a_clean_up(home: str, most: int, gone: int) -> None:
    """Clean-up between two pages moves lines, also to where another line of the same length was: each run that stays is
    on one page, and none is on two."""
    from webscheduler.store import history_cleaning

    for name, moments in (("a", (1, 2, 2, 3, 4, 4, 4, 5, 6, 7)), ("b", (1, 1, 2, 3, 4, 4, 5, 6))):
        write(home, [timed(moment, f"{name}{number}") for number, moment in enumerate(moments)], name)

    shown, cursor, kept = [], "", {f"{name}{number}" for name, last in (("a", 10), ("b", 8))
                                   for number in range(gone, last)}

    while True:
        entries, cursor = history_view.page(home, ["a", "b"], (), 0.0, 10.0, cursor, most)
        shown += [str(entry["run"]) for entry in entries]

        if not cursor:
            break

        for name in "ab":
            history_cleaning.clean(home, name, lambda entry: str(entry["run"]) in kept)

    assert len(set(shown)) == len(shown)
    assert set(shown) >= kept
