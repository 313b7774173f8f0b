"""Do the panel's calls arrive? Looks at an installation from outside, by calling its own URLs.

The rules: nothing is run, a call that nobody signed only shows that it
arrived; what came back instead is told with its likely cause and what to do.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit, urlunsplit

from ..errors import BadInput
from ..fetching import Answer, fetch
from ..store.settings import check_base_url
from .doctor import DUMMY_SLUG, ERROR, OK, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store.settings import Settings

LIMIT = 15.0
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
    return [*_arrives(base, answer), *(_served(base, settings.home) if answer.status else ())]


def _arrives(base: str, answer: Answer) -> Iterator[Finding]:
    if not _ours(answer) and _ours(fetch(f"{base}?task={DUMMY_SLUG}&sig={SIGNATURE}", LIMIT)):
        yield Finding(ERROR, "url",
                      "the server drops what follows {path} ({error}): give your panel ?task=SLUG&sig=SIG "
                                   "instead of /run/SLUG?sig=SIG", path=urlsplit(base).path or "/", error=seen(answer))
    elif not _ours(answer) or answer.status == 503:
        yield Finding(ERROR, "url", "calls of {base} do not arrive: {error}: {cause}", base=base, error=seen(answer),
                      cause=cause(answer))
    else:
        yield Finding(OK, "url", "{base} leads here in {n} s", base=base, n=f"{answer.seconds:g}")

        for agent in AGENTS:
            other = fetch(f"{base}/run/{DUMMY_SLUG}?sig={SIGNATURE}", LIMIT, {"User-Agent": agent})

            if not _ours(other):
                yield Finding(ERROR, "url", "calls by {agent} do not arrive ({error}): a firewall (ModSecurity, "
                                           "Cloudflare) blocks them; have your host allow the URL",
                              agent=agent.partition(" ")[0], error=seen(other))


def _ours(answer: Answer) -> bool:
    try:
        return bool(json.loads(answer.body) == {"accepted": False})
    except (ValueError, RecursionError):
        return False


def seen(answer: Answer) -> str:
    """What came back: what went wrong, or status, target of a redirect and the first line of text."""
    if not answer.status:
        return f"no answer, {answer.problem}" if answer.problem else "no answer"

    if answer.location:
        return f"HTTP {answer.status} to {answer.location[:100]}"

    text = re.sub("<[^<>]*>", "\n", answer.body.decode("latin-1")).strip().partition("\n")[0]
    return f"HTTP {answer.status}" + (f" {text[:80]!r}" if text else "")


def cause(answer: Answer) -> str:
    """Why that may be, and what to do: one of CAUSES."""
    if _ours(answer):
        return CAUSES["unavailable" if answer.status == 503 else "refusal"]

    if answer.location:
        return CAUSES["redirect"]

    shown = answer.body.startswith(b"#!") or b"import sys" in answer.body
    return CAUSES["script"] if shown else CAUSES.get(answer.status, CAUSES["other"])


def _served(base: str, home: str) -> Iterator[Finding]:
    """Ask for state.json wherever it might be, were a folder above the home served as the site's root."""
    parts = urlsplit(base)
    folders = os.path.join(home, "state.json").split("/")[1:]
    found = False

    for depth in range(2, min(len(folders), 6) + 1):
        url = urlunsplit((parts.scheme, parts.netloc, "/" + "/".join(folders[-depth:]), "", ""))
        answer = fetch(url, LIMIT)

        if answer.status == 200 and b'"slug"' in answer.body:
            found = True
            yield Finding(ERROR, "home", "the web hands out {url} with every secret: move the home out of the site, "
                                        "then `webscheduler rotate-secret` each task", url=url)

    if not found:
        yield Finding(OK, "home", "the web server does not hand it out")
