"""Runs one command to its end and says how it ended.

The rules: argv only, never a shell; a session and process group of its own; standard input from /dev/null; an
environment made from an allow-list; signals as a new login has them, since an inherited "ignore SIGCHLD" turns exit 7
into 0. The run ends when its process ends, not when its pipes close. When the time is up, or this process is told to
end, the whole group gets TERM and, after a grace period, KILL. Memory stays bounded whatever is printed.

The caller is the supervisor: a process of its own with one thread, which holds the run's claim. The command inherits
the claim's descriptor, and carries the run's id in its environment, so that whoever finds it knows whose it is.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time

from ..store import locks
from ..store.history import LIMIT, clip
from .recorder import outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..store.locks import Claim

GRACE = 5.0
GRACE_WHEN_TOLD = 2.0  # some servers follow their own TERM with KILL after three seconds
DRAIN = 0.3
UNTOUCHED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
LASTING = 1.0  # seconds after which state says that a run is in progress
LONGEST_POLL = 3600.0
LIVE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
LIVE_LIMIT = 1024 * 1024
KEPT_VARIABLES = ("HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV")


class Invocation:
    """What to run: argv, working directory, environment, seconds until it is ended (0: never), what output to keep."""

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
    """output/RUN.log: both streams as they come, for whoever watches; beyond LIVE_LIMIT it starts again."""

    __slots__ = ("descriptor", "size")

    def __init__(self, file: str) -> None:
        self.size = 0

        try:
            self.descriptor = os.open(file, LIVE_FLAGS, 0o600)
        except OSError:
            self.descriptor = -1  # a run is worth more than being watched

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
            os.close(self.descriptor)
            self.descriptor = -1


class Signals:
    """Turns SIGCHLD and the signals that tell a supervisor to end into bytes of a pipe that `select` can wait for. A
    context manager: what comes within it, but after the command has ended, ends nothing, so a record is written whole.
    """

    def __enter__(self) -> Signals:
        self.told: int | None = None
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self.writing, False)
        self.mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.wakeup = signal.set_wakeup_fd(self.writing, warn_on_full_buffer=False)
        # What is ignored stays ignored over exec (execve(2)); an ignored SIGCHLD would turn exit 7 into 0. Two we need
        # ignored ourselves, and Popen restores them for the command.
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
        os.close(self.reading)
        os.close(self.writing)


def environment(home: str, extra: dict[str, str]) -> dict[str, str]:
    """The command's environment: nothing of a request can be in it, neither CGI's variables nor HTTP_* (httpoxy)."""
    import pwd

    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}

    try:
        account = pwd.getpwuid(os.getuid())
        names = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
        # A server that root started may hand down root's HOME.
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
) -> dict[str, Any]:
    """Run it and return its outcome: status, reason, exitCode, signal, duration (seconds), output, errorOutput. lasts:
    is called once, when it has run for LASTING seconds."""
    live = Live(live_file)
    output, errors = Stream(), Stream()

    try:
        begun = time.monotonic()
        deadline = begun + invocation.timeout if invocation.timeout else None
        claim.append({"timeout": invocation.timeout, "deadline": deadline})

        if signals.told is not None:
            return outcome("interrupted", "cancelled" if claim.facts().get("cancelled") else "terminated")

        try:
            child = _start(invocation, claim)
        except OSError as error:
            return _not_started(invocation, error)
        except ValueError as error:  # words that this locale cannot encode
            return outcome("failed", "not_started", errorOutput=f"{type(error).__name__}: {error}\n")

        streams = {child.stdout: output, child.stderr: errors}
        ended = _watch(child, signals, deadline, streams, invocation, live, lasts)

        if ended["reason"] == "terminated" and claim.facts().get("cancelled"):
            ended["reason"] = "cancelled"

        return {**ended, "duration": round(time.monotonic() - begun, 3), "output": output.text(),
                "errorOutput": errors.text()}
    finally:
        live.close()


def _start(invocation: Invocation, claim: Claim) -> subprocess.Popen[bytes]:
    # No preexec_fn: it makes a start six times slower. Signals are as they are to be already (Signals), and until the
    # command is named in the claim it is known by the run's id in its environment.
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

    try:
        claim.append({"command": locks.identity(child.pid)})
    except OSError:
        pass  # the disk is full

    return child


def _watch(
    child: subprocess.Popen[bytes],
    signals: Signals,
    deadline: float | None,
    streams: dict[Any, Stream],
    invocation: Invocation,
    live: Live,
    lasts: Callable[[], object],
) -> dict[str, Any]:
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

            if status:  # the leader is gone and not yet reaped, so the number still means its group
                _kill(child.pid, signal.SIGKILL)

        if lasting_at is not None and ended_at is None and now >= lasting_at:
            lasting_at = None
            lasts()

        if ended_at is not None and (not open_streams or now > ended_at + DRAIN):
            break

        if ended_at is None and not status and (signals.told is not None or deadline is not None and now >= deadline):
            told = signals.told is not None
            status, reason = ("interrupted", "terminated") if told else ("timeout", None)
            kill_at = now + (GRACE_WHEN_TOLD if told else GRACE)
            _kill(child.pid, signal.SIGTERM)

        if ended_at is None and kill_at is not None and now >= kill_at:
            _kill(child.pid, signal.SIGKILL)
            kill_at = None

        waits = [moment - now for moment in (None if ended_at is None else ended_at + DRAIN, kill_at,
                                             lasting_at, None if status else deadline) if moment is not None]

        # poll(2) counts milliseconds in an int, which ends at 24 days.
        for descriptor, _ in poller.poll(max(0, min([*waits, LONGEST_POLL])) * 1000 + 1):
            if descriptor == signals.reading:
                signals.drain()
                continue

            try:
                data = os.read(descriptor, LIMIT)
            except BlockingIOError:
                continue

            if data and kept_live[descriptor]:
                open_streams[descriptor][1].add(data)
                live.add(data)
            elif not data:
                poller.unregister(descriptor)
                open_streams.pop(descriptor)

    for stream in streams:
        stream.close()

    code = child.wait()
    number = -code if code < 0 else None
    status = status or ("success" if code == 0 else "failed")
    return outcome(status, reason, exitCode=128 + number if number else code, signal=number)


def _ended(child: subprocess.Popen[bytes]) -> bool:
    # WNOWAIT leaves the zombie, which keeps its process group's number from being given to somebody else.
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _kill(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def _not_started(invocation: Invocation, error: OSError) -> dict[str, Any]:
    """How a shell reports what it cannot start: 127 not found, 126 not executable; and the host's limits by name."""
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EPERM, errno.EMFILE, errno.ENFILE):
        return outcome("failed", "no_process", errorOutput=f"the host gave no process: {error.strerror}\n")

    what = "working directory" if error.filename == invocation.cwd else "program"
    return outcome("failed", "not_started", exitCode=127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126,
                   errorOutput=f"{what} {error.filename or invocation.argv[0]}: {error.strerror}\n")
