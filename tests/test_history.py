"""History: every line whole, none lost, and a listing that reads no more than it shows."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.installation import CHECKOUT, python_options
from webscheduler import history
from webscheduler.errors import Unusable

FULL = "WEBSCHEDULER_FULL" in os.environ
LINES = 1000 if FULL else 250

APPEND = """
import sys
sys.path.insert(0, sys.argv[1])
from webscheduler import history
for number in range(int(sys.argv[4])):
    history.append(sys.argv[2], "task", {"run": f"{sys.argv[3]}-{number}", "status": "success", "output": "x" * 2000})
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "logs").mkdir(mode=0o700)
    return str(tmp_path)


def python(code: str, *words: object, **popen):
    words = [sys.executable, "-c", code, str(CHECKOUT), *map(str, words)]
    return subprocess.Popen(words, env={**os.environ, **python_options()}, **popen)


def test_appenders_lose_nothing_to_clean_up(home):
    """Eight processes append while clean-up replaces the file again and again: all their lines are there."""
    for number in range(500):
        history.append(home, "task", {"run": f"old-{number}", "status": "old"})

    processes = [python(APPEND, home, who, LINES) for who in range(8)]
    rounds = 0

    while any(process.poll() is None for process in processes):
        # A line to drop at each round, or there would be nothing to replace.
        history.append(home, "task", {"run": f"old-{rounds}", "status": "old"})
        history.clean(home, "task", lambda entry: entry["status"] != "old")
        rounds += 1

    assert [process.wait() for process in processes] == [0] * 8
    runs = [entry["run"] for entry in history.entries(home, "task") if entry["status"] == "success"]
    assert sorted(runs) == sorted(f"{who}-{number}" for who in range(8) for number in range(LINES))
    assert rounds > 5


def test_a_killed_appender_spoils_no_line_but_its_own(home):
    """After each kill -9 amid 200 KiB lines, what is there parses and the next line stands on its own."""
    code = APPEND.replace("x\" * 2000", "x\" * 200000").replace("range(int(sys.argv[4]))", "iter(int, 1)")
    chance = random.Random(2)

    for turn in range(60 if FULL else 15):
        with python(code, home, turn) as writer:
            while not Path(history.path(home, "task")).exists():
                time.sleep(0.001)

            time.sleep(0.08 + chance.random() * 0.05)
            writer.kill()

        history.append(home, "task", {"run": f"after-{turn}"})

    content = Path(history.path(home, "task")).read_bytes()
    assert content.endswith(b"\n")
    entries = [json.loads(line) for line in content.splitlines()]
    assert [entry["run"] for entry in entries if entry["run"].startswith("after-")] == [
        f"after-{turn}" for turn in range(60 if FULL else 15)]


@pytest.mark.parametrize("tail", [b'{"run": "torn', b"\0" * 30000, b"x" * 20000, b'{"run": "whole but unended"}'])
@pytest.mark.parametrize("before", [b"", b'{"run": "one"}\n', b'{"run": "one"}\n' * 2000])
def test_a_torn_tail_is_cut_off(home, before, tail):
    """What follows the last line break was torn by a kill; the next append removes it, and nothing else."""
    file = Path(history.path(home, "task"))
    file.write_bytes(before + tail)
    assert [entry["run"] for entry in history.entries(home, "task")] == ["one"] * before.count(b"\n")
    assert not history.contains(home, "task", "whole but unended")
    history.append(home, "task", {"run": "two"})
    assert file.read_bytes() == before + b'{"run": "two"}\n'


def test_readers_go_from_the_end_and_skip_what_does_not_parse(home):
    """Newest first, across block borders, without the lines that are no objects."""
    numbers = list(range(3000))
    text = [json.dumps({"run": str(number), "fill": "é" * (number % 97)}).encode() for number in numbers]
    text[10:10] = [b"{broken", b"[]", b"3", b"", b"\xff\xfe"]
    Path(history.path(home, "task")).write_bytes(b"\n".join(text) + b"\n")
    assert [int(entry["run"]) for entry in history.entries(home, "task")] == numbers[::-1]


def test_a_listing_reads_no_more_than_it_shows(home):
    """The newest ten lines of a log of 256 MiB cost a few blocks, by the kernel's own count of bytes read."""
    file = Path(history.path(home, "task"))

    with file.open("wb") as log:
        log.truncate(256 * 2**20)
        log.seek(0, os.SEEK_END)
        log.write(b"\n" + b"".join(json.dumps({"run": str(number)}).encode() + b"\n" for number in range(100)))

    def read() -> int:
        return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])

    before = read()
    newest = [next(entries)["run"] for entries in [history.entries(home, "task")] for _ in range(10)]
    assert newest == [str(number) for number in range(99, 89, -1)]
    assert read() - before < 2**20


@pytest.mark.parametrize("fill", [b"\0", b"\n", b"\xff", b"\"", b"\x1b", "é".encode(), b"a"])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 10**7])
def test_a_line_stays_below_200_KiB_whatever_was_printed(home, fill, size):
    """Two streams of any one byte, head and tail kept, make a line that is bounded as JSON, too."""
    data = (fill * (size // len(fill) + 1))[:size]
    half = history.LIMIT // 2
    head, tail = data[:half], data[half:][-half:] if size > half else b""
    text = history.clip(head, tail, size - len(head) - len(tail))
    history.append(home, "task", {"run": "x", "output": text, "errorOutput": text})
    line = Path(history.path(home, "task")).read_bytes()
    assert len(line) < 200 * 1024
    assert json.loads(line)["output"] == text
    assert ("... [truncated]" in text) == (size > history.LIMIT or "unprintable" in text)

    if size > history.LIMIT:
        assert f"{size - 2 * half} bytes" in text


def test_what_fits_is_kept_to_the_byte():
    """Output up to the limit is kept as it was; bytes that are no UTF-8 are shown as escapes."""
    assert history.clip(b"a" * 32768, b"b" * 32768, 0) == "a" * 32768 + "b" * 32768
    assert history.clip("é\r\n\t".encode(), b"", 0) == "é\r\n\t"
    assert history.clip(b"\xff\xc3", b"", 0) == "\\xff\\xc3"
    assert history.clip(b"\xc3", b"\xa9", 0) == "é"


def test_a_full_disk_leaves_no_half_line(home):
    """Where a line cannot be written whole, none is written, and the error says which file."""
    limited = f"""
import resource, signal, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from webscheduler import history
from webscheduler.errors import Unusable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
history.append(sys.argv[2], "task", {{"run": "one"}})
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    history.append(sys.argv[2], "task", {{"run": "two", "output": "x" * 1000}})
except Unusable as error:
    assert "task.jsonl cannot be written" in str(error), error
    print("said")
"""

    with python(limited, home, stdout=subprocess.PIPE) as process:
        assert process.communicate(timeout=60)[0] == b"said\n"

    assert Path(history.path(home, "task")).read_bytes() == b'{"run": "one"}\n'


def test_a_log_that_is_a_link_is_not_followed(home, tmp_path):
    """A link in the place of a log would let whoever made it choose what is written to."""
    target = tmp_path / "target"
    target.write_text("")
    Path(history.path(home, "task")).symlink_to(target)

    with pytest.raises(Unusable):
        history.append(home, "task", {"run": "one"})

    assert target.read_text() == ""


def test_refusals_are_bounded_in_number_and_time(home):
    """At most one a minute and fifty in all are kept, newest first, whoever knocks how often."""
    for second in range(0, 100 * 60, 20):
        history.refuse(home, 1e9 + second, {"at": second})
        file = Path(home, "refused.json")
        if history.refusals(home)[0]["at"] == second:
            os.utime(file, (1e9 + second, 1e9 + second))

    kept = [entry["at"] for entry in history.refusals(home)]
    assert kept == list(range(99 * 60, 49 * 60, -60))
    Path(home, "refused.json").write_text("{broken")
    assert history.refusals(home) == []
    history.refuse(home, 2e9, {"at": 1})
    assert history.refusals(home) == [{"at": 1}]
