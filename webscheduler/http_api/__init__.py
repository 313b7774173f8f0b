# SPDX-License-Identifier: LGPL-3.0-or-later
"""The API: JSON for programs at /api/v1, of the same rules and roles as the panel.

    answer(environ, home, clock)    the response to a request of kind "api" (`http.Request`), for the doors

The rules: it is loaded only for requests below /api, and the module of a route only with the route. Until there is a
key, the answer is that of any unknown path. `table` says what routes there are, who may use each, and what it takes and
answers; `openapi` shows that table. Nothing is read of a body before its sender's role is known.
Each error is a problem document (RFC 9457), which names the field that is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..addresses import address, by_https, client
from ..errors import BadInput, Busy, Conflict, NoSuchTask, Stale, WebschedulerError, foreseen
from ..http import NOSNIFF, NOT_FOUND, Response, log
from ..store import keys, throttle
from ..store.settings import Settings, load_settings
from . import table
from .table import Problem

Environ = dict[str, Any]

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED")
BUSY_SECONDS = "5"
STATUSES: dict[type[BadInput], int] = {NoSuchTask: 404, Conflict: 409, Stale: 412}


def answer(environ: Environ, home: str, clock: Callable[[], float] = time.time, in_process: bool = False) -> Response:
    """The response to a request for the API of the installation at `home`. in_process: see `trigger.answer`."""
    try:
        if not keys.exists(home):
            return Response(NOT_FOUND, 404)

        settings = load_settings(home)
    except (WebschedulerError, OSError) as error:
        return _unavailable(environ, home, error).response()

    try:
        response = _preflight(environ, settings) or _answer(environ, settings, clock, in_process)
    except Problem as problem:
        response = problem.response()
    except BadInput as error:
        status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 400)
        response = Problem(status, str(error), error.field).response()
    except (WebschedulerError, OSError) as error:
        response = _unavailable(environ, home, error).response()

    if len(response.body) > table.MAX_ANSWER:
        response = Problem(503, "the answer is longer than 1 MiB").response()

    response.headers += _cors(environ, settings)
    return response


def _unavailable(environ: Environ, home: str, error: Exception) -> Problem:
    log(environ.get("wsgi.errors"), foreseen(error, home))
    text = str(error) if isinstance(error, Busy) else "the installation cannot work: the server's error log says why"
    return Problem(503, text, **({"Retry_After": BUSY_SECONDS} if isinstance(error, Busy) else {}))


def _answer(environ: Environ, settings: Settings, clock: Callable[[], float], in_process: bool) -> Response:
    now, proxies = clock(), settings["trustedProxies"]
    peer = client(str(environ.get("REMOTE_ADDR", "")), str(environ.get("HTTP_X_FORWARDED_FOR", "")), proxies)

    if not (by_https(environ, proxies) or settings["apiOverHttp"] or _is_local(environ)):
        raise Problem(403, "the API is for https alone, since a key that is sent over http can be read on its way")

    given = _key(environ)
    person = keys.verify(settings.home, given, peer, now)

    if person is None:
        _refuse(settings.home, peer, now, wrong=bool(given))

    return table.dispatch(table.Call(environ, settings, person, peer, now, clock, in_process))


def _is_local(environ: Environ) -> bool:
    """Whether the request comes from this machine itself, and was not passed on by a server on it."""
    found = address(str(environ.get("REMOTE_ADDR", "")))
    return found is not None and found.is_loopback and not any(environ.get(name) for name in FORWARDED)


def _key(environ: Environ) -> str:
    """The key of the request; empty for none, or two that differ. (CGI under Apache gets no Authorization.)"""
    scheme, _, bearer = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    given = {str(environ.get("HTTP_X_WEBSCHEDULER_KEY", "")).strip(),
             bearer.strip() if scheme.lower() == "bearer" else ""} - {""}
    return given.pop() if len(given) == 1 else ""


def _refuse(home: str, peer: str, now: float, wrong: bool) -> NoReturn:
    """Refuse a request without a valid key, and count a wrong one."""
    wait = throttle.failed(home, now, peer) if wrong else 0

    if wait:
        raise Problem(429, "there were too many wrong keys: wait", Retry_After=str(wait))

    raise Problem(401, "give a valid key as `Authorization: Bearer KEY` or `X-Webscheduler-Key: KEY`",
                  WWW_Authenticate="Bearer")


def _cors(environ: Environ, settings: Settings) -> list[tuple[str, str]]:
    """The headers that let pages of the origins in the settings read the answer (Fetch, "CORS protocol")."""
    origins, origin = settings["apiOrigins"], str(environ.get("HTTP_ORIGIN", ""))
    found = [("Access-Control-Allow-Origin", origin),
             ("Access-Control-Expose-Headers", "ETag, Link, Location, Retry-After")]
    return [*(("Vary", "Origin") for _ in origins[:1]), *(found if origin in origins else [])]


def _preflight(environ: Environ, settings: Settings) -> Response | None:
    """The answer to a browser that asks whether a page may call; it sends no key (Fetch, "CORS-preflight request")."""
    if environ.get("REQUEST_METHOD") != "OPTIONS" or not environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD") or (
            environ.get("HTTP_ORIGIN") not in (settings["apiOrigins"])):
        return None

    return Response(b"", 204, headers=[NOSNIFF, ("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE"), (
        "Access-Control-Allow-Headers", "Authorization, X-Webscheduler-Key, Content-Type, If-Match")])
