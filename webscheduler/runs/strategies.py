"""Starts a claimed run before the response, after it, or detached from it, by the first strategy that works here.

What each strategy is, and what servers do to it: `detach` and docs/reference/servers.md. What each one carries here is
known from `store.capabilities`.
"""

from __future__ import annotations

from ..vocabulary import DUE
from . import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable

    from ..store.index import Known
    from ..store.locks import Claim
    from ..store.lookup import View


class Started:
    """A run that was started. strategy: the one that was used; entry: its line of history if it is over (sync); after:
    what the door calls once the response is out (close)."""

    __slots__ = ("after", "entry", "strategy")

    def __init__(
        self, strategy: str, entry: dict[str, Any] | None = None, after: Callable[[], object] | None = None
    ) -> None:
        self.strategy, self.entry, self.after = strategy, entry, after


def start_run(
    home: str, claim: Claim, known: Known, view: View, in_process: bool, clock: Callable[[], float], server: str
) -> Started:
    """Start a claimed run.

    known, view: the task, and what it was read with. in_process: this process has one thread and serves one request
    (CGI), so it may fork and supervise. server: the kind of server, as `request.server_kind` names it.
    """

    def job() -> dict[str, Any]:
        from . import supervisor  # after the response, where the run is detached

        return (supervisor.supervise if in_process else supervisor.supervise_elsewhere)(home, claim, clock)

    try:
        for strategy in _order(home, known, view, server, clock()):
            claim.append({"strategy": strategy, "server": server})

            if strategy == "close":
                return Started("close", after=job)

            if strategy == "fork":
                try:
                    if in_process:
                        stands = detach.detach(job, [claim.descriptor])
                    else:
                        from .supervisor import resume_argv

                        detach.spawn(resume_argv(home, claim), [claim.descriptor])
                        stands = True
                except OSError:
                    stands = False  # no process to be had: the next strategy says so in history, if it has none either

                if stands:
                    claim.close()
                    return Started("fork")

        return Started("sync", job())
    except BaseException:
        claim.close()  # a long-lived process must not keep locked what it could not start
        raise


def _order(home: str, known: Known, view: View, server: str, now: float) -> Iterator[str]:
    """The strategies to try, the first first."""
    if known.probe:
        yield from (known.strategy, "sync")
        return

    until, packed = view.kinds.get(server, (0.0, ""))
    first = known.strategy in ("auto", "fork") and view.signed and not packed

    if first:
        yield "fork"  # an index that knows nothing of this kind of server: nobody has seen it end a detached run

    from ..store import capabilities

    expected = (capabilities.unpack(packed) if now < until else
                capabilities.expect(server, capabilities.read(home, server, now)))
    # A tick itself ends within its budget; what it starts has the time limits of the tasks.
    limit = view.timeout if known.timeout < 0 or known.name == DUE else known.timeout
    yield from capabilities.order(expected, known.strategy, limit)[first:]
