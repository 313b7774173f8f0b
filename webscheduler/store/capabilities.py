# SPDX-License-Identifier: LGPL-3.0-or-later
"""What runs survive on this host: how long each strategy was seen to, from which `auto` chooses.

The rules:
- A strategy is judged by what was seen: by a probe, whose job writes heartbeats after the end of its request, and by
  runs that ended by themselves, or died (`interrupted`). Without either, by the kind of server.
- A run may die of anything, so one lowers nothing. If a second one dies, no run is expected to survive longer than both
  did. What was seen to carry so many seconds is expected to carry them again.
- A run gets the first of fork, close and sync that is expected to survive its time limit; else the one that was never
  seen to end, or nobody would ever find out about that; else the one that survives longest.
- What was seen is valid for one kind of server and 30 days, a probe for one version of the package.
- The file has no lock: of two processes that write at once, the later one wins, and what was lost is seen again.
"""

from __future__ import annotations

import os

from .. import __version__
from ..errors import Unusable
from ..times import format_time, instant, parse_time
from ..vocabulary import DETACHED, STRATEGIES
from .files import read_json, replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Carried, Death, Facts, Probe, Seen

    Rows = dict[str, Seen]  # by strategy
    Expected = dict[str, tuple[float, bool]]  # by strategy: seconds that runs survive, whether that was seen

FILE = "capabilities.json"
PROBE_SECONDS, MOST_PROBE_SECONDS = 10, 600
KEPT_SECONDS = 30 * 86400.0
SAME_DEATH = 60.0  # runs that lived at the same time and die within so many seconds die of the same cause
CARRIED_NOTED = 10.0  # seconds; shorter runs show less than a probe
MAX_DEATHS = 5
ANY = float("inf")
REQUEST_LIVES = 60.0  # seconds that a request may take if nothing was seen: the default of Apache and nginx

# Servers that end a CGI script which continues after its response (docs/reference/servers.md).
ENDS_SCRIPTS = ("cgi/apache", "cgi/lighttpd")


def order(expected: Expected, wanted: str, timeout: float) -> list[str]:
    """The strategies to try, the best first, for a run of at most `timeout` seconds (0: any). wanted: `auto`, or the
    strategy to begin with; those after it are tried if it does not work here."""
    strategies = [*STRATEGIES]

    if wanted != "auto":
        usable = [each for each in strategies if each != "close" or expected["close"][0] > 0]
        return [each for each in usable if strategies.index(each) >= strategies.index(wanted)]

    limit = timeout or ANY
    fitting = [each for each in strategies if expected[each][0] > min(limit, 1e9)]
    others = sorted((each for each in strategies if each not in fitting),
                    key=lambda each: (expected[each][1], -expected[each][0]))
    found = [each for each in (*fitting, *others) if expected[each][0] > 0 or each == "sync"]
    return found[: found.index("sync") + 1]  # sync always works


def expect(kind: str, rows: Rows) -> Expected:
    """What is expected of each strategy on this kind of server."""
    return {each: (survives(kind, each, rows), ceiling(rows.get(each, {})) is not None) for each in STRATEGIES}


def pack(expected: Expected) -> str:
    """`expect` as a line of the index."""
    return " ".join(f"{seconds!r} {int(ended)}" for seconds, ended in expected.values())


def unpack(text: str) -> Expected:
    """The reverse of `pack`."""
    words = text.split()
    return {each: (float(words[2 * place]), words[2 * place + 1] == "1") for place, each in enumerate(STRATEGIES)}


def valid_until(home: str, kind: str, now: float) -> float:
    """When what is expected may change because what was seen gets old (Unix seconds)."""
    seen: list[Probe | Death | Carried | None] = []

    for row in _load(home).get(kind, {}).values():
        seen += [row.get("probe"), row.get("carried"), *row.get("deaths", ())]

    moments = (parse_time(each["at"]) + KEPT_SECONDS for each in seen if each)
    return min((moment for moment in moments if moment > now), default=ANY)


def carried(row: Seen) -> float:
    """The longest time that something was seen to survive, seconds."""
    probe, seen = row.get("probe"), row.get("carried")
    return max(probe["lived"] if probe and probe["ended"] == "finished" else 0.0, seen["seconds"] if seen else 0.0)


def ceiling(row: Seen) -> float | None:
    """The time that nothing is expected to survive, seconds; None if nobody has seen that there is one."""
    probe, ends = row.get("probe"), sorted(death["after"] for death in row.get("deaths", ()))[1:]

    if probe and probe["ended"] != "finished":
        ends.append(probe["lived"])

    return max(min(ends), carried(row)) if ends else None


def survives(kind: str, strategy: str, rows: Rows) -> float:
    """Seconds that a run is expected to survive under the strategy; 0 if it cannot be used here."""
    row = rows.get(strategy, {})
    probe, known = row.get("probe"), ceiling(row)

    if strategy == "close":
        whole = probe is not None and probe["ended"] == "finished"

        # Under CGI only if it was seen to work: it is the script that the server knows which continues.
        if kind in ENDS_SCRIPTS or (kind.startswith("cgi/") and kind != "cgi/nginx" and not whole):
            return 0.0

        if probe and probe.get("held"):  # then it is a `sync` that cannot tell how the run ended
            return 0.0

    if known is not None:
        return known

    return ANY if strategy in DETACHED else max(REQUEST_LIVES, carried(row))


def read(home: str, kind: str, now: float) -> Rows:
    """What was seen of this kind of server and is still valid."""
    rows: Rows = {}

    for strategy, row in _load(home).get(kind, {}).items():
        probe, carried = row.get("probe"), row.get("carried")
        deaths = [death for death in row.get("deaths", ()) if _age(death, now) < KEPT_SECONDS]
        kept: Seen = {"deaths": deaths} if deaths else {}

        if probe and probe.get("package") == __version__ and _age(probe, now) < KEPT_SECONDS:
            kept["probe"] = probe

        if carried and _age(carried, now) < KEPT_SECONDS:
            kept["carried"] = carried

        rows[strategy] = kept

    return {strategy: kept for strategy, kept in rows.items() if kept}


def probe_task(strategy: str) -> str:
    """Name of the task of a probe."""
    return f"probe-{strategy}"


def kinds(home: str) -> list[str]:
    """The kinds of server of which something was seen."""
    return sorted(_load(home))


def store_probe(home: str, kind: str, results: dict[str, Probe]) -> None:
    """Store the results of a probe, by strategy. They replace what they disprove: deaths of runs that its job survived,
    and what runs carried if its job was ended. Raises Unusable."""
    servers = _load(home)
    rows = servers.setdefault(kind, {})

    for strategy, probe in results.items():
        row = rows.setdefault(strategy, {})
        row["probe"] = probe

        if probe["ended"] == "finished":
            row["deaths"] = [death for death in row.get("deaths", ()) if death["after"] > probe["lived"]]
        else:
            row.pop("carried", None)

    if not _save(home, servers):
        raise Unusable(f"{home}/{FILE} cannot be written: what the probe found is not kept")


def record_end(home: str, facts: Facts, seconds: float, now: float) -> None:
    """A run ended after so many seconds by itself, or at its time limit. facts: of its claim. Written only if nothing
    was seen to survive nearly as long."""
    if seconds < CARRIED_NOTED or not _counts(facts):
        return

    servers = _load(home)
    row = servers.setdefault(facts["server"] or "", {}).setdefault(facts["strategy"], {})
    before = row.get("carried")

    if not before or seconds > 1.25 * before["seconds"] or not 0 <= _age(before, now) < KEPT_SECONDS:
        row["carried"] = {"at": format_time(now), "seconds": round(seconds, 3)}
        _save(home, servers)


def record_death(home: str, facts: Facts, after: float, now: float, known: bool = True) -> None:
    """A run died within `after` seconds. facts: of its claim. known: whether it died just now; else it was found dead.

    A run that began before the machine did (proc(5), /proc/uptime) shows nothing.
    """
    started, run = instant(facts.get("startedAt")), facts.get("run")

    try:
        with open("/proc/uptime", "rb") as file:
            if not started or started < now - float(file.read().split()[0]):
                return
    except (OSError, ValueError):
        pass

    if _counts(facts):
        servers = _load(home)
        row = servers.setdefault(facts["server"] or "", {}).setdefault(facts["strategy"], {})
        death: Death = {"at": format_time(now), "after": round(max(0.0, after), 3), "run": run}
        deaths = [each for each in row.get("deaths", ()) if _age(each, now) < KEPT_SECONDS]
        last = deaths[-1] if deaths else None

        # One cause may kill all runs of a moment.
        if last and (last.get("run") == run or (started < parse_time(last["at"])
                                            and (not known or _age(last, now) < SAME_DEATH))):
            death["after"] = min(death["after"], deaths.pop()["after"])

        row["deaths"] = [*deaths, death][-MAX_DEATHS:]
        _save(home, servers)


def _counts(facts: Facts) -> bool:
    """Whether the run was one of a server, and no job of a probe."""
    strategy = facts.get("strategy", "")
    return bool(facts.get("server")) and strategy in STRATEGIES and facts.get("name") != probe_task(strategy)


def _load(home: str) -> dict[str, Rows]:
    """The whole file, by kind of server; empty if there is none, or none that makes sense."""
    path = os.path.join(home, FILE)

    if not os.path.exists(path):
        return {}  # the import of json takes 5 ms

    try:
        servers = read_json(path)["servers"]

        for rows in servers.values():
            for row in rows.values():
                probe = row.get("probe")

                if probe is not None:
                    _ = (float(probe["lived"]), float(probe["seconds"]), len(probe["ended"]), parse_time(probe["at"]))

                for death in row.get("deaths", ()):
                    _ = (float(death["after"]), parse_time(death["at"]))

                if row.get("carried"):
                    _ = (float(row["carried"]["seconds"]), parse_time(row["carried"]["at"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}

    return dict(servers)


def _save(home: str, servers: dict[str, Rows]) -> bool:
    """Whether it could be written; if not, only the next choice is worse."""
    import json

    try:
        replace_file(os.path.join(home, FILE),
                     json.dumps({"version": 1, "servers": servers}, indent=1).encode() + b"\n")
        return True
    except OSError:
        return False


def _age(seen: Probe | Death | Carried, now: float) -> float:
    return now - parse_time(seen["at"])
