# SPDX-License-Identifier: LGPL-3.0-or-later
"""One command, from start to end: what it is given, what is kept of what it says, and how it is ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests import SCRIPT
from tests.installation import DOORS, Installation, until
from tests.servers import give
from tests.servers import python as readable
from webscheduler.runs import ending, process
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import history

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
SHOW = """
import json, os, sys
print(json.dumps({
    "environment": dict(os.environ), "argv": sys.argv[1:], "cwd": os.getcwd(), "session": os.getsid(0) == os.getpid(),
    "group": os.getpgrp() == os.getpid(), "stdin": os.path.realpath("/proc/self/fd/0"), "input": sys.stdin.read(),
    "descriptors": sorted(os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2),
}))
"""


def shows(*words: str) -> list[str]:
    """argv of a command that prints what it was given."""
    return [sys.executable, "-I", "-S", "-c", SHOW, *words]


def run(installation: Installation, *argv: str, **fields: Any) -> dict[str, Any]:
    """Run a command in this process; its line."""
    installation.add(argv=argv, **fields)
    line = run_by_hand(str(installation.home), "task", "cli", time.time)
    assert line is not None
    assert installation.claims() == []
    return line


def told(installation: Installation) -> dict[str, Any]:
    """What the command of the only run printed."""
    installation.idle()
    (line,) = installation.runs()
    assert line["errorOutput"] == ""
    return dict(json.loads(line["output"]))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("strategy", ["fork", "sync"])
def test_nothing_of_a_request_reaches_the_command(installation: Installation, door: str, strategy: str) -> None:
    """Neither CGI's variables nor HTTP_* (httpoxy) nor arguments nor the request's body come through."""
    installation.add(argv=shows("a word"), strategy=strategy, environment={"MINE": "yes"})
    signature = installation.signature()
    environ = {**installation.signed(method="POST", HTTP_PROXY="http://evil/", HTTP_COOKIE="x", HTTP_HOST="h",
                                     CONTENT_TYPE="text/plain", REMOTE_USER="root", LD_PRELOAD_X="x", PHPRC="/tmp"),
               "QUERY_STRING": ""}  # fmt: skip
    answer = installation.call(door, environ, b"sig=" + signature.encode() + b"&argument=1")
    assert answer.document["accepted"] is True
    shown = told(installation)
    allowed = {"HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "LANG", "PYTHONUNBUFFERED",
               "WEBSCHEDULER_HOME", "WEBSCHEDULER_RUN", "MINE"}  # fmt: skip
    assert set(shown["environment"]) <= allowed
    assert shown["environment"]["MINE"] == "yes"
    assert shown["environment"]["LANG"] == "C.UTF-8"
    assert shown["environment"]["PYTHONUNBUFFERED"] == "1"
    assert shown["environment"]["WEBSCHEDULER_HOME"] == str(installation.home)
    assert shown["argv"] == ["a word"]
    assert shown["input"] == ""
    assert shown["stdin"] == "/dev/null"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("strategy", ["fork", "sync"])
def test_a_command_of_its_own(installation: Installation, door: str, strategy: str) -> None:
    """A command leads a session and a process group, and inherits one descriptor: its claim."""
    installation.add(argv=shows(), strategy=strategy)
    claim = str(installation.home / "runs" / f"task@{installation.trigger(door).document['run']}")
    shown = told(installation)
    assert shown["session"]
    assert shown["group"]
    assert [file for file in shown["descriptors"] if "/proc/" not in file] in ([claim], [claim + " (deleted)"])
    assert shown["cwd"] == "/"


@pytest.mark.parametrize("strategy", ["fork", "sync"])
def test_signals_are_as_after_a_login(installation: Installation, strategy: str) -> None:
    """Whatever the server blocks or ignores, the command starts with nothing blocked and nothing ignored."""
    installation.add(argv=["cat", "/proc/self/status"], strategy=strategy)

    def deaf() -> None:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())

    with installation.start_cgi(installation.signed(), preexec_fn=deaf) as process:
        process.wait()

    installation.idle()
    (line,) = installation.runs()
    masks = dict(row.split(":\t") for row in line["output"].splitlines())
    # 32 and 33 are the C library's own (nptl(7)): no program can set them, and posix_spawn may leave them ignored.
    settable = sum(1 << number - 1 for number in signal.valid_signals())
    assert (int(masks["SigBlk"], 16) & settable, int(masks["SigIgn"], 16) & settable) == (0, 0)


@pytest.mark.parametrize("strategy", ["fork", "sync"])
def test_exit_7_stays_7(installation: Installation, strategy: str) -> None:
    """A server that ignores SIGCHLD does not turn a failure into a success."""
    installation.add(argv=["sh", "-c", "exit 7"], strategy=strategy)

    def careless() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    with installation.start_cgi(installation.signed(), preexec_fn=careless) as process:
        process.wait()

    installation.idle()
    assert [(line["status"], line["exitCode"]) for line in installation.runs()] == [("failed", 7)]


def test_no_shell(installation: Installation) -> None:
    """Arguments reach the program as they are, whatever a shell would make of them."""
    words = ["$HOME", "`id`", "; exit 3", "a  b", "", "*", "--", "'\"", "\n", "é", "-n"]
    assert json.loads(run(installation, *shows(*words))["output"])["argv"] == words


@pytest.mark.parametrize(
    ("argv", "fields", "code", "says"),
    [
        (["/nonexistent/program"], {}, 127, "/nonexistent/program"),
        (["no-such-program"], {}, 127, "no-such-program"),
        (["/etc/passwd"], {}, 126, "/etc/passwd"),
        (["/"], {}, 126, "/"),
        (["true"], {"cwd": "/nonexistent"}, 127, "working directory /nonexistent"),
        (["true"], {"cwd": "/etc/passwd"}, 127, "working directory /etc/passwd"),
        (["true", "x" * 99999] + ["y" * 99999] * 40, {}, 126, "true"),
    ],
    ids=["missing", "not in PATH", "no program", "a directory", "no cwd", "cwd is a file", "too long"],
)
def test_what_cannot_start(
    installation: Installation, argv: list[str], fields: dict[str, Any], code: int, says: str
) -> None:
    """A program that cannot be started is a failed run with a shell's exit status and a sentence."""
    line = run(installation, *argv, **fields)
    assert (line["status"], line["reason"], line["exitCode"]) == ("failed", "not_started", code)
    assert says in line["errorOutput"]
    assert line["errorOutput"].count("\n") == 1


def test_a_task_without_a_command(installation: Installation) -> None:
    """A task whose command nobody registered fails and says so; one that names none has that of its name."""
    for command, says in ((None, "no command is registered as 'task'"), ("gone", "'gone'")):
        installation.add(argv=["true"])
        installation.edit(argv=None, command=command)
        line = run_by_hand(str(installation.home), "task", "cli", time.time)
        assert line is not None
        assert (line["status"], line["reason"]) == ("failed", "not_started")
        assert says in line["errorOutput"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
def test_a_command_that_dies_of_a_signal(installation: Installation, number: int) -> None:
    """It failed; its exit status is 128 and the signal's number, as in a shell."""
    line = run(installation, "sh", "-c", f"ulimit -c 0; kill -{int(number)} $$")
    assert (line["status"], line["exitCode"], line["signal"]) == ("failed", 128 + number, number)


# Time limits


def test_a_time_limit(installation: Installation) -> None:
    """When the time is up the whole group gets TERM, and may say something before it ends."""
    program = "trap 'echo told; exit 5' TERM; sleep 300 & echo begun; wait"
    line = run(installation, "bash", "-c", program, timeout=1)
    assert (line["status"], line["reason"], line["exitCode"]) == ("timeout", None, 5)
    assert line["output"] == "begun\ntold\n"
    assert line["duration"] >= 1
    installation.gone()
    assert installation.row()["lastRunStatus"] == "timeout"
    assert installation.row()["consecutiveFailures"] == 1


def test_a_stubborn_command(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ignores TERM gets KILL after a grace period, with all its children."""
    monkeypatch.setattr(ending, "GRACE", 0.5)
    line = run(installation, "sh", "-c", "trap '' TERM; (trap '' TERM; while :; do sleep 0.02; done) & "
               "while :; do sleep 0.02; done", timeout=1)  # fmt: skip
    assert (line["status"], line["exitCode"], line["signal"]) == ("timeout", 137, signal.SIGKILL)
    assert line["duration"] >= 1 + ending.GRACE
    installation.gone()


def test_a_stubborn_child(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ignores TERM is killed, too, when its grace period is over, though the command has ended of it."""
    monkeypatch.setattr(ending, "GRACE", 0.5)
    line = run(installation, "bash", "-c", "(trap '' TERM; while :; do sleep 0.02; done) & "
               "trap 'exit 0' TERM; while :; do sleep 0.02; done", timeout=1)  # fmt: skip
    assert (line["status"], line["exitCode"]) == ("timeout", 0)
    installation.gone()


def test_zero_is_no_limit(installation: Installation) -> None:
    """`timeout` 0 means none, and unset means the installation's."""
    installation.configure(defaultTimeout=1)
    assert run(installation, "sleep", "1.2", timeout=0)["status"] == "success"
    assert run(installation, "sleep", "60")["status"] == "timeout"


def test_a_command_that_stops_itself(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped command is ended by its time limit, too."""
    monkeypatch.setattr(ending, "GRACE", 0.5)
    line = run(installation, "sh", "-c", "kill -STOP $$", timeout=1)
    assert (line["status"], line["exitCode"]) == ("timeout", 137)


# Output


def test_both_streams(installation: Installation) -> None:
    """Both streams are kept, apart from one another."""
    line = run(installation, "sh", "-c", "echo one; echo two >&2; echo three; printf four >&2")
    assert (line["output"], line["errorOutput"]) == ("one\nthree\n", "two\nfour")


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("own", [True, False, None])
@pytest.mark.parametrize("stream", ["logOutput", "logErrorOutput"])
def test_output_need_not_be_kept(installation: Installation, installed: bool, own: bool | None, stream: str) -> None:
    """Neither stream is kept where task, or else installation, says no, not even while the run goes on."""
    installation.configure(**{stream: installed})
    # The last word is of the stream that is kept in any case: when it can be seen, so could all that came before.
    other, last = ("logErrorOutput", ">&2") if stream == "logOutput" else ("logOutput", "")
    program = f"""
        echo SECRET; echo SECRET >&2; sleep 0.2; echo last {last}
        cd "$WEBSCHEDULER_HOME"/output; until grep -q last *.log; do sleep 0.02; done; cp *.log ../seen
    """
    line = run(installation, "sh", "-c", program, **{stream: own, other: True})
    kept = installed if own is None else own
    output, errors = ("SECRET\n" * (field == other or kept) for field in ("logOutput", "logErrorOutput"))
    assert line["output"] == output + "last\n" * (other == "logOutput")
    assert line["errorOutput"] == errors + "last\n" * (other == "logErrorOutput")
    assert (installation.home / "seen").read_text().count("SECRET") == 1 + kept


@pytest.mark.parametrize(
    "data",
    {
        "nothing": b"",
        "invalid UTF-8": b"a\xff\xfe\xe9b",
        "half a character": "é".encode()[:1],
        "NUL": b"a\x00b",
        "escapes": b"\x1b[31mred\x1b[0m\x07\r\n",
        "a surrogate": b"\xed\xa0\x80",
        "emoji": "😀".encode(),
        "line separators": "a\u2028b\u0085c".encode(),
    }.items(),
    ids=lambda item: item[0],
)
def test_any_bytes(installation: Installation, data: tuple[str, bytes]) -> None:
    """What a command prints is kept as text, undecodable bytes escaped; the line stays one line of JSON."""
    octal = "".join(f"\\{byte:03o}" for byte in data[1])
    line = run(installation, "bash", "-c", f"printf '{octal}'; printf '{octal}' >&2")
    assert line["output"] == line["errorOutput"] == data[1].decode("utf-8", "backslashreplace")
    assert installation.runs() == [line]


def test_output_that_is_too_long(installation: Installation) -> None:
    """64 KiB of a stream are kept; of more, the first and the last half, and between them how many bytes went."""
    half = history.LIMIT // 2
    line = run(installation, sys.executable, "-c", f"print('a' * {half} + 'b' * 1000 + 'c' * {half}, end='')")
    assert line["output"] == "a" * half + "\n... [truncated] 1000 bytes ...\n" + "c" * half
    line = run(installation, sys.executable, "-c", f"print('a' * {history.LIMIT}, end='')")
    assert line["output"] == "a" * history.LIMIT


WORST = {
    "letters": b"abcdefgh", "NULs": b"\x00", "newlines": b"\n", "not UTF-8": b"\xff", "quotes": b'"\\',
    "escapes": b"\x1b", "emoji": "😀".encode(), "line separators": "\u2028".encode(),
}  # fmt: skip


@pytest.mark.parametrize("pattern", WORST.values(), ids=WORST)
def test_no_line_is_long(installation: Installation, pattern: bytes) -> None:
    """Whatever bytes fill both streams, a line of history stays below 200 KiB, and so does a name at its longest."""
    name = "é" * 100
    program = "import os, sys\nfor _ in range(80): os.write(1 + _ % 2, bytes.fromhex(sys.argv[1]) * 4096)"
    installation.add(name, argv=[sys.executable, "-c", program, pattern.hex()])
    line = run_by_hand(str(installation.home), name, "cli", time.time)
    assert line is not None
    (text,) = Path(history.path(str(installation.home), name)).read_bytes().splitlines(keepends=True)
    assert len(text) < 200 * 1024
    assert json.loads(text) == line
    assert "[truncated]" in line["output"]
    assert "[truncated]" in line["errorOutput"]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pattern", WORST.values(), ids=WORST)
def test_memory_is_bounded(installation: Installation, pattern: bytes) -> None:
    """However much a command prints, its supervisor needs less than 64 MiB, the live output no more than 1 MiB, and the
    line less than 200 KiB."""
    chunks = 16384 if FULL else 256  # of 64 KiB on each of two streams: 2 GiB, or 32 MiB
    program = """
import os, sys, time
chunk = memoryview(bytes.fromhex(sys.argv[1]) * (65536 // len(bytes.fromhex(sys.argv[1]))))
for _ in range(int(sys.argv[2])):
    for stream in (1, 2):
        left = chunk
        while left:
            left = left[os.write(stream, left):]
open(sys.argv[3], "w").close()
while os.path.exists(sys.argv[3]):
    time.sleep(0.02)
"""
    printed = installation.home / "printed"
    words = [pattern.hex(), str(chunks), str(printed)]
    installation.add(argv=[sys.executable, "-I", "-S", "-c", program, *words], timeout=0)
    run_id = installation.trigger("cgi").document["run"]
    until(printed.exists)
    (facts,) = installation.facts()
    status = Path(f"/proc/{facts['supervisor'][0]}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 64 * 1024
    assert (installation.home / "output" / f"{run_id}.log").stat().st_size <= 1024**2
    printed.unlink()
    installation.idle()
    (line,) = installation.runs()
    assert line["status"] == "success"
    whole = history.LIMIT // 2 // 3 * 3 if pattern == WORST["line separators"] else history.LIMIT // 2
    gone = chunks * (65536 // len(pattern) * len(pattern)) - 2 * whole
    assert f"... [truncated] {gone} bytes ..." in line["output"]
    assert f"... [truncated] {gone} bytes ..." in line["errorOutput"]
    assert Path(history.path(str(installation.home), "task")).stat().st_size < 200 * 1024


def test_live_output(installation: Installation) -> None:
    """Both streams can be watched while the run goes on; the file starts again beyond 1 MiB and goes with the run."""
    more = installation.home / "more"
    program = """
        echo out; echo err >&2
        while [ ! -e "$0" ]; do sleep 0.02; done
        head -c 3000000 /dev/zero; echo end
        while [ -e "$0" ]; do sleep 0.02; done
    """
    installation.add(argv=["bash", "-c", program, str(more)])
    live = installation.home / "output" / f"{installation.trigger('wsgi').document['run']}.log"
    until(lambda: live.exists() and sorted(live.read_text().splitlines()) == ["err", "out"])
    assert live.stat().st_mode & 0o777 == 0o600
    more.touch()
    until(lambda: live.read_bytes().endswith(b"end\n"))
    assert live.stat().st_size <= 1024**2
    assert live.read_bytes().startswith(b"... [earlier output is not shown] ...\n")
    more.unlink()
    installation.idle()
    until(lambda: not live.exists())


def test_a_background_child_holds_the_pipes(installation: Installation) -> None:
    """The run ends with its command, and a child that goes on writing to its pipes neither delays nor fails it."""
    line = run(installation, "bash", "-c", "(trap '' PIPE; while :; do echo noise; sleep 0.01; done) & echo mine")
    assert line["status"] == "success"
    assert "mine\n" in line["output"]
    assert installation.processes()


# Where no process is to be had


def test_no_process(installation: Installation) -> None:
    """When the host gives no process, the run fails with that reason, in the answer and in history."""
    installation.add(strategy="fork")
    program = """
import os, resource, sys
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.execv(sys.argv[1], sys.argv[1:])
"""
    # No limit of processes holds for root: then it is another user's, as are the home and the way to it.
    with tempfile.TemporaryDirectory(prefix="ws-") as place:
        Path(place).chmod(0o755)
        home = Path(place) / "home"
        shutil.copytree(installation.home, home)
        script = Path(place) / "webscheduler.cgi"
        shutil.copy(SCRIPT, script)
        give(home, "nobody")
        environ = {"PATH": "/usr/bin:/bin", "WEBSCHEDULER_HOME": str(home), **installation.signed()}
        done = subprocess.run([readable(), "-c", program, readable(), str(script)], env=environ, capture_output=True,
                              stdin=subprocess.DEVNULL, cwd="/")  # fmt: skip
        document = json.loads(done.stdout.partition(b"\r\n\r\n")[2])
        assert (document["accepted"], document["strategy"]) == (True, "sync")
        assert (document["status"], document["reason"]) == ("failed", "no_process")
        (line,) = map(json.loads, (home / "logs" / "task.jsonl").read_text().splitlines())
        assert (line["run"], line["status"], line["reason"]) == (document["run"], "failed", "no_process")
        assert "process" in line["errorOutput"]
        assert list((home / "runs").iterdir()) == []


def test_a_command_that_closes_its_streams(installation: Installation) -> None:
    """A command that prints nothing any more is still waited for, and its exit status counts."""
    line = run(installation, "sh", "-c", "echo first; exec >&- 2>&-; sleep 0.3; exit 4", timeout=0)
    assert (line["status"], line["exitCode"], line["output"]) == ("failed", 4, "first\n")


def test_the_longest_time_limit(installation: Installation) -> None:
    """A time limit may be as long as the field allows."""
    from webscheduler.store.task import FIELDS

    longest = FIELDS["timeout"].limit[1]
    assert run(installation, "sleep", "0.2", timeout=longest)["status"] == "success"


def test_an_odd_home(tmp_path: Path) -> None:
    """A home may have any name that a directory can have."""
    installation = Installation(tmp_path / "a b'\"$é\n:😀")

    try:
        for strategy in ("fork", "sync"):
            for door in DOORS:
                installation.add(argv=shows(), strategy=strategy)
                home = os.fsencode(installation.home).decode("latin-1")
                environ = {**installation.signed(), "WEBSCHEDULER_HOME": home}
                assert installation.call(door, environ).document["accepted"] is True
                installation.idle()
                shown = json.loads(installation.runs()[-1]["output"])
                assert shown["environment"]["WEBSCHEDULER_HOME"] == str(installation.home)

        assert [line["status"] for line in installation.runs()] == ["success"] * 4
    finally:
        installation.end()


def test_characters_that_come_in_pieces(installation: Installation) -> None:
    """The live output has characters as a whole, though their bytes come one by one and those of the other stream are
    between them."""
    go_on = installation.home / "go-on"
    program = f"""
import os, time
one, other = "é".encode(), "😀".encode()
for _ in range(20000):
    os.write(1, one[:1]); os.write(2, other[:2]); os.write(1, one[1:]); os.write(2, other[2:])
while not os.path.exists({str(go_on)!r}): time.sleep(0.02)
"""
    installation.add(argv=[sys.executable, "-c", program])
    live = installation.home / "output" / f"{installation.trigger('wsgi').document['run']}.log"
    until(lambda: live.exists() and live.stat().st_size == 6 * 20000)
    assert set(live.read_bytes().decode()) == {"é", "😀"}
    go_on.touch()
    installation.idle()
    (line,) = installation.runs()
    assert line["output"] == "é" * 20000
    assert set(line["errorOutput"]) == {"😀", *"\n... [truncated] 14464 bytes ...\n"}


def test_a_live_output_that_starts_again_begins_with_a_whole_character(tmp_path: Path) -> None:
    """Of a character that is being printed when the file is full, the first bytes are not dropped."""
    live = process.Live(str(tmp_path / "live"))
    printed = "😀".encode() * (process.LIVE_LIMIT // 4 + 1000)

    for at in range(0, len(printed), 1021):
        live.add(1, printed[at:at + 1021])
        text = (tmp_path / "live").read_bytes().decode()
        assert set(text.rpartition("...\n")[2]) <= {"😀"}

    live.close()
    assert text.startswith("... [earlier")


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_characters_are_cut_at_their_edges(character: str, shift: int) -> None:
    """Where the middle of a stream is left out, no character is cut in two; each byte is either shown or counted."""
    printed = b"a" * shift + character.encode() * (history.LIMIT // len(character.encode()) + 5000) + b"b" * shift
    stream = process.Stream()

    for at in range(0, len(printed), 4999):
        stream.add(printed[at:at + 4999])

    head, _, rest = stream.text().partition("\n... [truncated] ")
    left_out, _, tail = rest.partition(" bytes ...\n")
    assert head == "a" * shift + character * (len(head) - shift)
    assert tail == character * (len(tail) - shift) + "b" * shift
    assert len(head.encode()) + int(left_out) + len(tail.encode()) == len(printed)


@pytest.mark.parametrize("printed", [b"\xc3", b"\xff\xfe", b"\xe2\x82", b"\x80\x80\x80\x80", b"a\xf0\x9f\x98"])
def test_wrong_bytes_of_the_command_are_shown(printed: bytes) -> None:
    """Where nothing was cut, what is wrong is the command's own, and shown."""
    stream = process.Stream()
    stream.add(printed)
    assert stream.text() == printed.decode("utf-8", "backslashreplace")
