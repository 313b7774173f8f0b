# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests which strategies survive on this host: short tasks whose job prints heartbeats after the end of its request.

The rules: the jobs run as all runs do, inside the web server, since the scheduler's own signed URLs are called. Who
calls them measures the response: the command line here, or for the panel a browser, since a server with one worker
cannot call itself. A job that lost its supervisor stops. In the end the tasks are removed with all their files.
"""

from __future__ import annotations

import os
import time

from .. import signing
from ..commands import registry
from ..errors import BadInput
from ..fetching import Answer, fetch
from ..runs import probes
from ..store import capabilities, processes, state
from ..store.task import is_internal, new_task
from ..vocabulary import PROBE, STRATEGIES
from . import url_check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Callable, Probe
    from ..store.settings import Settings

BEAT = 0.5
SECONDS, MOST_SECONDS = capabilities.PROBE_SECONDS, capabilities.MOST_PROBE_SECONDS


def start(settings: Settings, base: str, seconds: int, now: float) -> list[dict[str, str]]:
    """Create the tasks. Returns the calls to make, in this order: `strategy` and `url` of each. Raises BadInput.

    Each URL should be called as soon as the one before it has been answered.
    """
    if not 1 <= seconds <= MOST_SECONDS:
        raise BadInput(f"seconds: must be from 1 to {MOST_SECONDS}", "seconds")

    rows = {}

    for strategy in STRATEGIES:
        name = capabilities.probe_task(strategy)
        argv = registry.python(settings, "webscheduler.host.probe:heartbeat", settings.home, name, str(seconds))
        rows[name] = new_task(now, {"enabled": True, "group": PROBE, "argv": argv, "strategy": strategy,
                                    "timeout": seconds + probes.MARGIN, "logOutput": True,
                                    "title": "Test of this host, removed when it ends"})

    for name, row in state.read(settings.home).items():
        if name in rows and not is_internal(name, row):
            raise BadInput(f"a task is named {name}, which is a name that the probe needs: rename it", "name")

    probes.stop(settings.home, now)
    state.update(settings.home, lambda tasks: tasks.update(rows))
    return [{"strategy": row["strategy"], "url": signing.trigger_url(base, row["slug"], row["secret"])}
            for row in rows.values()]


def collect(home: str, answers: dict[str, Answer], now: float) -> tuple[str, dict[str, Probe]] | None:
    """Store the results and remove the tasks: (kind of server, results by strategy); None while a job runs, and nothing
    of both where a tick did it. answers: of the calls, by strategy. Raises BadInput if none of the calls arrived,
    Unusable."""
    found = probes.collect(home, answers, now)

    if found and found[2] and not found[1]:
        answer = answers[found[2][0]]
        raise BadInput(f"{found[2][0]}: the call did not reach the scheduler: {url_check.seen(answer)}: "
                       f"{url_check.cause(answer)}")

    return found[:2] if found else None


def run(settings: Settings, base: str, seconds: int, clock: Callable[[], float],
        say: Callable[[str], object]) -> tuple[str, dict[str, Probe]]:
    """Make the calls from here: (kind of server, results by strategy). Raises BadInput if none arrived."""
    limit = 2 * seconds + probes.MARGIN
    answers: dict[str, Answer] = {}

    for call in start(settings, base, seconds, clock()):
        say(f"probe: {call['strategy']} is called")
        answers[call["strategy"]] = fetch(call["url"], limit)

    say(f"probe: the jobs run for {seconds} s")
    deadline = time.monotonic() + limit

    while (found := collect(settings.home, answers, clock())) is None:
        if time.monotonic() > deadline:
            raise BadInput("a job of the probe does not end: see `webscheduler status`")

        time.sleep(BEAT)

    if not found[0]:
        raise BadInput("a tick has stored the results of the probe: see `webscheduler doctor`")

    return found


def heartbeat(home: str, name: str, seconds: str) -> int:
    """The job: print the kind of server and the seconds so far, until the time is over or the supervisor is gone."""
    supervisor, begun = os.getppid(), time.monotonic()
    found = processes.live_runs(home, name)
    lived = 0.0

    while lived < int(seconds) and os.getppid() == supervisor:
        print((found and found[0].get("server")) or "-", f"{lived:.2f}", flush=True)
        time.sleep(min(BEAT, max(0.0, int(seconds) - lived)))
        lived = time.monotonic() - begun

    return 0 if lived >= int(seconds) else 1
