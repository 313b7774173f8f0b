"""Who may run, and who is running: the gate of a task and the claims of its runs.

The rules:
- The gate `locks/NAME.lock` is locked for milliseconds by whoever decides about NAME, and let go before any fork. It
  is never unlinked or renamed, so all who wait, wait on one inode. Its record holds what must not be decided twice:
  the last start, the highest accepted `ts`, and when a skip was last written to history.
- A claim `runs/NAME@RUN` is locked for as long as anything of the run lives, because the lock belongs to the open
  file description (flock(2)) and the descriptor rides into supervisor and command. Raw descriptors, because closing a
  copy keeps the lock while an unlock in any copy ends it. Lock got and file still linked: the run is dead.
- Only who holds the gate tries the locks of claims; a reader that tried would make an idle task look busy.
- An error of flock other than "somebody has it" means that nothing can be promised: no run, 503.
"""

from __future__ import annotations

import os
import time

from ..errors import Busy, Unusable
from ..vocabulary import COUNTED_REASONS
from .files import append_bytes, file_name, is_same_file, lock_file, unlock_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

GATE_PATIENCE = 10.0
RECORD_SIZE = 256
RUN_VARIABLE = "WEBSCHEDULER_RUN"  # in the environment of a command: the id of its run


class Gate:
    """The gate of one task, as a context manager. Raises Busy after GATE_PATIENCE seconds, Unusable without locks.

    last_start: Unix seconds of the last start; last_ts: highest accepted `ts`; skips: reason -> (Unix seconds of the
    last line of history, how many came since). `save` writes them.
    """

    __slots__ = ("descriptor", "last_start", "last_ts", "path", "skips")

    def __init__(self, home: str, name: str) -> None:
        self.path = os.path.join(home, "locks", file_name(name) + ".lock")
        self.descriptor = -1

    def __enter__(self) -> Gate:
        self.descriptor = _open(self.path, os.O_RDWR | os.O_CREAT)

        try:
            if not lock_file(self.descriptor, GATE_PATIENCE):
                raise Busy(f"{self.path} is held by another process: try again")

            self._read()
        except BaseException:
            os.close(self.descriptor)
            raise

        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Closing alone would leave the lock to a copy that another thread's fork may have made meanwhile.
            unlock_file(self.descriptor)
        finally:
            os.close(self.descriptor)

    def _read(self) -> None:
        words = os.pread(self.descriptor, RECORD_SIZE, 0).split()

        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []

        if not all(0 <= number < 1e12 for number in numbers):
            numbers = []  # never written like this; zeros forget a rate limit, no run

        numbers += [0.0] * (2 + 2 * len(COUNTED_REASONS) - len(numbers))
        self.last_start, self.last_ts = numbers[0], int(numbers[1])
        self.skips = {reason: (numbers[2 + 2 * i], int(numbers[3 + 2 * i])) for i, reason in enumerate(COUNTED_REASONS)}

    def save(self) -> None:
        """Write the record: one write of a fixed size, which no reader under the lock can see half."""
        words = [f"{self.last_start:.6f}", str(self.last_ts)]

        for reason in COUNTED_REASONS:
            when, count = self.skips[reason]
            words += [str(int(when)), str(min(count, 999999999))]  # rounded down: not ahead of the clock

        os.pwrite(self.descriptor, " ".join(words).encode().ljust(RECORD_SIZE - 1) + b"\n", 0)


class Claim:
    """A run in progress: its locked file. Lines of JSON, of which later ones add to earlier ones.

    Keys: run, name, startedAt, trigger, triggeredAt, ip, strategy, scheduledFor, attempt; starter, supervisor and
    command as [pid, start time]; timeout and deadline (on the monotonic clock of this boot); cancelled; outcome.
    """

    __slots__ = ("descriptor", "name", "path", "run")

    def __init__(self, path: str, descriptor: int, name: str, run: str) -> None:
        self.path, self.descriptor, self.name, self.run = path, descriptor, name, run

    def append(self, facts: dict[str, Any]) -> None:
        """Add facts. Each line brings its own line break in front, so one torn by a kill spoils no other."""
        append_bytes(self.descriptor, line(facts))

    def facts(self) -> dict[str, Any]:
        """All that the claim says so far."""
        return facts_of(self.descriptor)

    def remove(self) -> None:
        """Unlink the file; the run is recorded."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def release(self) -> None:
        """Unlock explicitly, for all copies of the descriptor: a daemon that the command left behind blocks nothing."""
        if self.descriptor >= 0:
            unlock_file(self.descriptor)
            self.close()

    def close(self) -> None:
        """Close this process's copy; the lock lives on in the others."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def copy_record(home: str, old: str, new: str) -> None:
    """Carry a gate's record to another name; the caller holds both gates."""
    source, target = (os.path.join(home, "locks", file_name(name) + ".lock") for name in (old, new))

    with open(source, "rb") as record, open(target, "r+b") as file:
        file.write(record.read())


def line(facts: dict[str, Any]) -> bytes:
    """Facts as Claim.append writes them; for whoever must write them with a bare descriptor."""
    words = [_plain(value) for value in facts.values()]

    if None not in words:  # json costs a request more than all else
        return ("\n{" + ", ".join(f'"{key}": {word}' for key, word in zip(facts, words)) + "}\n").encode("ascii")

    import json

    return b"\n" + json.dumps(facts, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _plain(value: Any) -> str | None:
    """A value as JSON, where that is simple; else None."""
    if isinstance(value, str):
        plain = value.isascii() and value.isprintable() and '"' not in value and "\\" not in value
        return f'"{value}"' if plain else None

    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]

    if isinstance(value, (int, float)):
        return repr(value) if -1e300 < value < 1e300 else None

    return str(value) if isinstance(value, list) and all(type(item) is int for item in value) else None


def new_run(now: float) -> str:
    """A run id: UTC time to the second, for people, and 32 random bits."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(now)) + "-" + os.urandom(4).hex()


def make_claim(home: str, name: str, run: str, facts: dict[str, Any]) -> Claim:
    """Make and lock a claim; the caller holds the gate of `name`. Raises Unusable."""
    path = os.path.join(home, "runs", f"{file_name(name)}@{run}")
    descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
    claim = Claim(path, descriptor, name, run)

    try:
        if not lock_file(descriptor):
            raise Unusable(f"{path}: a new file is locked already; file locks cannot be trusted here")

        claim.append(facts)
    except BaseException as error:
        claim.remove()
        claim.close()

        if isinstance(error, OSError):
            raise Unusable(f"{path} cannot be written: {error.strerror}")

        raise

    return claim


def claims(home: str, name: str) -> Iterator[tuple[Claim, bool]]:
    """Each claim of the task with whether its lock was got here, one after the other, for the caller to close; the
    caller holds the gate."""
    for run in runs(home, name):
        path = os.path.join(home, "runs", f"{file_name(name)}@{run}")

        try:
            claim = Claim(path, _open(path, os.O_RDWR | os.O_APPEND), name, run)
        except FileNotFoundError:
            continue

        try:
            got = lock_file(claim.descriptor)
            rests = is_same_file(claim.descriptor, path)  # else somebody else recorded it meanwhile
        except BaseException:
            claim.close()
            raise

        if rests:
            yield claim, got
        else:
            claim.close()


def living(home: str, name: str) -> list[str] | None:
    """Ids of the task's runs that live, told from their claims alone; None where there is a claim that is more than
    that: of a dead run, or of one whose supervisor is gone. The caller holds the gate."""
    found = []

    for claim, unlocked in claims(home, name):
        try:
            if unlocked or not supervised(claim.descriptor):
                return None

            found.append(claim.run)
        finally:
            claim.close()

    return found


def supervised(descriptor: int) -> bool:
    """Whether whoever records the run lives: its supervisor, or, before there is one, whoever started it."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    key = b'"supervisor": ['
    start = content.rfind(key)  # quotes within texts are escaped, so this is no part of one

    if start < 0:
        return True

    words = content[start + len(key) :].partition(b"]")[0].split(b",")

    try:
        return alive([int(word) for word in words])
    except ValueError:
        return False


def live_runs(home: str, name: str | None = None) -> list[dict[str, Any]]:
    """Facts of the runs that are alive, for readers: told from the dead by pid and start time, no lock is tried."""
    found = []

    for run in runs(home, name):
        path = os.path.join(home, "runs", run if name is None else f"{file_name(name)}@{run}")

        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue

        try:
            facts = facts_of(descriptor)
        finally:
            os.close(descriptor)

        # Who claimed the run may be a server that lives on when all of the run is dead.
        if any(alive(facts.get(who)) for who in (("command", "supervisor") if "supervisor" in facts else ("starter",))):
            found.append(facts)

    return found


def identity(pid: int | None = None) -> list[int]:
    """[pid, start time in clock ticks since boot] of a process, which together name it for as long as the machine is up
    (proc(5), /proc/PID/stat field 22). The start time is 0 where /proc does not say."""
    return [pid or os.getpid(), _stat(pid or os.getpid())[1]]


def process_of(run: str) -> list[int] | None:
    """The identity of a process that carries the run's id in its environment (proc(5), /proc/PID/environ), if there is
    one that we may look at: a command that was not named in its claim."""
    mark = f"{RUN_VARIABLE}={run}".encode()

    try:
        entries = os.listdir("/proc")
    except OSError:
        return None

    for entry in entries:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        return identity(int(entry))
            except OSError:
                continue

    return None


def alive(who: Any) -> bool:
    """Whether the process that `identity` named still runs; a zombie does not."""
    if not (isinstance(who, list) and len(who) == 2 and all(isinstance(part, int) for part in who)) or who[0] <= 0:
        return False

    state, started = _stat(who[0])

    if not state and not os.path.exists("/proc/self/stat"):
        try:
            os.kill(who[0], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass

        return True

    return state not in ("", "Z", "X") and started == who[1]


def _stat(pid: int) -> tuple[str, int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold blanks and parentheses: count from the last one.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "", 0

    return fields[0].decode(), int(fields[19])


def runs(home: str, name: str | None = None) -> list[str]:
    """Ids of the runs that have a claim, dead or alive; without a name, the claims' file names of all tasks."""
    try:
        entries = os.listdir(os.path.join(home, "runs"))
    except OSError as error:
        raise Unusable(f"{home}/runs cannot be read ({error.strerror}): `webscheduler doctor` says more")

    if name is None:
        return sorted(entry for entry in entries if "@" in entry)

    prefix = file_name(name) + "@"
    return sorted(entry[len(prefix):] for entry in entries if entry.startswith(prefix))


def facts_of(descriptor: int) -> dict[str, Any]:
    """All that the claim open as `descriptor` says so far."""
    import json

    facts: dict[str, Any] = {}

    for text in os.pread(descriptor, os.fstat(descriptor).st_size, 0).split(b"\n"):
        try:
            facts.update(json.loads(text))
        except (ValueError, TypeError):
            pass  # empty, or torn by a kill

    return facts


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        if flags & os.O_CREAT:
            raise Unusable(f"{os.path.dirname(path)} is gone: `webscheduler init` makes it again")
        raise
    except OSError as error:
        raise Unusable(f"{path} cannot be opened: {error.strerror}")
