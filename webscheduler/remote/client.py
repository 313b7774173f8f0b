# SPDX-License-Identifier: LGPL-3.0-or-later
"""Calls the API of an installation elsewhere.

The rules: a key goes to the host of its site alone: a redirect to another host, or away from https, is refused. An
answer has a time limit and a greatest length, must be JSON where that is asked for, and is checked to be what it should
be before anybody reads it: whatever a server answers, it is a result or one sentence.
"""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..errors import BadInput, Conflict, Stale, WebschedulerError
from ..fetching import Answer, fetch
from ..printable import escaped
from ..store.fields import parse_json
from .sites import Site, shown

LIMIT = 10.0  # seconds for a call
MOST = 4 * 1024 * 1024  # bytes of an answer, which should have at most one MiB
MOST_REDIRECTS = 3
MOST_PAGES = 500
JSON = ("application/json", "application/problem+json")
NO_PATH = "there is no such path"  # how the API begins to say that it does not know one
LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")
ABOUT = {"version": str, "api": int, "key": str, "role": str, "time": str}
# What is to be done about a status, after what the answer says of it.
CURES = {
    401: "`webscheduler site add NAME URL` takes another key",
    403: "`webscheduler api-key add` on that host makes another key",
}


class Refused(WebschedulerError):
    """The call did not do what was asked. status: of HTTP, 0 if none came; ours: whether webscheduler answered."""

    def __init__(self, message: str, status: int = 0, ours: bool = False) -> None:
        super().__init__(message)
        self.status, self.ours = status, ours


def ask(site: Site, method: str, *path: str, query: dict[str, Any] | None = None, body: Any = None,
        limit: float = LIMIT, stamp: str = "") -> Answer:
    """The answer, which may say no. path: below /api/v1, not encoded. body: what is sent as JSON, or bytes that are.
    stamp: what is changed must have it. Raises Refused if none came, or a redirect that is not followed."""
    # Servers refuse an encoded slash in a path, and with a plain one the task `a/run` is what runs `a`. In a query each
    # segment is encoded twice, and none is special.
    by_query = site.by_query or any("/" in each for each in path)
    segments = ["v1", *(quote(each, "" if by_query else "/") for each in path)]
    given = [(name, value) for name, value in (query or {}).items() if value is not None]

    if by_query:
        url = f"{site.url}?{urlencode([('api', '/'.join(segments)), *given], doseq=True)}"
    else:
        url = f"{site.url}/api/{'/'.join(segments)}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    # The key goes into both headers, since some servers keep the one to themselves, and to find out would take a second
    # try of a wrong key. With a user in the URL, Authorization is for the server.
    headers = {"Accept": ", ".join(JSON), "X-Webscheduler-Key": site.key, **({"If-Match": stamp} if stamp else {}),
               **({} if "@" in urlsplit(site.url).netloc else {"Authorization": f"Bearer {site.key}"})}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()

    if data is not None:
        headers["Content-Type"] = "application/json"

    for _ in range(MOST_REDIRECTS + 1):
        answer = fetch(url, limit, headers, data, most=MOST, method=method)

        if answer.problem:
            raise Refused(f"{site.name}: {shown(site.url)} does not answer: {answer.problem}", answer.status)

        if not answer.location:
            return answer

        _check_redirect(site, method, url, answer.location)
        url = answer.location

    raise Refused(f"{site.name}: {shown(site.url)} leads from one redirect to the next")


def _check_redirect(site: Site, method: str, url: str, target: str) -> None:
    """Raises Refused unless the target is on the same host, as safe, and the call one that may be made again."""
    old, new = urlsplit(url), urlsplit(target)
    upgraded = (old.scheme, new.scheme) == ("http", "https")

    if new.scheme != old.scheme and not upgraded:
        problem = "which is not https, so the key was not sent there"
    elif new.hostname != old.hostname or (new.netloc.rpartition("@")[2] != old.netloc.rpartition("@")[2]
                                          and not upgraded):
        problem = "another host, so the key was not sent there"
    elif method != "GET":
        problem = "and only reading follows redirects"
    else:
        return

    place = escaped(target.partition("?")[0][:200], one_line=True)
    raise Refused(f"{site.name}: {shown(site.url)} leads to {place}, {problem}: if that is right, `webscheduler site "
                  "add` it with that URL")


def check_length(site: Site, answer: Answer) -> None:
    """Raises Refused for an answer of which the end is not there."""
    if answer.length > MOST:
        raise Refused(f"{site.name}: its answer is longer than {MOST // 1024 ** 2} MiB", answer.status)


def read(site: Site, answer: Answer) -> Any:
    """What an answer says. Raises BadInput for what the API refuses as such, else Refused."""
    check_length(site, answer)

    if answer.status == 204:
        return None

    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()

    try:
        document = parse_json(answer.body.decode()) if kind in JSON else None
    except ValueError as error:
        raise Refused(f"{site.name}: its answer (HTTP {answer.status}) is no JSON: {str(error)[:100]}", answer.status)

    if answer.status == 404 and document == {"found": False}:
        raise Refused(f"{site.name}: {shown(site.url)} has no API: it is an installation of 0.1.0, or has no key yet: "
                      "`webscheduler api-key add` on that host makes one", 404, True)

    if 200 <= answer.status < 300 and document is not None:
        return document

    if isinstance(document, dict) and isinstance(document.get("detail"), str) and document.get("status") == (
            answer.status):
        raise _problem(site, answer, document)

    text = re.sub("<[^<>]*>", "\n", answer.body[:4096].decode("utf-8", "replace")).strip().partition("\n")[0]
    raise Refused(f"{site.name}: {shown(site.url)} answers HTTP {answer.status}" + (f" {text[:80]!r}" if text else "")
                  + ", which is not from webscheduler: is the URL right, and does the server let /api through?",
                  answer.status)


def _problem(site: Site, answer: Answer, document: dict[str, Any]) -> WebschedulerError:
    """A problem document (RFC 9457) as the error to raise."""
    detail, status, field = escaped(document["detail"][:500], one_line=True), answer.status, document.get("field")

    if status == 405 or (status == 404 and detail.startswith(NO_PATH)):
        return Refused(f"{site.name}: its version of webscheduler cannot do this ({detail})", status, True)

    if status in (400, 404, 409, 412):
        kind = {409: Conflict, 412: Stale}.get(status, BadInput)
        return kind(detail, field if isinstance(field, str) else "")

    if status == 401:
        detail = "the key is not accepted: it is wrong, has ended or was revoked"

    wait = answer.headers.get("retry-after", "")
    cure = f"try again in {wait} s" if wait.isascii() and wait.isdigit() else CURES.get(status, "")
    return Refused(f"{site.name}: {detail}" + (f": {cure}" if cure else ""), status, True)


def shaped(site: Site, value: Any, like: Any) -> Any:
    """The value, if it is like that: a type, or a tuple of types; [like] for a list; {name: like} for an object that
    has these names. Raises Refused."""
    if not _is_like(value, like):
        raise Refused(f"{site.name}: its answer is not what this version knows: is it another version of webscheduler?")

    return value


def _is_like(value: Any, like: Any) -> bool:
    if isinstance(like, list):
        return isinstance(value, list) and all(_is_like(each, like[0]) for each in value)

    if isinstance(like, dict):
        return isinstance(value, dict) and all(name in value and _is_like(value[name], rule)
                                               for name, rule in like.items())

    return isinstance(value, like)


def pages(site: Site, path: str, like: dict[str, Any], more: str = "after", most: float = math.inf,
          end: float = math.inf, **query: Any) -> dict[str, Any]:
    """A document that comes in parts, with its lists joined, until one has `most` rows. like: see `shaped`; more: the
    query's field that takes where the next part begins; end: of `time.monotonic`, by which all must have come. Raises
    BadInput, Refused."""
    lists: dict[str, list[Any]] = {name: [] for name, rule in like.items() if isinstance(rule, list)}

    for _ in range(MOST_PAGES):
        limit = min(LIMIT, max(0.1, end - time.monotonic()))
        answer = ask(site, "GET", path, query=query, limit=limit)
        part: dict[str, Any] = shaped(site, read(site, answer), {**like, "next": (str, type(None))})

        for name, rows in lists.items():
            rows += part[name]

        if part["next"] is None or max(map(len, lists.values())) >= most:
            return {name: lists.get(name, value) for name, value in part.items() if name != "next"}

        if part["next"] == query.get(more):
            break

        query[more] = part["next"]

    raise Refused(f"{site.name}: its list of {path} does not end")


def connect(site: Site, limit: float = LIMIT) -> dict[str, Any]:
    """What the installation says of itself, within `limit` seconds in all. Finds out how it can be called, unless that
    is known. Raises Refused."""
    problem: Refused | None = None
    end = time.monotonic() + limit

    for by_query in [False, True] if site.by_query is None else [site.by_query]:
        site.by_query = by_query

        try:
            about: dict[str, Any] = shaped(site, read(site, ask(site, "GET", limit=end - time.monotonic())), ABOUT)
        except Refused as error:
            problem = error if problem is None or (error.ours and not problem.ours) else problem
            site.by_query = None

            if error.status == 0 or (error.ours and error.status != 404) or time.monotonic() >= end:
                break
        else:
            zone = about.get("timezone")
            site.timezone = zone if isinstance(zone, str) else None
            return about

    assert problem
    raise problem


def warning(site: Site) -> str:
    """What to say of a URL whose calls anybody on the way can read; empty for others."""
    parts = urlsplit(site.url)
    return "" if parts.scheme == "https" or LOOPBACK.fullmatch(parts.hostname or "") else (
        f"{shown(site.url)} is not https: whoever is on the way can read the key")
