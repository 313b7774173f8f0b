# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs one command to its end and says how it ended.

The rules: argv only, never a shell; a session and process group of its own; standard input from /dev/null; an
environment made from an allow-list; signals as after a login, since an inherited "ignore SIGCHLD" turns exit status 7
into 0. The run ends when its process ends, not when its pipes close. At its time limit, or when this process is told to
end, the whole group gets TERM and, after a grace period, KILL. Memory is bounded, however much is printed.

The caller is the supervisor: a process with one thread, which holds the run's claim. The command inherits the claim's
descriptor and has the run's id in its environment, so that whoever finds the command knows its run.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time

from .. import vocabulary as words
from ..commands import registry
from ..schedule import cron
from ..store import capabilities, locks
from ..store.files import close
from ..store.history import LIMIT, clip
from .recorder import outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..shapes import Outcome
    from ..store.locks import Claim

# What a run may need once its command was started: imported before, since the package may be replaced meanwhile.
LOADED = (registry, cron, capabilities)

GRACE = 5.0  # seconds between TERM and KILL
GRACE_WHEN_TOLD = 2.0  # the same if we were told to end: some servers follow their own TERM with KILL after 3 seconds
DRAIN = 0.3  # seconds in which output is still read after the command has ended
UNTOUCHED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
LASTING = 1.0  # seconds after which state.json says that the run is in progress
LONGEST_POLL = 3600.0
LIVE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
LIVE_LIMIT = 1024 * 1024
KEPT_VARIABLES = ("HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV")


class Invocation:
    """What to run: argv, working directory, environment, time limit in seconds (0: none), which output to keep."""

    __slots__ = ("argv", "cwd", "environment", "keep_error_output", "keep_output", "timeout")

    def __init__(
        self, argv: list[str], cwd: str, environment: dict[str, str], timeout: float, keep: tuple[bool, bool]
    ) -> None:
        self.argv, self.cwd, self.environment, self.timeout = argv, cwd, environment, timeout
        self.keep_output, self.keep_error_output = keep


class Stream:
    """The kept part of one output stream: the first and the last LIMIT / 2 bytes, and how many went between."""

    __slots__ = ("dropped", "head", "tail")

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
    """output/RUN.log: both streams as they come, for people who watch; at LIVE_LIMIT bytes it starts again."""

    __slots__ = ("descriptor", "size")

    def __init__(self, file: str) -> None:
        self.size = 0

        try:
            self.descriptor = os.open(file, LIVE_FLAGS, 0o600)
        except OSError:
            self.descriptor = -1  # the run matters more than watching it

    def add(self, data: bytes) -> None:
        """Append the next bytes."""
        if self.descriptor < 0:
            return

        try:
            if self.size + len(data) > LIVE_LIMIT:
                os.ftruncate(self.descriptor, 0)
                self.size = os.write(self.descriptor, b"... [earlier output is not shown] ...\n")

            self.size += os.write(self.descriptor, data)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            close(self.descriptor)
            self.descriptor = -1


class Signals:
    """Turns SIGCHLD and the signals that tell a supervisor to end into bytes of a pipe, for which `poll` can wait.

    A context manager. A signal that comes after the command has ended does nothing, so the record is written whole.
    told: the number of the signal that told us to end, or None.
    """

    def __enter__(self) -> Signals:
        self.told: int | None = None
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self.writing, False)
        self.mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.wakeup = signal.set_wakeup_fd(self.writing, warn_on_full_buffer=False)
        # An ignored signal stays ignored over exec (execve(2)); an ignored SIGCHLD would turn exit status 7 into 0. Two
        # of UNTOUCHED we need ignored ourselves, and Popen restores them for the command.
        self.before = {number: signal.signal(number, signal.SIG_DFL)
                       for number in signal.valid_signals() - UNTOUCHED
                       if signal.getsignal(number) == signal.SIG_IGN}

        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.before.setdefault(number, signal.signal(number, self._note))

        return self

    def _note(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self.told = number

    def drain(self) -> None:
        """Empty the pipe."""
        try:
            while os.read(self.reading, 512):
                pass
        except BlockingIOError:
            pass

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

        signal.set_wakeup_fd(self.wakeup)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        close(self.reading)
        close(self.writing)


def environment(home: str, extra: dict[str, str]) -> dict[str, str]:
    """The environment of a command. Nothing of a request is in it: no CGI variables, no HTTP_* (httpoxy)."""
    import pwd

    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}

    try:
        account = pwd.getpwuid(os.getuid())
        names = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
        # A server that root started may pass on root's HOME.
        kept = {**names, **kept} if _owned(kept.get("HOME", account.pw_dir)) else {**kept, **names}
    except KeyError:
        kept.setdefault("HOME", home)

    kept.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {**kept, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "WEBSCHEDULER_HOME": home, **extra}


def _owned(directory: str) -> bool:
    try:
        return os.stat(directory).st_uid == os.getuid()
    except OSError:
        return False


def run(
    invocation: Invocation, claim: Claim, live_file: str, signals: Signals, lasts: Callable[[], object]
) -> Outcome:
    """Run the command and return its outcome. lasts: called once, when it has run for LASTING seconds."""
    live = Live(live_file)
    output, errors = Stream(), Stream()

    try:
        begun = time.monotonic()
        deadline = begun + invocation.timeout if invocation.timeout else None
        claim.append({"timeout": invocation.timeout, "deadline": deadline})

        if signals.told is not None:
            return outcome(words.INTERRUPTED, words.CANCELLED if claim.facts().get("cancelled") else words.TERMINATED)

        try:
            child = _start(invocation, claim)
        except OSError as error:
            return _not_started(invocation, error)
        except ValueError as error:  # text that this locale cannot encode
            return outcome(words.FAILED, words.NOT_STARTED, error_output=f"{type(error).__name__}: {error}\n")

        streams = {child.stdout: output, child.stderr: errors}
        ended = _watch(child, signals, deadline, streams, invocation, live, lasts)

        if ended["reason"] == words.TERMINATED and claim.facts().get("cancelled"):
            ended["reason"] = words.CANCELLED

        return {**ended, "duration": round(time.monotonic() - begun, 3), "output": output.text(),
                "errorOutput": errors.text()}
    finally:
        live.close()


def _start(invocation: Invocation, claim: Claim) -> subprocess.Popen[bytes]:
    # No preexec_fn: it makes a start six times slower. `Signals` has reset the signals already, and until the claim
    # names the command, the run's id in its environment does.
    child = subprocess.Popen(
        invocation.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=invocation.cwd,
        env={**invocation.environment, locks.RUN_VARIABLE: claim.run},
        start_new_session=True,
        pass_fds=[claim.descriptor],
    )

    claim.try_append({"command": locks.identity(child.pid)})
    return child


def _watch(  # noqa: C901 (what a turn of the loop may meet is read together)
    child: subprocess.Popen[bytes],
    signals: Signals,
    deadline: float | None,
    streams: dict[Any, Stream],
    invocation: Invocation,
    live: Live,
    lasts: Callable[[], object],
) -> Outcome:
    open_streams = {stream.fileno(): (stream, kept) for stream, kept in streams.items()}
    kept_live = {stream.fileno(): keep for stream, keep in
                 ((child.stdout, invocation.keep_output), (child.stderr, invocation.keep_error_output)) if stream}
    poller = select.poll()
    poller.register(signals.reading, select.POLLIN)
    status, reason, kill_at, ended_at = "", None, None, None
    lasting_at: float | None = time.monotonic() + LASTING

    for descriptor in open_streams:
        os.set_blocking(descriptor, False)
        poller.register(descriptor, select.POLLIN)

    while True:
        now = time.monotonic()

        if ended_at is None and _ended(child):
            ended_at = now

            if status:  # the leader has ended and is not reaped yet, so its number still means its group
                _kill(child.pid, signal.SIGKILL)

        if lasting_at is not None and ended_at is None and now >= lasting_at:
            lasting_at = None
            lasts()

        if ended_at is not None and (not open_streams or now > ended_at + DRAIN):
            break

        if ended_at is None and not status and (signals.told is not None or (deadline is not None and now >= deadline)):
            told = signals.told is not None
            status, reason = (words.INTERRUPTED, words.TERMINATED) if told else (words.TIMEOUT, None)
            kill_at = now + (GRACE_WHEN_TOLD if told else GRACE)
            _kill(child.pid, signal.SIGTERM)

        if ended_at is None and kill_at is not None and now >= kill_at:
            _kill(child.pid, signal.SIGKILL)
            kill_at = None

        waits = [moment - now for moment in (None if ended_at is None else ended_at + DRAIN, kill_at,
                                             lasting_at, None if status else deadline) if moment is not None]

        # poll(2) takes milliseconds as an int, which ends at 24 days.
        for descriptor, _ in poller.poll(max(0, min([*waits, LONGEST_POLL])) * 1000 + 1):
            if descriptor == signals.reading:
                signals.drain()
                continue

            data = _read(descriptor)

            if data and kept_live[descriptor]:
                open_streams[descriptor][1].add(data)
                live.add(data)
            elif data == b"":
                poller.unregister(descriptor)
                open_streams.pop(descriptor)

    return _result(child, status, reason)


def _read(descriptor: int) -> bytes | None:
    """What there is to be read; empty at the end, None before more has come."""
    try:
        return os.read(descriptor, LIMIT)
    except BlockingIOError:
        return None


def _result(child: subprocess.Popen[bytes], status: str, reason: str | None) -> Outcome:
    """The outcome of a command that has ended. status: empty where it ended by itself."""
    for stream in (child.stdout, child.stderr):
        if stream:
            stream.close()

    code = child.wait()
    number = -code if code < 0 else None
    status = status or (words.SUCCESS if code == 0 else words.FAILED)
    return outcome(status, reason, exit_code=128 + number if number else code, signal=number)


def _ended(child: subprocess.Popen[bytes]) -> bool:
    # WNOWAIT leaves the zombie: while it is there, the number of its process group is not given to another.
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _kill(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def _not_started(invocation: Invocation, error: OSError) -> Outcome:
    """The outcome of a command that did not start: exit status as of a shell (127 not found, 126 not executable)."""
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EPERM, errno.EMFILE, errno.ENFILE):
        return outcome(words.FAILED, words.NO_PROCESS, error_output=f"the host gave no process: {error.strerror}\n")

    what = "working directory" if error.filename == invocation.cwd else "program"
    code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
    return outcome(words.FAILED, words.NOT_STARTED, exit_code=code,
                   error_output=f"{what} {error.filename or invocation.argv[0]}: {error.strerror}\n")
