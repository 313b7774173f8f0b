# SPDX-License-Identifier: LGPL-3.0-or-later
"""Starts a claimed run before the response, after it, or detached from it, by the first strategy that works here.

How each strategy works: `detach`; what servers do to it: docs/reference/servers.md; what survives on this host:
`store.capabilities`.
"""

from __future__ import annotations

from ..vocabulary import CLOSE, DUE, FORK, SYNC
from . import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Callable, Iterator, Result
    from ..store.index import Known
    from ..store.locks import Claim
    from ..store.lookup import View


class Started:
    """A run that was started. strategy: the one that is used; entry: how it ended, for sync; after:
    to be called once the response is sent (close)."""

    def __init__(self, strategy: str, entry: Result | None = None, after: Callable[[], object] | None = None) -> None:
        self.strategy, self.entry, self.after = strategy, entry, after


def start_run(home: str, claim: Claim, known: Known, view: View, in_process: bool, clock: Callable[[], float],
              server: str) -> Started:
    """Start a claimed run.

    known, view: the task, and what it was read from. in_process: this process has one thread and serves one request
    (CGI), so it may fork and supervise. server: the kind of server, as `request.server_kind` names it.
    """

    def job() -> Result:
        if in_process:
            import gc

            from . import supervisor  # not before the response, if the run is detached

            gc.enable()  # what the CGI script has turned off
            return supervisor.supervise(home, claim, clock)

        from . import spawned

        return spawned.supervise_elsewhere(home, claim, clock, view)

    try:
        for strategy in _order(home, known, view, server, clock()):
            claim.try_append({"strategy": strategy, "server": server})

            if strategy == FORK and _is_detached(home, claim, view, job if in_process else None):
                claim.close()
                return Started(FORK)

            if in_process:
                detach.note_signals(claim.descriptor)

            if strategy == CLOSE:
                return Started(CLOSE, after=job)

        return Started(SYNC, job())
    except BaseException:
        claim.close()  # a long-lived process must not keep the lock of a run that it could not start
        raise


def _is_detached(home: str, claim: Claim, view: View, job: Callable[[], object] | None) -> bool:
    """Detach a run, to do `job` or, without, to a new process. False if no process is to be had: if the next strategy
    gets none either, history says so."""
    try:
        if job:
            return detach.detach(job, [claim.descriptor, claim.lock])

        from .spawned import resume_argv, spawn

        spawn(resume_argv(home, view), claim)
        return True
    except OSError:
        return False


def _order(home: str, known: Known, view: View, server: str, now: float) -> Iterator[str]:
    """The strategies to try, the first one first."""
    if known.probe:
        yield from (known.strategy, SYNC)
        return

    until, packed = view.kinds.get(server, (0.0, ""))
    first = known.strategy in ("auto", FORK) and view.signed and not packed

    if first:
        yield FORK  # the index has nothing about this kind of server: it was never seen to end a detached run

    from ..store import capabilities

    expected = (capabilities.unpack(packed) if now < until else
                capabilities.expect(server, capabilities.read(home, server, now)))
    # A tick ends within its budget; the time limits are those of the tasks that it starts.
    limit = view.timeout if known.timeout < 0 or known.name == DUE else known.timeout
    yield from capabilities.order(expected, known.strategy, limit)[first:]
