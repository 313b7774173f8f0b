"""Do the panel's calls arrive? Looks at an installation from outside, by calling its own URLs.

The rules: nothing is run, a call that nobody signed only shows that it
arrived; what came back instead is told with its likely cause and what to do.
"""

from __future__ import annotations

import json
import os
import re
import time
from urllib.parse import urlsplit, urlunsplit

from ..errors import BadInput
from ..store.settings import check_base_url
from .doctor import DUMMY_SLUG, ERROR, OK, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..store.settings import Settings

LIMIT = 15.0
LOOKED_AT = 4096  # bytes of an answer that are looked at
SIGNATURE = "0" * 64
# As panels call: Infomaniak, cPanel's and most examples use wget or curl; a service says its name.
AGENTS = ("Wget/1.21.3", "curl/7.88.1", "Mozilla/4.0 (compatible; cron-job.org; http://cron-job.org/abuse/)")
# What it may be, by HTTP status; by a word where the answer itself shows it.
CAUSES: dict[int | str, str] = {
    "redirect": "set baseUrl to the address that it redirects to, most panels follow no redirect",
    "script": "the script is shown instead of run: put it into the folder where your host runs scripts",
    "refusal": "a webscheduler answers there that does not know this task: does it have another home?",
    "unavailable": "the scheduler cannot work there: the server's error log says why, often another home, user or "
                   "Python than here",
    0: "is the address right, and its certificate valid?",
    401: "the server asks for a password: give the panel's call one, or free the URL from it",
    403: "a firewall or a rule forbids it, or the script is not executable: chmod 755 it, then ask your host",
    404: "there is nothing at this address: is baseUrl the URL of webscheduler.cgi, or of the application?",
    500: "the script does not start: is it executable, its first line right, and its lines ended by LF? See the "
         "server's error log",
    503: "the server, or a program behind it, is overloaded or stopped: try again, then ask your host",
    "other": "something else answers at this address: is baseUrl right?",
}


def examine(settings: Settings) -> list[Finding]:
    """All findings; one note where nobody said which URL leads here."""
    base = settings["baseUrl"]

    if not base:
        return [Finding(WARNING, "url",
                        "nobody said where it is reached: `webscheduler config set baseUrl URL`, then ask "
                                     "again")]

    try:
        check_base_url(base)
    except BadInput:
        return []  # `doctor` says so

    base = base.rstrip("/")
    answer = fetch(f"{base}/run/{DUMMY_SLUG}?sig={SIGNATURE}", LIMIT)
    return [*_arrives(base, answer), *(_served(base, settings.home) if answer["status"] else ())]


def _arrives(base: str, answer: dict[str, Any]) -> Iterator[Finding]:
    if not _ours(answer) and _ours(fetch(f"{base}?task={DUMMY_SLUG}&sig={SIGNATURE}", LIMIT)):
        yield Finding(ERROR, "url",
                      "the server drops what follows {path} ({error}): give your panel ?task=SLUG&sig=SIG "
                                   "instead of /run/SLUG?sig=SIG", path=urlsplit(base).path or "/", error=seen(answer))
    elif not _ours(answer) or answer["status"] == 503:
        yield Finding(ERROR, "url", "calls of {base} do not arrive: {error}: {cause}", base=base, error=seen(answer),
                      cause=cause(answer))
    else:
        yield Finding(OK, "url", "{base} leads here in {n} s", base=base, n=f"{answer['seconds']:g}")

        for agent in AGENTS:
            other = fetch(f"{base}/run/{DUMMY_SLUG}?sig={SIGNATURE}", LIMIT, agent)

            if not _ours(other):
                yield Finding(ERROR, "url", "calls by {agent} do not arrive ({error}): a firewall (ModSecurity, "
                                           "Cloudflare) blocks them; have your host allow the URL",
                              agent=agent.partition(" ")[0], error=seen(other))


def _ours(answer: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(answer.get("body", "")) == {"accepted": False})
    except (ValueError, RecursionError):
        return False


def seen(answer: dict[str, Any]) -> str:
    """What came back: what went wrong, or status, target of a redirect and the first line of text."""
    if not answer["status"]:
        return f"no answer, {answer['problem']}" if answer.get("problem") else "no answer"

    if answer.get("location"):
        return f"HTTP {answer['status']} to {answer['location'][:100]}"

    text = re.sub("<[^<>]*>", "\n", answer.get("body", "")).strip().partition("\n")[0]
    return f"HTTP {answer['status']}" + (f" {text[:80]!r}" if text else "")


def cause(answer: dict[str, Any]) -> str:
    """Why that may be, and what to do: one of CAUSES."""
    status, body = answer["status"], answer.get("body", "")

    if _ours(answer):
        return CAUSES["unavailable" if status == 503 else "refusal"]

    if answer.get("location"):
        return CAUSES["redirect"]

    return CAUSES["script"] if body.startswith("#!") or "import sys" in body else CAUSES.get(status, CAUSES["other"])


def _served(base: str, home: str) -> Iterator[Finding]:
    """Ask for state.json wherever it might be, were a folder above the home served as the site's root."""
    parts = urlsplit(base)
    folders = os.path.join(home, "state.json").split("/")[1:]
    found = False

    for depth in range(2, min(len(folders), 6) + 1):
        url = urlunsplit((parts.scheme, parts.netloc, "/" + "/".join(folders[-depth:]), "", ""))
        answer = fetch(url, LIMIT)

        if answer["status"] == 200 and '"slug"' in answer["body"]:
            found = True
            yield Finding(ERROR, "home", "the web hands out {url} with every secret: move the home out of the site, "
                                        "then `webscheduler rotate-secret` each task", url=url)

    if not found:
        yield Finding(OK, "home", "the web server does not hand it out")


def fetch(url: str, limit: float, agent: str = "webscheduler") -> dict[str, Any]:
    """Call a URL: `status` (0: no answer), `seconds` until the body was whole, `problem`, `location` of a redirect,
    and the first of the `body`. Redirects are not followed, as panels follow none."""
    import http.client
    import urllib.error
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    begun = time.monotonic()
    answer: dict[str, Any] = {"status": 0}
    body = b""

    try:
        request = urllib.request.Request(url, headers={"User-Agent": agent})  # noqa: S310 (the scheduler's own URL)

        with urllib.request.build_opener(Stay).open(request, timeout=limit) as response:
            answer["status"], body = response.status, response.read(LOOKED_AT)
    except urllib.error.HTTPError as error:
        with error:
            answer["status"], body = error.code, error.read(LOOKED_AT)
            answer.update({"location": error.headers["Location"]} if error.headers.get("Location") else {})
    except (OSError, ValueError, http.client.HTTPException) as error:
        answer["problem"] = str(getattr(error, "reason", None) or error)[:200]

    return {**answer, "seconds": round(time.monotonic() - begun, 3), "body": body.decode("latin-1")}
