"""What this host lets a run do: which strategy carries how long a run, as seen; `auto` is chosen from it.

The rules:
- A strategy is judged by what was seen, never by whether a function exists: by a probe, whose job wrote heartbeats
  past the end of its request, and by runs that died `interrupted` under it. Without either, by the kind of server.
- A run gets the first of fork, close, sync that carries its time limit. Where none does, the one that carried longest,
  but that one that was seen to end counts half against one that was not: else nobody would ever look.
- What was seen counts for one kind of server, one version of the package and 30 days. A single run that died may have
  died of something else: it counts for a day, unless a probe outlived it, and for all 30 days once a second one did.
- A request reads one small file, and only for a task whose strategy is `auto`. It is replaced as a whole and without a
  lock: when two write at once the later one wins, and what got lost is seen again.
"""

from __future__ import annotations

import os

from ..times import format_time, parse_time
from ..version import __version__
from .files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Carried = dict[str, tuple[float, bool]]  # strategy -> (seconds, whether it was seen to end a run)
    Rows = dict[str, dict[str, Any]]  # strategy -> {"probe": what probe.collect returns, "deaths": [{at, after, run}]}

FILE = "capabilities.json"
ORDER = ("fork", "close", "sync")
PROBE = "@probe"  # the group of the tasks that a probe makes: they get the strategy they ask for, whatever is known
KEPT_SECONDS = 30 * 86400.0
ONE_DEATH_COUNTS = 86400.0
SAME_DEATH = 60.0  # runs that die within as many seconds die of one thing
MAX_DEATHS = 5
ANY = float("inf")
REQUEST_LIVES = 60.0  # seconds that a request may take where nobody has seen more: Apache's Timeout and nginx's

# Servers that end a CGI script which goes on after its response (docs/reference/servers.md).
ENDS_SCRIPTS = ("cgi/apache", "cgi/lighttpd")


def elect(home: str, kind: str, timeout: float, now: float) -> list[str]:
    """The strategies to try, in order, for a run of at most `timeout` seconds (0: any)."""
    return ranked(carried(kind, read(home, kind, now)), timeout)


def following(home: str, kind: str, wanted: str, now: float) -> list[str]:
    """The strategies to try where the task asks for one: those after it may take over if it cannot work here."""
    return after(carried(kind, {} if wanted == "sync" else read(home, kind, now)), wanted)


def after(reaches: Carried, wanted: str) -> list[str]:
    """`following` for what is known."""
    return [each for each in ORDER[ORDER.index(wanted):] if each != "close" or reaches["close"][0] > 0]


def ranked(reaches: Carried, timeout: float) -> list[str]:
    """`elect` for what is known."""
    limit = timeout or ANY
    fitting = [strategy for strategy in ORDER if reaches[strategy][0] > min(limit, 1e9)]
    others = sorted((each for each in ORDER if each not in fitting),
                    key=lambda each: -reaches[each][0] / (1 + reaches[each][1]))
    order = [each for each in (*fitting, *others) if reaches[each][0] > 0 or each == "sync"]
    return order[: order.index("sync") + 1]  # which needs nothing that could be missing


def carried(kind: str, rows: Rows) -> Carried:
    """How many seconds each strategy is expected to carry a run, and whether it was seen to end one."""
    return {strategy: (reach(kind, strategy, rows), _seen_to_end(rows.get(strategy, {}))) for strategy in ORDER}


def pack(reaches: Carried) -> str:
    """`carried` as a line of the index."""
    return " ".join(f"{seconds!r} {int(ended)}" for seconds, ended in reaches.values())


def unpack(text: str) -> Carried:
    """What `pack` packed."""
    words = text.split()
    return {strategy: (float(words[2 * place]), words[2 * place + 1] == "1") for place, strategy in enumerate(ORDER)}


def changes_at(home: str, kind: str, now: float) -> float:
    """Unix seconds until when what was seen says the same."""
    moments = [parse_time(seen["at"]) + age for row in _load(home).get(kind, {}).values()
               for seen in (row.get("probe"), *row.get("deaths", ())) if seen
               for age in (ONE_DEATH_COUNTS, KEPT_SECONDS)]
    return min((moment for moment in moments if moment > now), default=ANY)


def _seen_to_end(row: dict[str, Any]) -> bool:
    return bool(row.get("deaths")) or (row.get("probe") or {}).get("ended", "finished") != "finished"


def reach(kind: str, strategy: str, rows: Rows) -> float:
    """Seconds that a run may be expected to live under the strategy; 0 where it cannot be used."""
    row = rows.get(strategy, {})
    probe = row.get("probe") or {}
    whole = probe.get("ended") == "finished"

    if strategy == "close":
        # Under CGI only where it was seen to work: the script that goes on is the one the server knows.
        if kind in ENDS_SCRIPTS or kind.startswith("cgi/") and kind != "cgi/nginx" and not whole:
            return 0.0

        if probe.get("held"):  # then it is a `sync` that cannot tell how the run ended
            return 0.0

    deaths = [death["after"] for death in row.get("deaths", ())]

    if probe and not whole:
        deaths.append(probe["lived"])

    if deaths:
        return float(min(deaths))

    return ANY if strategy == "fork" else max(REQUEST_LIVES, probe.get("lived", 0.0))


def read(home: str, kind: str, now: float) -> Rows:
    """What was seen of this kind of server and still counts."""
    rows: Rows = {}

    for strategy, row in _load(home).get(kind, {}).items():
        probe, deaths = row.get("probe"), row.get("deaths", [])
        kept: dict[str, Any] = {}

        if probe and probe.get("package") == __version__ and _age(probe, now) < KEPT_SECONDS:
            kept["probe"] = probe

        deaths = [death for death in deaths if _age(death, now) < KEPT_SECONDS]
        lived = kept["probe"]["lived"] if kept.get("probe", {}).get("ended") == "finished" else 0.0
        outlived = all(death["after"] < lived for death in deaths)

        if len(deaths) > 1 or deaths and not outlived and _age(deaths[0], now) < ONE_DEATH_COUNTS:
            kept["deaths"] = deaths

        if kept:
            rows[strategy] = kept

    return rows


def probe_task(strategy: str) -> str:
    """What the task of a probe is called."""
    return f"probe-{strategy}"


def kinds(home: str) -> list[str]:
    """The kinds of server that something was seen of."""
    return sorted(_load(home))


def store_probe(home: str, kind: str, results: Rows) -> None:
    """Keep the results of a probe, by strategy. A job that outlived the runs which died clears them."""
    servers = _load(home)
    rows = servers.setdefault(kind, {})

    for strategy, probe in results.items():
        row = rows.setdefault(strategy, {})
        row["probe"] = probe

        if probe["ended"] == "finished":
            row["deaths"] = [death for death in row.get("deaths", []) if death["after"] > probe["lived"]]

    _save(home, servers)


def lower(home: str, facts: dict[str, Any], after: float, now: float) -> None:
    """A run died under its strategy within `after` seconds. `facts` of its claim say which, and on what server.

    A run that began before the machine did (proc(5), /proc/uptime) shows nothing.
    """
    kind, strategy, run = facts.get("server"), facts.get("strategy"), facts.get("run")

    try:
        with open("/proc/uptime", "rb") as file:
            booted = now - float(file.read().split()[0])

        if parse_time(facts["startedAt"]) < booted:
            return
    except (OSError, KeyError, ValueError, TypeError):
        pass

    if kind and strategy in ORDER and facts.get("name") != probe_task(strategy):
        servers = _load(home)
        row = servers.setdefault(kind, {}).setdefault(strategy, {})
        death = {"at": format_time(now), "after": round(max(0.0, after), 3), "run": run}
        deaths = [one for one in row.get("deaths", []) if _age(one, now) < KEPT_SECONDS]

        if deaths and _age(deaths[-1], now) < SAME_DEATH:
            death["after"] = min(death["after"], deaths.pop()["after"])

        row["deaths"] = [*deaths, death][-MAX_DEATHS:]
        _save(home, servers)


def _load(home: str) -> dict[str, Rows]:
    """The file as it is; none, or one that makes no sense, means that nothing is known."""
    if not os.path.exists(os.path.join(home, FILE)):
        return {}

    import json  # 5 ms, where something was seen

    try:
        with open(os.path.join(home, FILE), "rb") as file:
            servers = json.loads(file.read())["servers"]

        for rows in servers.values():
            for row in rows.values():
                probe = row.get("probe")

                if probe is not None:
                    float(probe["lived"]), float(probe["seconds"]), len(probe["ended"]), parse_time(probe["at"])

                for death in row.get("deaths", []):
                    float(death["after"]), parse_time(death["at"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}

    return dict(servers)


def _save(home: str, servers: dict[str, Rows]) -> None:
    import json

    try:
        content = json.dumps({"version": 1, "servers": servers}, indent=1).encode()
        replace_file(os.path.join(home, FILE), content + b"\n")
    except OSError:
        pass  # nothing depends on it but how well the next choice is


def _age(seen: dict[str, Any], now: float) -> float:
    return now - parse_time(seen["at"])
