"""Is everything as it should be? Looks at an installation from within; `arrival` looks from outside.

Imports the files below the doors. The rules: each finding is one line, and one that must be mended ends with what to
do; what cannot be looked at is a finding, never a traceback. Nothing is changed, but that dead runs are recorded.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from typing import NamedTuple

from . import __version__, capabilities, commands, config, due, history, installation, locks, record, schedule, store
from .errors import BadInput, WebschedulerError
from .task import DUE, file_name, load, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .config import Config

OK, NOTE, MEND = "ok", "note", "mend"
NOBODY = "0" * 32  # the slug by which `arrival` calls: what it leaves among the refusals is no finding
LEAST_FREE, LEAST_FILES = 50 * 1024 * 1024, 1000
LEAST_PROCESSES = 20
SLOW_CLOCK = 5.0  # seconds that the clock of a file system may be off
PATIENCE = 20.0
NO_TICK = 3 * 3600.0  # seconds without a tick after which somebody should look, where no rhythm is known
NETWORKS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs")


class Finding(NamedTuple):
    """What was found. state: OK, NOTE (worth knowing) or MEND; about: a word; text: one line."""

    state: str
    about: str
    text: str


def examine(home: str, now: float) -> list[Finding]:
    """All findings, in the order of the checks."""
    try:
        settings = config.load(home)
        tasks = store.read_strictly(home)
    except WebschedulerError as error:
        return [*_guarded("home", _files(home)), Finding(MEND, "files", str(error))]

    checks = (("home", _files(home)), ("home", _place(home)), ("disk", _disk(home)), ("clock", _clock(home, now)),
              ("processes", _processes()), ("python", _python(settings)), ("locks", _locks(settings)),
              ("tasks", _tasks(settings, tasks)), ("commands", _commands(settings, tasks)),
              ("runs", _runs(home, tasks, now)), ("ticks", _ticks(home, tasks, now)),
              ("refusals", _refusals(home, now)), ("server", _strategies(settings, tasks, now)))
    return [finding for about, check in checks for finding in _guarded(about, check)]


def _guarded(about: str, check: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from check
    except (OSError, WebschedulerError, subprocess.SubprocessError) as error:
        yield Finding(MEND, about, f"cannot be looked at: {error}".replace("\n", " "))


def _files(home: str) -> Iterator[Finding]:
    wrong, closed = [], []

    for path in (home, *_below(home)):
        status = os.lstat(path)
        needed = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600

        if not stat.S_ISLNK(status.st_mode) and status.st_mode & needed != needed:
            closed.append(path)

        if not stat.S_ISLNK(status.st_mode) and (status.st_mode & 0o077 or status.st_uid != os.stat(home).st_uid):
            wrong.append(path)

    if closed:
        yield Finding(MEND, "home", f"{len(closed)} of its files are closed to their owner, as {closed[0]}: "
                                    f"chmod -R u+rwX {home}")

    if wrong:
        yield Finding(MEND, "home", f"{len(wrong)} of its files are open to others, or theirs, as {wrong[0]}: "
                                    f"chown -R $(id -u) {home}; chmod -R go-rwx {home}")
    else:
        yield Finding(OK, "home", f"{home} is open to its owner alone")

    for name in installation.DIRECTORIES:
        if not os.path.isdir(os.path.join(home, name)):
            yield Finding(MEND, "home", f"{name}/ is missing in it: `webscheduler init` makes it again")


def _below(home: str) -> Iterator[str]:
    """What the rules of modes are for; the user's own commands have rules of their own."""
    for parent, folders, files in os.walk(home):
        folders[:] = [folder for folder in folders if os.path.join(parent, folder) != os.path.join(home, "commands")]
        yield from (os.path.join(parent, name) for name in (*folders, *files) if name != ".gitignore")


def _place(home: str) -> Iterator[Finding]:
    root = installation.document_root_above(home)

    if root:
        yield Finding(MEND, "home", f"it lies below {root}, from where a web server may hand out every secret: move it "
                                    "and set WEBSCHEDULER_HOME or the HOME line of webscheduler.cgi")

    kind, options = _file_system(home)

    if kind.startswith("nfs") and not {"nolock", "local_lock=all", "local_lock=flock"}.isdisjoint(options):
        yield Finding(MEND, "locks", f"it lies on {kind} without locks between machines: move it to a local disk")
    elif kind in NETWORKS:
        yield Finding(NOTE, "locks", f"it lies on {kind}: locks work below, but hold only if the server keeps them")


def _file_system(path: str) -> tuple[str, list[str]]:
    """(type, mount options) of the file system (proc(5), mountinfo); empty where /proc does not say."""
    best, found = "", ("", [""])
    path = os.path.realpath(path)

    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                point, kind = before.split()[4].replace("\\040", " "), after.split()
                inside = path == point or path.startswith(point.rstrip("/") + "/")

                if inside and len(point) >= len(best):
                    best, found = point, (kind[0], (before.split()[5] + "," + kind[-1]).split(","))
    except (OSError, IndexError):
        pass

    return found


def _disk(home: str) -> Iterator[Finding]:
    free = os.statvfs(home)
    room = free.f_bavail * free.f_frsize

    if room < LEAST_FREE or free.f_files and free.f_favail < LEAST_FILES:
        yield Finding(MEND, "disk", f"{room // 1024 // 1024} MiB and {free.f_favail} files are left: make room, or "
                                    "`webscheduler config set logRetentionDays 7`")
    else:
        yield Finding(OK, "disk", f"{room // 1024 // 1024} MiB are free")


def _clock(home: str, now: float) -> Iterator[Finding]:
    path = os.path.join(home, f"clock.{os.getpid()}.tmp")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    try:
        off = os.stat(path).st_mtime - time.time()
    finally:
        os.unlink(path)

    if abs(off) > SLOW_CLOCK:
        yield Finding(MEND, "clock", f"the file system's clock is {off:+.0f} s off this machine's: tell your host")
    elif now < parse_time("2024-01-01T00:00:00Z"):
        yield Finding(MEND, "clock", f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}: ask your host to mend it")
    else:
        yield Finding(OK, "clock", time.strftime("it is %Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _processes() -> Iterator[Finding]:
    import resource

    limits = {"processes": resource.getrlimit(resource.RLIMIT_NPROC)[0], "seconds of CPU":
              resource.getrlimit(resource.RLIMIT_CPU)[0], "MiB of memory": resource.getrlimit(resource.RLIMIT_AS)[0]}
    said = [f"{value // 1048576 if what.startswith('MiB') else value} {what}" for what, value in limits.items()
            if value != resource.RLIM_INFINITY]

    if limits["processes"] != resource.RLIM_INFINITY and limits["processes"] < LEAST_PROCESSES:
        yield Finding(MEND, "processes", f"this account may have {limits['processes']} at once, which a tick needs for "
                                         "itself: `webscheduler config set maxConcurrentTasks 1`")
    else:
        yield Finding(OK, "processes", "limits here: " + (", ".join(said) or "none") + " (the server's may be others)")


def _python(settings: Config) -> Iterator[Finding]:
    works, said = try_python(settings)
    yield Finding(OK if works else MEND, "python",
                  said if works else f"{said}: `webscheduler config set python PATH` to one that can")


def try_python(settings: Config) -> tuple[bool, str]:
    """(whether the Python of the settings can run detached runs and functions; what was seen, in words)."""
    words = commands.python(settings, "webscheduler.doctor:tell_version")

    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"{words[0]} does not start ({error})"

    if done.returncode or done.stdout.split()[:1] != [__version__]:
        why = (done.stderr.strip().splitlines() or [done.stdout.strip() or f"exit status {done.returncode}"])[-1]
        return False, f"{words[0]} cannot run webscheduler {__version__} ({why[:200]})"

    return True, f"{words[0]} runs webscheduler {' with Python '.join(done.stdout.split())}"


def check_python(home: str, path: str) -> None:
    """Refuse a Python that cannot run us before it is stored: detached runs would die unseen. Raises BadInput."""
    settings = config.load(home)
    settings["python"] = path
    works, said = try_python(settings)

    if not works:
        raise BadInput(f"python: {said}", "python")


def tell_version() -> int:
    """What another Python answers to _python: version of the package and its own; it needs filelock as well."""
    import sys

    import filelock  # noqa: F401

    print(__version__, sys.version.split()[0])
    return 0


def _locks(settings: Config) -> Iterator[Finding]:
    """Hold a lock and have another process try for it, then let go and have it try again."""
    path = os.path.join(settings.home, "locks", ".doctor.lock")
    seen = []

    with locks.Gate(settings.home, ".doctor"):
        seen.append(_tries(settings, path))

    seen.append(_tries(settings, path))

    if seen == ["busy", "free"]:
        yield Finding(OK, "locks", "one process keeps another out")
    else:
        yield Finding(MEND, "locks", f"a lock held was {seen[0]} and one let go was {seen[1]} for another process: "
                                     "move the home to a local disk")

    store.update(settings.home, lambda tasks: None)  # filelock, too; raises what is wrong


def _tries(settings: Config, path: str) -> str:
    words = commands.python(settings, "webscheduler.doctor:try_lock", path)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout.strip() or "not to be tried"


def try_lock(path: str) -> int:
    """The other process of _locks."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR)

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free")
    except BlockingIOError:
        print("busy")

    return 0


def _tasks(settings: Config, tasks: store.Tasks) -> Iterator[Finding]:
    broken = False

    try:
        schedule.zone(settings["timezone"])
    except BadInput as error:
        yield Finding(MEND, "zones", f"{error}; pip install tzdata, or `webscheduler config set timezone UTC`")

    for name, row in tasks.items():
        try:
            task = load(name, row)
            schedule.next_at(task, settings["timezone"], time.time())
        except (BadInput, ValueError) as error:
            broken = True
            yield Finding(MEND, "tasks", f"{error}: `webscheduler edit` mends it")
        else:
            if task["expression"] and task["intervalSeconds"]:
                yield Finding(NOTE, "tasks", f"{name} has both an expression and an interval: the expression counts")

    if not broken:
        yield Finding(OK, "tasks", f"{len(tasks)}, all readable")


def _commands(settings: Config, tasks: store.Tasks) -> Iterator[Finding]:
    import json

    try:
        with open(os.path.join(settings.home, "commands.json"), "rb") as file:
            broken = json.loads(file.read()).get("broken") or {}
    except (OSError, ValueError, AttributeError):
        broken = {}

    for what, why in {**broken, **commands.refused(settings.home)}.items():
        yield Finding(MEND, "commands", f"{what} is skipped: {str(why).splitlines()[-1] if why else '?'}")

    php = settings["php"] or "php"

    if any(path.endswith(".php") for path in commands.files(settings.home).values()) and not shutil.which(php):
        yield Finding(MEND, "commands", f"{php} is not to be found: `webscheduler config set php PATH`")

    known = commands.registry(settings)

    for name, row in tasks.items():
        if isinstance(row, dict) and row.get("command") and row["command"] not in known:
            yield Finding(MEND, "commands", f"{name} wants {row['command']!r}, which is not registered: bring it back, "
                                            f"or `webscheduler remove {name}`")


def _runs(home: str, tasks: store.Tasks, now: float) -> Iterator[Finding]:
    claimed = {entry.rpartition("@")[0] for entry in os.listdir(os.path.join(home, "runs"))}
    alive = 0

    for name in tasks:
        if file_name(name) in claimed:
            with locks.Gate(home, name):
                alive += len(record.clear_dead(home, name, now))

    yield Finding(OK, "runs", f"{alive} in progress")


def _ticks(home: str, tasks: store.Tasks, now: float) -> Iterator[Finding]:
    scheduled = [name for name, row in tasks.items() if isinstance(row, dict) and row.get("enabled")
                 and (row.get("expression") or row.get("intervalSeconds") or row.get("retries"))]
    rhythm = due.rhythm(home)
    remedy = f"have your panel call what `webscheduler url {DUE}` prints"

    if not scheduled:
        yield Finding(OK, "ticks", f"no task has a schedule; last tick: {rhythm['lastAt'] or 'never'}")
        return

    if not tasks.get(DUE, {}).get("enabled"):
        yield Finding(MEND, "ticks", f"{DUE} is off, so no schedule runs: `webscheduler enable {DUE}`")

    if rhythm["lastAt"] is None:
        yield Finding(MEND, "ticks", f"{len(scheduled)} tasks have a schedule, and nothing ever asked what is due: "
                                     f"{remedy}")
    elif now - parse_time(rhythm["lastAt"]) > max(NO_TICK, 3 * (rhythm["every"] or 0)):
        yield Finding(MEND, "ticks", f"the last one came at {rhythm['lastAt']}: see whether the panel still calls, or "
                                     f"{remedy}")
    else:
        every = f", every {rhythm['every'] / 60:.0f} minutes" if rhythm["every"] else ""
        yield Finding(OK, "ticks", f"the last one came at {rhythm['lastAt']}{every}")


def _refusals(home: str, now: float) -> Iterator[Finding]:
    recent = [entry for entry in history.refusals(home) if now - parse_time(str(entry.get("at"))) < 86400
              and entry.get("slug") != NOBODY]

    if recent:
        yield Finding(NOTE, "refusals", f"{len(recent)} noted in the last day, the last at {recent[0].get('at')} from "
                                        f"{recent[0].get('ip')}: {recent[0].get('problem')}")


def _strategies(settings: Config, tasks: store.Tasks, now: float) -> Iterator[Finding]:
    """Why `auto` does what it does, and for which tasks nothing that was seen is enough."""
    kinds = [kind for kind in capabilities.kinds(settings.home) if capabilities.read(settings.home, kind, now)]

    if not kinds:
        yield Finding(NOTE, "server", "nobody has looked yet what it lets live, or long ago: `webscheduler probe`")

    for kind in kinds:
        rows = capabilities.read(settings.home, kind, now)
        yield Finding(OK, "server", "; ".join(capabilities.explain(kind, rows, settings["defaultTimeout"])))

        for name, row in tasks.items():
            if not isinstance(row, dict) or name == DUE or not row.get("enabled"):
                continue

            limit = settings["defaultTimeout"] if row.get("timeout") is None else row["timeout"]
            wanted = row.get("strategy", "auto")
            best = capabilities.ranked(kind, rows, limit)[0] if wanted == "auto" else wanted
            reach = capabilities.reach(kind, best, rows)

            if limit and reach < limit:
                yield Finding(NOTE, "server", f"{name} may take {limit} s, and on {kind} {best} carries {reach:g} s, "
                                              "as seen or expected: lower its timeout, or cut it into parts")
