# SPDX-License-Identifier: LGPL-3.0-or-later
"""What runs survive on this host: how long each strategy was seen to, from which `auto` chooses.

The rules:
- A strategy is judged by what was seen, never by whether a function exists: by a probe, whose job writes heartbeats
  after the end of its request, and by runs that died under it (`interrupted`). Without either, by the kind of server.
- A run gets the first of fork, close and sync that is expected to survive its time limit. If there is none, it gets the
  one that survives longest; one that was seen to end counts half, or nobody would ever find out about the others.
- What was seen is valid for one kind of server, one version of the package and 30 days. A single death may have another
  cause: it is valid for a day, unless a probe survived longer, and for 30 days once there was a second one.
- The file is replaced as a whole and without a lock: if two processes write at once, the later one wins, and what was
  lost is seen again.
"""

from __future__ import annotations

import os

from .. import __version__
from ..times import format_time, parse_time
from ..vocabulary import DETACHED, STRATEGIES
from .files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Death, Facts, Probe, Seen

    Rows = dict[str, Seen]  # by strategy
    Expected = dict[str, tuple[float, bool]]  # by strategy: seconds that runs survive, whether one was seen to end

FILE = "capabilities.json"
KEPT_SECONDS = 30 * 86400.0
ONE_DEATH_COUNTS = 86400.0
SAME_DEATH = 60.0  # runs that die within so many seconds die of the same cause
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
                    key=lambda each: -expected[each][0] / (1 + expected[each][1]))
    found = [each for each in (*fitting, *others) if expected[each][0] > 0 or each == "sync"]
    return found[: found.index("sync") + 1]  # sync always works


def expect(kind: str, rows: Rows) -> Expected:
    """What is expected of each strategy on this kind of server."""
    return {each: (survives(kind, each, rows), _seen_to_end(rows.get(each, {}))) for each in STRATEGIES}


def pack(expected: Expected) -> str:
    """`expect` as a line of the index."""
    return " ".join(f"{seconds!r} {int(ended)}" for seconds, ended in expected.values())


def unpack(text: str) -> Expected:
    """The reverse of `pack`."""
    words = text.split()
    return {each: (float(words[2 * place]), words[2 * place + 1] == "1") for place, each in enumerate(STRATEGIES)}


def valid_until(home: str, kind: str, now: float) -> float:
    """When what is expected may change because what was seen gets old (Unix seconds)."""
    seen: list[Probe | Death] = []

    for row in _load(home).get(kind, {}).values():
        seen += [*([row["probe"]] if row.get("probe") else []), *row.get("deaths", ())]

    moments = (parse_time(each["at"]) + age for each in seen for age in (ONE_DEATH_COUNTS, KEPT_SECONDS))
    return min((moment for moment in moments if moment > now), default=ANY)


def _seen_to_end(row: Seen) -> bool:
    probe = row.get("probe")
    return bool(row.get("deaths")) or (probe is not None and probe["ended"] != "finished")


def survives(kind: str, strategy: str, rows: Rows) -> float:
    """Seconds that a run is expected to survive under the strategy; 0 if it cannot be used here."""
    row = rows.get(strategy, {})
    probe = row.get("probe")
    whole = probe is not None and probe["ended"] == "finished"

    if strategy == "close":
        # Under CGI only if it was seen to work: it is the script that the server knows which continues.
        if kind in ENDS_SCRIPTS or (kind.startswith("cgi/") and kind != "cgi/nginx" and not whole):
            return 0.0

        if probe and probe.get("held"):  # then it is a `sync` that cannot tell how the run ended
            return 0.0

    ends = [death["after"] for death in row.get("deaths", ())]

    if probe and not whole:
        ends.append(probe["lived"])

    if ends:
        return float(min(ends))

    return ANY if strategy in DETACHED else max(REQUEST_LIVES, probe["lived"] if probe else 0.0)


def read(home: str, kind: str, now: float) -> Rows:
    """What was seen of this kind of server and is still valid."""
    rows: Rows = {}

    for strategy, row in _load(home).get(kind, {}).items():
        kept: Seen = {}
        probe, lived = row.get("probe"), 0.0

        if probe and probe.get("package") == __version__ and _age(probe, now) < KEPT_SECONDS:
            kept["probe"] = probe
            lived = probe["lived"] if probe["ended"] == "finished" else 0.0

        deaths = [death for death in row.get("deaths", ()) if _age(death, now) < KEPT_SECONDS]
        survived = all(death["after"] < lived for death in deaths)

        if len(deaths) > 1 or (deaths and not survived and _age(deaths[0], now) < ONE_DEATH_COUNTS):
            kept["deaths"] = deaths

        if kept:
            rows[strategy] = kept

    return rows


def probe_task(strategy: str) -> str:
    """Name of the task of a probe."""
    return f"probe-{strategy}"


def kinds(home: str) -> list[str]:
    """The kinds of server of which something was seen."""
    return sorted(_load(home))


def store_probe(home: str, kind: str, results: dict[str, Probe]) -> None:
    """Store the results of a probe, by strategy. They replace the deaths of runs that its job survived."""
    servers = _load(home)
    rows = servers.setdefault(kind, {})

    for strategy, probe in results.items():
        row = rows.setdefault(strategy, {})
        row["probe"] = probe

        if probe["ended"] == "finished":
            row["deaths"] = [death for death in row.get("deaths", ()) if death["after"] > probe["lived"]]

    _save(home, servers)


def record_death(home: str, facts: Facts, after: float, now: float) -> None:
    """A run died within `after` seconds. facts: of its claim, for its strategy and server.

    A run that began before the machine did (proc(5), /proc/uptime) shows nothing.
    """
    kind, strategy, run = facts.get("server"), facts.get("strategy", ""), facts.get("run")

    try:
        with open("/proc/uptime", "rb") as file:
            booted = now - float(file.read().split()[0])

        if parse_time(facts["startedAt"]) < booted:
            return
    except (OSError, KeyError, ValueError, TypeError):
        pass

    if kind and strategy in STRATEGIES and facts.get("name") != probe_task(strategy):
        servers = _load(home)
        row = servers.setdefault(kind, {}).setdefault(strategy, {})
        death: Death = {"at": format_time(now), "after": round(max(0.0, after), 3), "run": run}
        deaths = [each for each in row.get("deaths", ()) if _age(each, now) < KEPT_SECONDS]

        if deaths and _age(deaths[-1], now) < SAME_DEATH:
            death["after"] = min(death["after"], deaths.pop()["after"])

        row["deaths"] = [*deaths, death][-MAX_DEATHS:]
        _save(home, servers)


def _load(home: str) -> dict[str, Rows]:
    """The whole file, by kind of server; empty if there is none, or none that makes sense."""
    if not os.path.exists(os.path.join(home, FILE)):
        return {}

    import json  # 5 ms, only if something was seen

    try:
        with open(os.path.join(home, FILE), "rb") as file:
            servers = json.loads(file.read())["servers"]

        for rows in servers.values():
            for row in rows.values():
                probe = row.get("probe")

                if probe is not None:
                    _ = (float(probe["lived"]), float(probe["seconds"]), len(probe["ended"]), parse_time(probe["at"]))

                for death in row.get("deaths", ()):
                    _ = (float(death["after"]), parse_time(death["at"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}

    return dict(servers)


def _save(home: str, servers: dict[str, Rows]) -> None:
    import json

    try:
        content = json.dumps({"version": 1, "servers": servers}, indent=1).encode()
        replace_file(os.path.join(home, FILE), content + b"\n")
    except OSError:
        pass  # only the next choice is worse


def _age(seen: Probe | Death, now: float) -> float:
    return now - parse_time(seen["at"])
