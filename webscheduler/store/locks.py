# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which task may start, and which runs live: the gate of a task and the claims of its runs.

The rules:
- The gate `locks/NAME.lock` is locked for milliseconds by whoever decides about NAME, and released before any fork. It
  is never unlinked or renamed, so that all wait for the same inode. Its record has what must not be decided twice: the
  last start, the highest accepted `ts`, and when a skip was last written to history.
- A claim `runs/NAME@RUN` is locked as long as any process of the run lives: the lock belongs to the open file
  description (flock(2)), and supervisor and command inherit the descriptor. It is a raw descriptor, because closing one
  copy keeps the lock, while unlocking one copy releases it for all. If the lock can be taken and the file is still
  linked, the run is dead.
- The descriptor that has the lock can only be read, so that a command, which inherits no other, writes no facts.
- Only the holder of the gate tries the locks of claims; a reader that tried would make an idle task look busy.
- A dead run is neither running nor an orphan any more once its claim is called `runs/~NAME@RUN`, which is done under
  the gate. It is recorded after that, without the gate, by whoever holds the lock of that file.
- A claim says where its pids mean something: boot id and pid namespace. Seen from elsewhere (a container, another
  host), a locked claim is a run that lives, and nobody is signalled.
- If flock fails for another reason than "locked by another process", nothing is certain: no run, and 503.
"""

from __future__ import annotations

import os
import time

from ..errors import Busy, Unusable
from ..vocabulary import COUNTED_REASONS
from .files import append_bytes, close, file_name, is_same_file, lock_file, remove, unlock_file
from .index import boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Facts, Iterator


GATE_PATIENCE = 10.0  # seconds
RECORD_SIZE = 256  # bytes
INTENT_SIZE = 4096  # bytes that may follow the record
TAKEN = "~"  # begins the name of the claim of a dead run that is being recorded; no task's file does
RUN_VARIABLE = "WEBSCHEDULER_RUN"  # the variable in a command's environment that has the id of its run


class Gate:
    """The gate of one task, as a context manager. Raises Busy after GATE_PATIENCE seconds; Unusable if files cannot be
    locked here.

    last_start: Unix seconds of the last start; last_ts: the highest `ts` that older versions accepted; skips: by
    reason, (Unix seconds of the last line of history, how many skips since). `save` writes them. intent: what was to be
    done with the task's files, and is to be finished before anything is decided (`runs.task_files`); else empty.
    """

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
            close(self.descriptor)
            raise

        return self

    def __exit__(self, *error: object) -> None:
        try:
            # Closing is not enough: a fork of another thread may have made a copy meanwhile, which keeps the lock.
            unlock_file(self.descriptor)
        except Unusable:
            pass  # what was decided stands, and that copy is closed by the exec which follows
        finally:
            close(self.descriptor)

    def _read(self) -> None:
        record = os.pread(self.descriptor, RECORD_SIZE + INTENT_SIZE, 0)
        self.intent = record[RECORD_SIZE:].decode("utf-8", "replace")
        words = record[:RECORD_SIZE].split()

        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []

        if not all(0 <= number < 1e12 for number in numbers):
            numbers = []  # not written by us; zeros forget a rate limit, not a run

        numbers += [0.0] * (2 + 2 * len(COUNTED_REASONS) - len(numbers))
        self.last_start, self.last_ts = numbers[0], int(numbers[1])
        self.skips = {reason: (numbers[2 + 2 * i], int(numbers[3 + 2 * i])) for i, reason in enumerate(COUNTED_REASONS)}

    def save(self) -> None:
        """Write the record, in one write of a fixed size."""
        words = [f"{self.last_start:.6f}", str(self.last_ts)]

        for reason in COUNTED_REASONS:
            when, count = self.skips[reason]
            words += [str(int(when)), str(min(count, 999999999))]  # rounded down, so as not to be ahead of the clock

        os.pwrite(self.descriptor, " ".join(words).encode().ljust(RECORD_SIZE - 1) + b"\n", 0)


def last_start(home: str, name: str) -> float:
    """The last start of the task that its gate knows, for readers, Unix seconds; 0 if it knows none."""
    try:
        with open(os.path.join(home, "locks", file_name(name) + ".lock"), "rb") as file:
            return float(file.read(RECORD_SIZE).split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0


class Claim:
    """A run in progress: its file, with lines of JSON objects (vocabulary.Facts) of which later ones add to earlier
    ones. descriptor: for facts; lock: the one with the lock, often the same; of a run that was started here, another.
    """

    def __init__(self, path: str, descriptor: int, name: str, run: str) -> None:
        self.path, self.descriptor, self.lock, self.name, self.run = path, descriptor, descriptor, name, run

    def append(self, facts: Facts) -> None:
        """Add facts. Each line starts with a line break, so that a line cut off by a kill damages no other."""
        append_bytes(self.descriptor, line(facts))

    def try_append(self, facts: Facts) -> None:
        """The same, where the run goes on without them."""
        try:
            self.append(facts)
        except OSError:
            pass  # the disk is full

    def facts(self) -> Facts:
        """All facts so far. Raises OSError."""
        return facts_of(self.descriptor)

    def remove(self) -> None:
        """Unlink the file; the run is recorded."""
        remove(self.path)

    def release(self) -> None:
        """Unlock for all copies of the descriptor, so that a daemon started by the command blocks nothing."""
        try:
            if self.lock >= 0:
                unlock_file(self.lock)
        except Unusable:
            pass  # the run is recorded; only what a command left behind keeps the lock, of a file that is gone

        self.close()

    def close(self) -> None:
        """Close this process's copies; others keep the lock."""
        for descriptor in {self.descriptor, self.lock} - {-1}:
            close(descriptor)

        self.descriptor = self.lock = -1


def line(facts: Facts) -> bytes:
    words = [_plain(value) for value in facts.values()]

    if None not in words:  # the import of json costs a request more than all the rest
        return ("\n{" + ", ".join(f'"{key}": {word}' for key, word in zip(facts, words)) + "}\n").encode("ascii")

    import json

    return b"\n" + json.dumps(facts, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _plain(value: Any) -> str | None:
    """A value as JSON if that is simple, else None."""
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


def make_claim(home: str, name: str, run: str, facts: Facts) -> Claim:
    """Create and lock a claim; the caller holds the gate of `name`. Raises Unusable."""
    path = claim_path(home, name, run)
    descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
    claim = Claim(path, descriptor, name, run)

    try:
        claim.lock = _open(path, os.O_RDONLY)

        try:
            locked = lock_file(claim.lock)
        except Unusable:  # NFS locks only what can be written (flock(2)): then the command gets that
            close(claim.lock)
            claim.lock = descriptor
            locked = lock_file(descriptor)

        if not locked:
            raise Unusable(f"{path}: a new file is locked already; file locks cannot be trusted here")

        claim.append(facts)
    except BaseException as error:
        claim.remove()
        claim.close()

        if isinstance(error, OSError):
            raise Unusable(f"{path} cannot be written: {error.strerror}")

        raise

    return claim


def claims(home: str, name: str, ids: list[str], taken: bool = False) -> Iterator[tuple[Claim, bool]]:
    """Yields (claim, whether its lock was free and is ours now) for each of the task's claims with these ids of runs;
    the caller closes them, and holds the gate. taken: of dead runs that are being recorded, which needs no gate."""
    for run in ids:
        path = claim_path(home, name, run, taken)

        try:
            claim = Claim(path, _open(path, os.O_RDWR | os.O_APPEND), name, run)
        except FileNotFoundError:
            continue

        try:
            unlocked = lock_file(claim.descriptor)
            linked = is_same_file(claim.descriptor, path)  # else another process has recorded the run meanwhile
        except BaseException:
            claim.close()
            raise

        if linked:
            yield claim, unlocked
        else:
            claim.close()


def supervised_runs(home: str, name: str) -> list[str] | None:
    """Ids of the task's runs if each has a live supervisor; None if one is dead or its supervisor is gone, so that
    `runs.dead_runs` must look at it. The caller holds the gate."""
    file, found = file_name(name) + "@", []
    entries = runs(home)

    if any(entry.startswith(TAKEN + file) for entry in entries):
        return None

    for claim, unlocked in claims(home, name, [entry[len(file):] for entry in entries if entry.startswith(file)]):
        try:
            if unlocked or not supervised(claim.descriptor):
                return None

            found.append(claim.run)
        finally:
            claim.close()

    return found


def supervised(descriptor: int) -> bool:
    """Whether the supervisor of the run, whose claim is locked, lives and will record it. True before there is one, and
    where nobody here can tell."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    where = _last(content, b'"place": "', b'"')  # never within a text, where quotes are escaped
    words = _last(content, b'"supervisor": [', b"]")

    if words is None or (where is not None and not is_here(where.decode(errors="replace"))):
        return True

    try:
        return alive([int(word) for word in words.split(b",")])
    except ValueError:
        return False


def _last(content: bytes, key: bytes, end: bytes) -> bytes | None:
    """What follows the last `key`, up to `end`."""
    _, found, rest = content.rpartition(key)
    return rest.partition(end)[0] if found else None


def place() -> str:
    """Where pids mean what they mean to this process: boot id and pid namespace; empty if /proc does not show them, `?`
    if it shows another namespace's processes."""
    try:
        shown = os.readlink("/proc/self") == str(os.getpid())
        return f"{boot()} {os.readlink('/proc/self/ns/pid')}" if shown else "?"
    except OSError:
        return ""


def is_here(where: Any) -> bool:
    """Whether the pids of a claim that says so mean to this process what they meant to its supervisor."""
    return bool(where == place() != "?")


def identity(pid: int | None = None) -> list[int]:
    """[pid, start time in clock ticks since boot] of a process, which together are unique until the next boot (proc(5),
    /proc/PID/stat field 22). The start time is 0 if /proc does not show it."""
    return [pid or os.getpid(), _stat(pid or os.getpid())[1]]


def alive(who: Any) -> bool:
    """Whether the process of that `identity` still runs; a zombie does not."""
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
    fields = stat_fields(pid)
    return (fields[0].decode(), int(fields[19])) if fields else ("", 0)


def stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat behind the name, from the state on (proc(5)); none of a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may contain spaces and parentheses: count from the last one.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def claim_path(home: str, name: str, run: str, taken: bool = False) -> str:
    """The path of a claim. taken: as it is called once the run is dead and being recorded."""
    return os.path.join(home, "runs", f"{TAKEN if taken else ''}{file_name(name)}@{run}")


def runs(home: str, name: str | None = None, taken: bool = False) -> list[str]:
    """Ids of the task's runs that have a claim, dead or alive, or of those that are `taken`; without a name, the file
    names of all claims."""
    try:
        entries = os.listdir(os.path.join(home, "runs"))
    except OSError as error:
        raise Unusable(f"{home}/runs cannot be read ({error.strerror}): `webscheduler doctor` says more")

    if name is None:
        return sorted(entry for entry in entries if "@" in entry)

    prefix = f"{TAKEN if taken else ''}{file_name(name)}@"
    return sorted(entry[len(prefix):] for entry in entries if entry.startswith(prefix))


def facts_of(descriptor: int) -> Facts:
    """All facts so far of the claim that is open as `descriptor`."""
    import json

    facts: Facts = {}

    for text in os.pread(descriptor, os.fstat(descriptor).st_size, 0).split(b"\n"):
        try:
            facts.update(json.loads(text))
        except (ValueError, TypeError):
            pass  # empty, or cut off by a kill

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
