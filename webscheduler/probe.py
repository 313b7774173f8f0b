"""Finding out what the host lets live: short-lived tasks whose job writes heartbeats past the end of its request.

Imports `arrival` for the calls, and the files below the doors. The rules: the scheduler's own signed URLs are called,
so a job runs as every run does, from inside the web server; who calls them (the command line here, a browser for the
panel, since a server with one worker cannot call itself) measures what the response did. A job that lost its supervisor
stops beating: the run is as good as dead. The tasks are removed with all they left.
"""

from __future__ import annotations

import json
import os
import time

from . import __version__, arrival, capabilities, commands, editing, history, locks, record, signing, store
from .errors import BadInput
from .installation import new_task
from .task import file_name, format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .config import Config

BEAT = 0.5
SECONDS, MOST_SECONDS = 10, 600
MARGIN = 60  # seconds that a request may wait behind the others


def start(settings: Config, base: str, seconds: int, now: float) -> list[dict[str, Any]]:
    """Make the tasks. Returns what to call, in this order: `strategy` and `url` of each. Raises BadInput.

    The next URL should be called as soon as the answer of the one before is there.
    """
    if not 1 <= seconds <= MOST_SECONDS:
        raise BadInput(f"seconds: a probe takes 1 to {MOST_SECONDS}", "seconds")

    rows = {}

    for strategy in capabilities.ORDER:
        name = capabilities.probe_task(strategy)
        argv = commands.python(settings, "webscheduler.probe:heartbeat", settings.home, name, str(seconds))
        rows[name] = new_task(now, {"enabled": True, "group": capabilities.PROBE, "argv": argv, "strategy": strategy,
                                    "timeout": seconds + MARGIN, "title": "A probe of the host, removed when it ends"})

    for name, row in store.read(settings.home).items():
        if name in rows and row.get("group") != capabilities.PROBE:
            raise BadInput(f"a task is named {name}, which is the probe's: rename yours", "name")

    stop(settings.home, now)
    store.update(settings.home, lambda tasks: tasks.update(rows))
    return [{"strategy": row["strategy"], "url": signing.trigger_url(base, row["slug"], row["secret"])}
            for row in rows.values()]


def collect(home: str, strategy: str, seconds: int, answer: dict[str, Any], now: float) -> dict[str, Any] | None:
    """What became of one job; None while it runs. Raises BadInput if it never began: the call did not arrive.

    answer: what the caller saw, `status` (HTTP, or 0 for no answer at all) and `seconds` until the answer was whole.
    Returns at, package, seconds (asked for), lived, ended (`finished`, or what ended it), held (whether the answer
    waited for the job) and answer; besides `kind` of the server.
    """
    name = capabilities.probe_task(strategy)

    with locks.Gate(home, name):
        alive = record.clear_dead(home, name, now)

    if alive:
        return None

    entry = next((entry for entry in history.entries(home, name) if entry.get("run")), None)
    kind, lived = _beats(home, name)

    if entry is None:
        raise BadInput(f"{strategy}: the call did not reach the scheduler: {arrival.seen(answer)}: "
                       f"{arrival.cause(answer)}")

    if entry["strategy"] != strategy:
        ended, lived = "the host gave no process", 0.0
    elif entry["status"] == "success":
        ended, lived = "finished", float(seconds)
    elif entry["status"] == "interrupted":
        ended = "SIGTERM" if entry["reason"] == "terminated" else "killed, with nothing left to say so"
    elif entry["signal"]:
        ended = f"the job alone got signal {entry['signal']}"
    else:
        ended = f"{entry['status']}, exit code {entry['exitCode']}"

    return {"at": format_time(now), "package": __version__, "seconds": seconds, "lived": round(lived, 1),
            "ended": ended, "held": strategy != "sync" and answer["seconds"] > 0.8 * max(1.0, lived) > 0.0,
            "answer": {key: answer[key] for key in ("status", "seconds", "problem") if key in answer}, "kind": kind}


def finish(home: str, results: dict[str, dict[str, Any]], now: float) -> str:
    """Keep the results, by strategy, and remove the tasks. Returns the kind of server, empty if none was told."""
    kind = next((result["kind"] for result in results.values() if result["kind"]), "")

    if kind:
        kept = {strategy: {key: value for key, value in result.items() if key != "kind"}
                for strategy, result in results.items()}
        capabilities.store_probe(home, kind, kept)

    stop(home, now)
    return kind


def stop(home: str, now: float) -> None:
    """Remove what is left of a probe. Raises BadInput while one runs."""
    tasks = store.read(home)

    for strategy in capabilities.ORDER:
        name = capabilities.probe_task(strategy)

        if tasks.get(name, {}).get("group") == capabilities.PROBE:
            editing.remove(home, name, now)

        try:
            os.unlink(_file(home, name))
        except FileNotFoundError:
            pass


def run(
    settings: Config, base: str, seconds: int, clock: Callable[[], float], say: Callable[[str], object]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Probe from here: (kind of server, results by strategy). Raises BadInput if the URL does not lead here."""
    limit = 2 * seconds + MARGIN
    answers: dict[str, dict[str, Any]] = {}
    results: dict[str, dict[str, Any]] = {}
    problem: BadInput | None = None

    for call in start(settings, base, seconds, clock()):
        say(f"{call['strategy']} ...")
        answers[call["strategy"]] = arrival.fetch(call["url"], limit)

    deadline = time.monotonic() + limit

    for strategy, answer in answers.items():
        try:
            while (result := collect(settings.home, strategy, seconds, answer, clock())) is None:
                if time.monotonic() > deadline:
                    raise BadInput(f"{strategy}: the job does not end: see `webscheduler status`")

                time.sleep(BEAT)

            results[strategy] = result
        except BadInput as error:
            problem = error

    kind = finish(settings.home, results, clock())

    if problem and not results:
        raise problem

    return kind, results


def heartbeat(home: str, name: str, seconds: str) -> int:
    """The job: say on what server it runs, then beat until the time is over or the supervisor is gone."""
    supervisor = os.getppid()
    facts: dict[str, Any] = next(iter(locks.peek(home, name)), {})
    begun = time.monotonic()

    with open(_file(home, name), "w", encoding="ascii") as file:
        file.write(json.dumps({"server": facts.get("server")}) + "\n")
        lived = 0.0

        while lived < int(seconds) and os.getppid() == supervisor:
            file.write(f"{lived:.2f}\n")
            file.flush()
            time.sleep(min(BEAT, max(0.0, int(seconds) - lived)))
            lived = time.monotonic() - begun

    return 0 if lived >= int(seconds) else 1


def _file(home: str, name: str) -> str:
    return os.path.join(home, "output", file_name(name) + ".beats")


def _beats(home: str, name: str) -> tuple[str, float]:
    """(kind of server, seconds until the last beat)."""
    try:
        with open(_file(home, name), encoding="ascii") as file:
            lines = file.read().split("\n")

        kind = str(json.loads(lines[0])["server"] or "")
    except (OSError, ValueError, KeyError):
        return "", 0.0

    return kind, max((float(line) for line in lines[1:-1]), default=0.0)
