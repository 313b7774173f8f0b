# SPDX-License-Identifier: LGPL-3.0-or-later
"""The WSGI door (PEP 3333).

The rule: a server may run the application in many processes, threads or sub-interpreters. So it never forks and starts
no thread, and keeps only what it read from files, while they are unchanged. A run that is not detached is awaited in
the call (`sync`) or in the response's close() (`close`).
No `Connection` header is sent: PEP 3333 forbids hop-by-hop headers to applications, and some servers refuse them.
"""

from __future__ import annotations

import time

from . import addresses, pasted, status, trigger
from .commands import registry
from .errors import foreseen
from .http import Request, log
from .runs import admission, dead_runs, health, spawned, strategies
from .runs.detach import AfterResponse
from .store import chains, lookup, marks, old_secret, refusals
from .store.settings import find_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Callable, Optional

    from .store.lookup import View

    Environ = dict[str, Any]
    StartResponse = Callable[..., object]
    Application = Callable[[Environ, StartResponse], Iterable[bytes]]
    User = Optional[Callable[[Environ], Any]]

# All that a trigger may need, at once: a worker lives on when the package is replaced, and a run that is claimed is
# not to end at an import.
LOADED = (addresses, pasted, status, admission, dead_runs, health, chains, lookup, marks, old_secret, refusals,
          registry, spawned, strategies)


def create_app(home: str | None = None, user: User = None, clock: Callable[[], float] = time.time) -> Application:
    """A WSGI application (PEP 3333) for the installation at `home`; without it, at WEBSCHEDULER_HOME as it is at each
    call. It raises nothing: an installation that cannot work is answered 503.

    user: a function of the WSGI environ that tells the panel who is signed in at the site that embeds it, as {"name":
    text, "role": "viewer", "editor" or "owner"}, or None. clock: what tells Unix seconds.
    """

    kept: dict[str, View] = {}

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        def report(line: str) -> None:
            log(environ.get("wsgi.errors"), line)

        try:
            request = Request(environ)

            if request.kind in ("admin", ""):
                from .admin import answer

                reply = answer(environ, home, user, clock)
            elif request.kind == "api":
                from .http_api import answer as answer_api

                reply = answer_api(environ, home or find_home(), clock)
            else:
                reply = trigger.answer(request, home or find_home(), False, clock, report, kept)
        except Exception as error:  # as the CGI door does: what embeds us is not to show a page of its own
            report(foreseen(error) or f"webscheduler: {type(error).__name__}: {error}")
            reply = trigger.unavailable()

        start_response(reply.line, reply.all_headers())

        if reply.after:
            return AfterResponse(reply.body, reply.after, report)

        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else reply.body]

    return application


application = create_app()
