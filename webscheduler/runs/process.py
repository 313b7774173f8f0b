# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs one command to its end and says how it ended.

The rules: argv only, never a shell; a session and process group of its own; standard input from /dev/null; an
environment made from an allow-list; signals as after a login, since an inherited "ignore SIGCHLD" turns exit status 7
into 0. The run ends when its process ends, not when its pipes close. At its time limit, or when this process is told to
end, all of it ends (`ending`). Memory is bounded, however much is printed.

The caller is the supervisor. The command inherits the claim's descriptor and has the run's id in its environment, so
that whoever finds the command knows its run.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import subprocess
import sys
import time

from .. import vocabulary as words
from ..commands import registry
from ..schedule import cron
from ..store import capabilities, locks
from ..store.files import append_bytes, close
from ..store.history import LIMIT, clip, whole
from . import ending
from .recorder import outcome, reason_to_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Cost, Outcome
    from .supervisor import Signals

# What a run may need once its command was started: imported before, since the package may be replaced meanwhile.
LOADED = (registry, cron, capabilities, resource)  # the last one by wait4

DRAIN = 0.3  # seconds in which output is still read after the command has ended
ADOPTED_AFTER = 0.02  # seconds after which a run's orphans come to its supervisor; shorter runs save the import of that
LASTING = 1.0  # seconds after which state.json says that the run is in progress
LONGEST_POLL = 3600.0
LIVE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
LIVE_LIMIT = 1024 * 1024
EARLIER = b"... [earlier output is not shown] ...\n... [truncated] "
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss (getrusage(2))


class Invocation:
    """What to run: argv, working directory, environment, time limit in seconds (0: none), which output to keep."""

    def __init__(self, argv: list[str], cwd: str, environment: dict[str, str], timeout: float,
                 keep: tuple[bool, bool]) -> None:
        self.argv, self.cwd, self.environment, self.timeout = argv, cwd, environment, timeout
        self.keep_output, self.keep_error_output = keep


class Stream:
    """The kept part of one output stream: the first and the last LIMIT / 2 bytes, and how many went between."""

    def __init__(self) -> None:
        self.head, self.tail, self.dropped = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        room = LIMIT // 2 - len(self.head)
        self.head += data[:room] if room > 0 else b""
        self.tail += data[max(room, 0):]
        excess = len(self.tail) - LIMIT // 2

        if excess > 0:
            del self.tail[:excess]
            self.dropped += excess

    def text(self) -> str:
        """What was kept, as text for history."""
        return clip(bytes(self.head), bytes(self.tail), self.dropped)


class Live:
    """output/RUN.log: both streams as they come, for people who watch; at LIVE_LIMIT bytes it starts again, and says
    how many came before. A character of UTF-8 is written as a whole, whatever comes between its bytes."""

    def __init__(self, file: str) -> None:
        self.size = self.total = 0  # bytes in the file; bytes of output that there were
        self.begun: dict[int, bytes] = {}  # the first bytes of a character, by stream

        try:
            self.descriptor = os.open(file, LIVE_FLAGS, 0o600)
        except OSError:
            self.descriptor = -1  # the run matters more than watching it

    def add(self, stream: int, data: bytes) -> None:
        """Append the next bytes of a stream."""
        data = self.begun.pop(stream, b"") + data
        end = whole(data)
        self.begun[stream] = data[end:]
        self._append(data[:end])

    def _append(self, data: bytes) -> None:
        head = b""

        try:
            if self.size + len(data) > LIVE_LIMIT:
                os.ftruncate(self.descriptor, 0)
                head, self.size = b"%s%d bytes ...\n" % (EARLIER, self.total), 0

            append_bytes(self.descriptor, head + data)
            self.size += len(head + data)
            self.total += len(data)
        except OSError:
            close(self.descriptor)
            self.descriptor = -1

    def close(self) -> None:
        """Close the file, with what began a character that has no end."""
        self._append(b"".join(self.begun.values()))
        close(self.descriptor)


def run(invocation: Invocation, claim: locks.Claim, live_file: str, signals: Signals, lasts: Callable[[], object],
        own: bool = False) -> Outcome:
    """Run the command and return its outcome. lasts: called once, when it has run for LASTING seconds. own: this
    process is a supervisor and nothing else, so the run's orphans may come to it."""
    live = Live(live_file)
    output, errors = Stream(), Stream()

    try:
        begun = time.monotonic()
        deadline = begun + invocation.timeout if invocation.timeout else None
        claim.append({"timeout": invocation.timeout, "deadline": deadline})

        if signals.told is not None:
            return outcome(words.INTERRUPTED, reason_to_end(claim))

        try:
            child = _start(invocation, claim)
        except OSError as error:
            return _not_started(invocation, error)
        except ValueError as error:  # text that this locale cannot encode
            return outcome(words.FAILED, words.NOT_STARTED, error_output=f"{type(error).__name__}: {error}\n")

        streams = {child.stdout: output if invocation.keep_output else None,
                   child.stderr: errors if invocation.keep_error_output else None}
        ended = _watch(child, claim, signals, deadline, streams, live, lasts, own)
        return {**ended, "duration": round(time.monotonic() - begun, 3), "output": output.text(),
                "errorOutput": errors.text()}
    finally:
        live.close()


def _start(invocation: Invocation, claim: locks.Claim) -> subprocess.Popen[bytes]:
    # No preexec_fn: it makes a start six times slower. `Signals` has reset the signals already, and until the claim
    # names the command, the run's id in its environment does.
    child = subprocess.Popen(
        invocation.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=invocation.cwd,
        env={**invocation.environment, locks.RUN_VARIABLE: claim.run}, start_new_session=True, pass_fds=[claim.lock])
    claim.try_append({"command": locks.identity(child.pid)})
    return child


def _watch(  # noqa: C901 (what a turn of the loop may meet is read together)
    child: subprocess.Popen[bytes], claim: locks.Claim, signals: Signals, deadline: float | None,
    streams: dict[Any, Stream | None], live: Live, lasts: Callable[[], object], own: bool,
) -> Outcome:
    open_streams = {stream.fileno(): kept for stream, kept in streams.items()}
    poller = select.poll()
    poller.register(signals.reading, select.POLLIN)
    command = locks.identity(child.pid)
    adopts = 0
    cost: Cost = {}
    end: ending.Ending | None = None
    ended_at, over_at = None, None  # when the command had ended; when all had that was to end
    begun = time.monotonic()
    adopts_at: float | None = begun + ADOPTED_AFTER if own else None
    lasting_at: float | None = begun + LASTING
    look_at: float | None = None  # when to look what is left of a run that is being ended

    for descriptor in open_streams:
        os.set_blocking(descriptor, False)
        poller.register(descriptor, select.POLLIN)

    while True:
        now = time.monotonic()

        if _reap(child, adopts, cost) and ended_at is None:
            ended_at, look_at = now, now
            adopts_at = lasting_at = None
            over_at = None if end else now

        if adopts_at is not None and now >= adopts_at:
            adopts_at, adopts = None, ending.adopt()

        if lasting_at is not None and now >= lasting_at:
            lasting_at = None
            lasts()

        if over_at is not None and (not open_streams or now > over_at + DRAIN):
            break

        if ended_at is None and end is None and (
                signals.told is not None or (deadline is not None and now >= deadline)):
            end = ending.Ending(claim, claim.facts(), command, adopts, child)
            end.begin(words.TIME_LIMIT if signals.told is None else reason_to_end(claim))
            look_at = end.kill_at

        if end and over_at is None and look_at is not None and now >= look_at:
            look_at = now + ending.PAUSE
            over_at = now if end.is_over() and ended_at is not None else None

        waits = [moment - now for moment in (adopts_at, lasting_at, over_at and over_at + DRAIN,
                 look_at if end and over_at is None else None, None if end else deadline) if moment is not None]

        # poll(2) takes milliseconds as an int, which ends at 24 days.
        for descriptor, _ in poller.poll(max(0, min([*waits, LONGEST_POLL])) * 1000 + 1):
            if descriptor == signals.reading:
                signals.drain()
                continue

            data, kept = _read(descriptor), open_streams[descriptor]

            if data and kept:
                kept.add(data)
                live.add(descriptor, data)
            elif data == b"":
                poller.unregister(descriptor)
                open_streams.pop(descriptor)

    return {**_result(child, end.facts["ending"] if end else None), **cost}


def _read(descriptor: int) -> bytes | None:
    """What there is to be read; empty at the end, None before more has come."""
    try:
        return os.read(descriptor, LIMIT)
    except BlockingIOError:
        return None


def _result(child: subprocess.Popen[bytes], ending: str | None) -> Outcome:
    """The outcome of a command that has ended. ending: why it was told to; None where it ended by itself."""
    for stream in (child.stdout, child.stderr):
        if stream:
            stream.close()

    code = child.wait()
    number = -code if code < 0 else None
    status, reason = words.SUCCESS if code == 0 else words.FAILED, None

    if ending:
        status, reason = (words.TIMEOUT, None) if ending == words.TIME_LIMIT else (words.INTERRUPTED, ending)

    return outcome(status, reason, exit_code=128 + number if number else code, signal=number)


def _reap(child: subprocess.Popen[bytes], adopts: int, cost: Cost) -> bool:
    """Reap what has ended: the command, with what it cost, and the orphans that came to us. Whether the command has
    ended."""
    pid = child.pid

    while pid and (adopts or child.returncode is None):
        try:
            pid, status, used = os.wait4(-1 if adopts else child.pid, os.WNOHANG)
        except ChildProcessError:
            return child.poll() is not None  # nothing is left

        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            cost["cpuSeconds"] = round(used.ru_utime + used.ru_stime, 3)
            cost["maxRssBytes"] = used.ru_maxrss * RSS_UNIT

    return child.returncode is not None


def _not_started(invocation: Invocation, error: OSError) -> Outcome:
    """The outcome of a command that did not start: exit status as of a shell (127 not found, 126 not executable)."""
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EPERM, errno.EMFILE, errno.ENFILE):
        return outcome(words.FAILED, words.NO_PROCESS, error_output=f"the host gave no process: {error.strerror}\n")

    what = "working directory" if error.filename == invocation.cwd else "program"
    code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
    return outcome(words.FAILED, words.NOT_STARTED, exit_code=code,
                   error_output=f"{what} {error.filename or invocation.argv[0]}: {error.strerror}\n")
