# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checks an installation from inside; `url_check` checks it from outside.

The rules: each finding is one line, and an error ends with what to do. A check that fails is a finding, never a
traceback. Nothing is changed, except that dead runs are recorded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .. import __version__
from ..commands import registry
from ..errors import BadInput, Unusable, WebschedulerError
from ..runs import health, notifications
from ..runs.retention import record_all_dead
from ..schedule import slots
from ..store import capabilities, chains, clock, locks, marks, processes, state
from ..store.files import lock_file
from ..store.refusals import read_refusals
from ..store.settings import SETTINGS, Settings, check_setting, load_settings, unknown_channels
from ..store.task import DUE, Task, load_tasks, shown
from ..times import format_time, parse_time
from ..vocabulary import STRATEGIES
from ..zones import NoZoneData
from . import exposure, limits, place
from .findings import ERROR, OK, WARNING, Finding

LEAST_PROCESSES = 20
SLOW_CLOCK = 5.0  # seconds by which the clock of a file system may differ
JUMP_TOLD = 7 * 86400.0  # seconds
PATIENCE = 20.0
MOST_NAMED = 10
NO_TICK = 3 * 3600.0  # seconds without a tick that are too long if it is not known how often ticks come


def examine(home: str, now: float, environ: dict[str, Any] | None = None) -> list[Finding]:
    """All findings, in the order of the checks. Some seconds; dead runs are recorded. environ: of a request, if one
    asks for them (PEP 3333)."""
    try:
        settings = load_settings(home)
        tasks = state.read_strictly(home)
    except WebschedulerError as error:
        return [*_guarded("home", place.of_files(home)), Finding(ERROR, "files", "{error}", error=error)]

    checks = (("home", place.of_files(home)), ("home", place.of_place(home, environ)), ("disk", place.of_disk(home)),
              ("clock", _clock(home, now)), ("processes", _processes()),
              ("limits", limits.of_costs(home, shown(tasks))), ("python", _python(settings)),
              ("settings", _settings(settings)), ("tasks", exposure.of_calls(settings, tasks)),
              ("health", of_health(settings, tasks, now)), ("runs", _runs(home, tasks, now)),
              ("refusals", _refusals(home, now)),
              ("server", _strategies(settings, tasks, now)))
    return [*(finding for about, check in checks for finding in _guarded(about, check)),
            *of_tasks(settings, tasks, now)]


def of_tasks(settings: Settings, tasks: state.Tasks, now: float) -> list[Finding]:
    """Findings about who may read what, tasks, commands and ticks, for which a few files are read and no process is
    started."""
    good, broken = load_tasks(shown(tasks))
    checks = (("home", exposure.of_account(settings.home)), ("url", exposure.of_address(settings)),
              ("files", exposure.of_people(settings)),
              ("tasks", _tasks(settings, good, broken, now)), ("tasks", exposure.of_haste(settings.home, good, now)),
              ("commands", _commands(settings)), ("ticks", _ticks(settings.home, good, now)),
              ("notify", _notify(settings)))
    return [finding for about, check in checks for finding in _guarded(about, check)]


def _guarded(about: str, check: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from check
    except (OSError, ValueError, WebschedulerError, subprocess.SubprocessError) as error:
        yield Finding(ERROR, about, "this check failed: {error}", error=error)


def _clock(home: str, now: float) -> Iterator[Finding]:
    path = os.path.join(home, f"clock.{os.getpid()}.tmp")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    try:
        off = os.stat(path).st_mtime - time.time()
    finally:
        os.unlink(path)

    slow, old = abs(off) > SLOW_CLOCK, now < parse_time("2024-01-01T00:00:00Z")
    yield Finding(ERROR if slow or old else OK, "clock",
                  "the file system's clock differs from this machine's by {off} s: tell your host" if slow else
                  "it says {when}: ask your host to correct it" if old else "it is {when}", off=f"{off:+.0f}",
                  when=format_time(now))

    notes = clock.read(home)
    jump = clock.jump(notes, now, clock.boot()) if notes else 0.0

    if notes and (jump or notes["jump"]):
        since = now if jump else notes["since"]
        good = not jump and clock.is_good(notes)

        if not good or 0 <= now - since < JUMP_TOLD:
            yield Finding(OK if good else WARNING, "clock",
                          "it jumped by {off} h, or the machine was off so long, at {when}; it has been steady for a "
                          "day since" if good else
                          "it jumped by {off} h, or the machine was off so long, at {when}: if it is wrong, ask your "
                          "host to correct it; no history is removed until it has been steady for a day",
                          off=f"{(jump or notes['jump']) / 3600:+.1f}", when=format_time(since))


def _processes() -> Iterator[Finding]:
    import resource

    most, cpu, memory = (resource.getrlimit(what)[0]
                         for what in (resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_AS))
    few = 0 <= most < LEAST_PROCESSES  # no limit is -1
    yield Finding(ERROR if few else OK, "processes",
                  "this account may have only {n} at once: `webscheduler config set maxConcurrentTasks 1`" if few else
                  "limits here (-: none): processes {n}, CPU seconds {cpu}, MiB of memory {memory}; a web server may "
                  "have others", n=most if most >= 0 else "-",
                  cpu=cpu if cpu >= 0 else "-", memory=memory // 2**20 if memory >= 0 else "-")


def _python(settings: Settings) -> Iterator[Finding]:
    """The Python of the settings, and with its help whether locks work."""
    try:
        yield Finding(OK, "python", "{python} runs webscheduler {version} with Python {own}", **try_python(settings))
    except BadInput as error:
        yield Finding(ERROR, "python", "{error}: `webscheduler config set python PATH` to one that can",
                      error=str(error).partition(": ")[2])
        return  # it says nothing about locks

    # Another process tries the lock while it is held here, and again after its release.
    with locks.Gate(settings.home, ".doctor"):
        seen = [_try_lock(settings)]

    seen.append(_try_lock(settings))

    if seen == ["busy", "free"]:
        yield Finding(OK, "locks", "locks work between processes")
    else:
        yield Finding(ERROR, "locks", "for another process a lock was {held} while it was held, and {free} after its "
                                     "release: move the home to a local disk", held=seen[0], free=seen[1])

    try:
        with open(os.path.join(settings.home, "locks", ".doctor.lock"), "rb") as file:
            lock_file(file.fileno())
    except Unusable:
        yield Finding(WARNING, "locks", "only what can be written can be locked here, as on NFS: a command can write "
                                       "into the claim of its run")

    state.update(settings.home, lambda tasks: None)  # the same for filelock; raises Unusable


def _ask(settings: Settings, function: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Call a function of this module in the Python of the settings."""
    return subprocess.run(registry.python(settings, f"webscheduler.host.doctor:{function}", *words), text=True,
                          env=registry.environment(settings.home, settings["environment"]),
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)


def try_python(settings: Settings) -> dict[str, str]:
    """Path and versions of the Python of the settings. Raises BadInput if it cannot run detached runs and functions."""
    python = registry.interpreter(settings)

    try:
        done = _ask(settings, "tell_version")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"python: {python} does not start ({error})", "python")

    version, _, own = done.stdout.strip().partition(" ")

    if done.returncode or version != __version__:
        why = (done.stderr.strip().splitlines() or [done.stdout.strip() or f"exit status {done.returncode}"])[-1]
        raise BadInput(f"python: {python} cannot run webscheduler {__version__} ({why[:200]})", "python")

    return {"python": python, "version": version, "own": own}


def check_python(home: str, path: str) -> None:
    """Raises BadInput for a Python that cannot run this package: detached runs would die without a trace."""
    settings = load_settings(home)
    settings["python"] = path
    try_python(settings)


def tell_version() -> int:
    """What the other Python prints for try_python: the version of this package and its own. It needs filelock too."""
    import sys

    import filelock  # noqa: F401

    print(__version__, sys.version.split()[0])
    return 0


def _try_lock(settings: Settings) -> str:
    done = _ask(settings, "try_lock", os.path.join(settings.home, "locks", ".doctor.lock"))
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


def try_lock(path: str) -> int:
    """What the other process does and prints for _try_lock."""
    print("free" if lock_file(os.open(path, os.O_RDWR)) else "busy")
    return 0


def _settings(settings: Settings) -> Iterator[Finding]:
    """Settings that follow their rules, but cannot work, or not on this machine."""
    for name in SETTINGS:
        try:
            check_setting(name, settings[name])
        except BadInput as error:
            yield Finding(ERROR, "settings", "{error}" if isinstance(error, NoZoneData) else
                          "{error}: `webscheduler config set {name} VALUE` (this machine may "
                          "lack a zone that exists: `pip install tzdata`)" if name == "timezone" else
                          "{error}: `webscheduler config set {name} VALUE`", error=error, name=name)


def _notify(settings: Settings) -> Iterator[Finding]:
    for channel, found in notifications.failing(settings).items():
        yield Finding(ERROR, "notify", "nothing has arrived by {channel} since {when} ({error}), and {n} notifications "
                                       "are kept: correct that, then `webscheduler notify test`", channel=channel,
                      when=found["since"], n=found["kept"], error=found["error"])

    for channel in unknown_channels(settings["notify"]):
        yield Finding(WARNING, "notify", "this version knows no channel {channel} and sends nothing by it: update, or "
                                         "`webscheduler config set notify` without it", channel=channel)

    proxies = settings["trustedProxies"]

    if "unix" in proxies and len(proxies) > 1:
        yield Finding(WARNING, "settings", "`trustedProxies` has both `unix` and addresses: a client that can reach "
                      "the server in the other way may claim any address; name only the way in which your proxy comes")


def _tasks(settings: Settings, good: dict[str, Task], broken: dict[str, str], now: float) -> Iterator[Finding]:
    every = health.rhythm(settings.home)["every"]
    wrong: dict[str, str | BadInput] = {**broken}

    for name, task in good.items():
        try:
            said = _faults(settings, task, every, now)
        except BadInput as error:
            if error.field != "timezone" or task["timezone"]:  # that of the settings is said there
                wrong[name] = error

            continue

        if task["expression"] and task["intervalSeconds"]:
            yield Finding(WARNING, "tasks", "{task} has both an expression and an interval: the expression counts; "
                                         "`webscheduler edit {task} --every ''` removes the interval", task=name)

        if said:
            yield Finding(WARNING, "tasks", "{task} {error}", task=name, error=said)

        if marks.highest(settings.home, task["slug"], task["secret"]) > now + settings["signatureWindowSeconds"]:
            yield Finding(WARNING, "tasks", "{task} took a timed signature of a time ahead of this clock, so it takes "
                                            "no other until then: `webscheduler rotate-secret {task}` ends that",
                          task=name)

    for name, problem in wrong.items():
        yield Finding(ERROR, "tasks", "{error}" if isinstance(problem, NoZoneData) else "{error}: correct it with "
                      "`webscheduler edit {task}`, or `webscheduler remove {task}`", error=problem, task=name)

    if not wrong:
        yield Finding(OK, "tasks", "{n}, all without errors", n=sum(name != DUE for name in good))


def of_health(settings: Settings, tasks: state.Tasks, now: float) -> Iterator[Finding]:
    """What `status` says of them."""
    found = health.states(settings, dict(load_tasks(shown(tasks))[0]), now)
    failing, late = ([name for name, how in found.items() if how == wanted] for wanted in ("failing", "late"))

    if failing:
        yield Finding(ERROR, "health", "failing: {names}; what their last runs printed says why", names=_list(failing))

    if late:
        yield Finding(ERROR, "health", "late: {names}; no call has started them in time", names=_list(late))

    if not failing + late:
        yield Finding(OK, "health", "no task is failing or late")


def _list(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" +{len(names) - MOST_NAMED}" if len(names) > MOST_NAMED else "")


def _faults(settings: Settings, task: Task, every: float | None, now: float) -> str:
    """What ticks, every so many seconds, do to the schedule of a task. Raises BadInput if it cannot run."""
    slots.next_at(task, settings["timezone"], now)

    if task.name != DUE:
        registry.argv(settings, task)

    return slots.too_fine_for_ticks(task, settings["timezone"], every, now) if every and task["enabled"] else ""


def _commands(settings: Settings) -> Iterator[Finding]:
    for what, why in registry.broken(settings.home).items():
        yield Finding(ERROR, "commands", "{what} is skipped: {error}", what=what, error=why)

    php = settings["php"] or "php"

    if any(path.endswith(".php") for path, _ in registry.files(settings.home).values()) and not shutil.which(php):
        yield Finding(ERROR, "commands", "{php} was not found: `webscheduler config set php PATH`", php=php)


def _runs(home: str, tasks: state.Tasks, now: float) -> Iterator[Finding]:
    record_all_dead(home, tasks, now)
    yield Finding(OK, "runs", "{n} in progress", n=len(processes.live_runs(home)))


def _ticks(home: str, tasks: dict[str, Task], now: float) -> Iterator[Finding]:
    rhythm = health.rhythm(home)
    last, every = (DUE in tasks and tasks[DUE]["lastRunAt"]) or rhythm["lastAt"], rhythm["every"]

    if not any(task["enabled"] and (task["expression"] or task["intervalSeconds"] or task["retries"])
               for task in tasks.values()):
        waiting = [name for name, task in tasks.items() if chains.marks(task)]
        yield Finding(ERROR if waiting and last is None else OK, "ticks",
                      "waiting to follow others: {names}; only calls of `@due` start them: let your hosting panel call "
                      "the URL that `webscheduler url @due` prints" if waiting and last is None else
                      "not needed: no task has a schedule", names=_list(waiting))
        return

    if DUE not in tasks or not tasks[DUE]["enabled"]:
        yield Finding(ERROR, "ticks", "`@due` is disabled, so no schedule works: `webscheduler enable @due`")

    if last is None:
        yield Finding(ERROR, "ticks", "tasks have a schedule, but `@due` was never called: let your hosting panel call "
                                     "the URL that `webscheduler url @due` prints")
    else:
        missed = now - parse_time(last) > (max(health.MIN_LATE, 3 * every) if every else NO_TICK)
        yield Finding(ERROR if missed else OK, "ticks",
                      "the last one was at {when}: does your hosting panel still call the URL that `webscheduler url "
                      "@due` prints?" if missed else "the last one was at {when}; they come every {n} s" if every else
                      "the last one was at {when}", when=last, n=f"{every or 0:.0f}")


def _refusals(home: str, now: float) -> Iterator[Finding]:
    recent = [entry for entry in read_refusals(home) if now - parse_time(str(entry.get("at"))) < 86400]

    if recent:
        last = recent[0]
        yield Finding(WARNING, "refusals", "kinds of calls refused in the last day: {n}; the last at {when} from {ip}: "
                      "{error}", n=len(recent), when=last["at"], ip=last.get("ip"), error=last.get("problem"))


def _strategies(settings: Settings, tasks: state.Tasks, now: float) -> Iterator[Finding]:
    """What `auto` chooses and why, what runs that died changed of it, and whether tasks may run longer than anything is
    expected to survive."""
    seen = {kind: rows for kind in capabilities.kinds(settings.home)
            if (rows := capabilities.read(settings.home, kind, now))}

    if not seen:
        yield Finding(WARNING, "server", "which strategies survive here was not tested lately: `webscheduler probe`")

    limits = [(task, settings["defaultTimeout"] if task["timeout"] is None else task["timeout"])
              for name, task in load_tasks(shown(tasks))[0].items() if name != DUE and task["enabled"]]

    for kind, rows in seen.items():
        yield from explain(kind, rows, settings["defaultTimeout"])
        yield from _deaths(kind, rows)
        yield from _too_long(kind, rows, limits)


def _deaths(kind: str, rows: capabilities.Rows) -> Iterator[Finding]:
    """What runs that died show that no probe has shown, and how it may be tested."""
    for strategy, row in rows.items():
        deaths, known = row.get("deaths", ()), capabilities.ceiling(row)

        if len(deaths) < 2 or known is None or (row.get("probe") and row["probe"]["ended"] != "finished"):
            continue

        # A probe that survives so long leaves one death at most, and one shows nothing.
        seconds = max(capabilities.PROBE_SECONDS, int(sorted(death["after"] for death in deaths)[-2]) + 1)
        until = sorted(parse_time(death["at"]) for death in deaths)[-2] + capabilities.KEPT_SECONDS
        yield Finding(WARNING, "server",
                      "runs that died under {strategy} on {kind}: {n}, so until {until} it is expected to survive "
                      "{seconds} s; `webscheduler probe --seconds {test}` tests whether it survives more"
                      if seconds <= capabilities.MOST_PROBE_SECONDS else
                      "runs that died under {strategy} on {kind}: {n}, so until {until} it is expected to survive "
                      "{seconds} s", kind=kind, n=len(deaths), strategy=strategy, until=format_time(until),
                      seconds=f"{known:g}", test=seconds)


def _too_long(kind: str, rows: capabilities.Rows, limits: Sequence[tuple[Task, float]]) -> Iterator[Finding]:
    """One line for all tasks of the same kind of problem. limits: seconds, 0 for none."""
    expected = capabilities.expect(kind, rows)
    found: dict[str, list[tuple[str, float, str]]] = {}

    for task, limit in limits:
        best, other = (capabilities.order(expected, each, limit)[0] for each in (task["strategy"], "auto"))
        least = min(limit or capabilities.ANY, 1e9)

        if expected[best][0] <= least:
            cure = ("auto" if expected[other][0] > least else "shorter" if expected[best][1] else
                    "probe" if limit and limit < capabilities.MOST_PROBE_SECONDS else "untested")
            found.setdefault(cure, []).append((task.name, limit, best))

    for cure, tasks in found.items():
        (name, _, best), longest = tasks[0], max(limit for _, limit, _ in tasks)
        yield Finding(
            WARNING, "server",
            "tasks that may run longer than the {seconds} s that {strategy} is expected to survive on {kind}: {n}, "
            "like {task}; `webscheduler edit {task} --strategy auto` lets them have one that survives"
            if cure == "auto" else
            "tasks that may run longer than the {seconds} s that {strategy} survives on {kind}: {n}, like {task}; "
            "nothing is known to survive that long, so give them a lower timeout, or split them"
            if cure == "shorter" else
            "tasks that may run longer than the {seconds} s that {strategy} is expected to survive on {kind}: {n}, "
            "like {task}; `webscheduler probe --seconds {test}` tests whether it survives more" if cure == "probe" else
            "tasks that may run longer than the {seconds} s that {strategy} is expected to survive on {kind}: {n}, "
            "like {task}; no probe is long enough to test more, so give them a lower timeout, or split them",
            n=len(tasks), task=name, strategy=best, kind=kind, seconds=f"{expected[best][0]:g}", test=int(longest) + 1)


def explain(kind: str, rows: capabilities.Rows, timeout: float) -> Iterator[Finding]:
    """First what `auto` chooses on this kind of server for a run of so many seconds (0: any), about `server`; then what
    is known of each strategy."""
    yield Finding(OK, "server", "on {kind} `auto` chooses {strategy} for runs of up to {n} s" if timeout else
                  "on {kind} `auto` chooses {strategy} for runs of any length", kind=kind, n=f"{timeout:g}",
                  strategy=capabilities.order(capabilities.expect(kind, rows), "auto", timeout)[0])

    for strategy in STRATEGIES:
        row = rows.get(strategy, {})
        probe, deaths, far = row.get("probe"), row.get("deaths"), capabilities.survives(kind, strategy, rows)

        if probe:
            yield Finding(OK, strategy, "a probe ended after {n} s, at {when}: {error}; valid until {until}"
                          if probe["ended"] != "finished" else
                          "a probe of {n} s finished, at {when}, but the response waited for it; valid until {until}"
                          if probe.get("held") else "a probe of {n} s finished, at {when}; valid until {until}",
                          n=f"{probe['lived']:g}", error=probe["ended"], when=probe["at"],
                          until=format_time(parse_time(probe["at"]) + capabilities.KEPT_SECONDS))
        else:
            yield Finding(OK, strategy, "not used: this server ends a script after its response, or nobody has tested "
                          "that it does not" if far == 0 else "not tested: expected to survive"
                          if far == capabilities.ANY else "not tested: expected to survive {n} s", n=f"{far:g}")

        if row.get("carried"):
            yield Finding(OK, strategy, "a run of {n} s survived, at {when}", n=f"{row['carried']['seconds']:g}",
                          when=row["carried"]["at"])

        if deaths:
            yield Finding(OK, strategy, "runs that died: {n}, the earliest within {seconds} s" if len(deaths) > 1 else
                          "one run died within {seconds} s, which may have any cause", n=len(deaths),
                          seconds=f"{min(death['after'] for death in deaths):g}")
