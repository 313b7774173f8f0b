# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checks an installation from outside: do calls of its URLs arrive?

The rules: no task is run, since a call without a valid signature shows as well that it arrived. If something else
answers, the likely cause and what to do are said.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit, urlunsplit

from ..errors import BadInput
from ..fetching import Answer, fetch
from ..store.settings import check_base_url
from ..trigger import CHECK_SLUG
from .findings import ERROR, OK, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store.settings import Settings

LIMIT = 15.0
SIGNATURE = "0" * 64
# How panels call: Infomaniak, cPanel and most examples use wget or curl; a service says its name.
AGENTS = ("Wget/1.21.3", "curl/7.88.1", "Mozilla/4.0 (compatible; cron-job.org; http://cron-job.org/abuse/)")
# The likely cause: by HTTP status, or by a word if the answer itself shows it.
CAUSES: dict[int | str, str] = {
    "redirect": "set baseUrl to the address that it redirects to: most panels do not follow redirects",
    "script": "the server shows the script instead of running it: put it into the folder where your host runs scripts",
    "refusal": "the webscheduler there does not know this task: does it use another home?",
    "unavailable": "the scheduler cannot work there: the server's error log says why; often its home, user or Python "
                   "is not the one used here",
    0: "is the address right, and its certificate valid?",
    401: "the server asks for a password: add it to the panel's call, or allow this URL without one",
    403: "a firewall or a rule forbids it, or the script is not executable: chmod 755 it, then ask your host",
    404: "there is nothing at this address: is baseUrl the URL of webscheduler.cgi, or of the application?",
    500: "the script does not start: is it executable, is its first line right, and do its lines end with LF? See "
         "the server's error log",
    503: "the server, or a program behind it, is overloaded or stopped: try again, then ask your host",
    "other": "something else answers at this address: is baseUrl right?",
}


def examine(settings: Settings) -> list[Finding]:
    """All findings; a single warning if no URL is set."""
    base = settings["baseUrl"]

    if not base:
        return [Finding(WARNING, "url", "no address is set: `webscheduler config set baseUrl URL`, then try again")]

    try:
        check_base_url(base)
    except BadInput:
        return []  # `doctor` says so

    base = base.rstrip("/")
    answer = fetch(f"{base}/run/{CHECK_SLUG}?sig={SIGNATURE}", LIMIT)
    return [*_arrives(base, answer), *(_served(base, settings.home) if answer.status else ())]


def _arrives(base: str, answer: Answer) -> Iterator[Finding]:
    if not _ours(answer) and _ours(fetch(f"{base}?task={CHECK_SLUG}&sig={SIGNATURE}", LIMIT)):
        yield Finding(ERROR, "url", "the server removes what follows {path} ({error}): give your panel "
                      "?task=SLUG&sig=SIG instead of /run/SLUG?sig=SIG", path=urlsplit(base).path or "/",
                      error=seen(answer))
    elif not _ours(answer) or answer.status == 503:
        yield Finding(ERROR, "url", "calls of {base} do not arrive: {error}: {cause}", base=base, error=seen(answer),
                      cause=cause(answer))
    else:
        yield Finding(OK, "url", "calls of {base} arrive, in {n} s", base=base, n=f"{answer.seconds:g}")

        for agent in AGENTS:
            other = fetch(f"{base}/run/{CHECK_SLUG}?sig={SIGNATURE}", LIMIT, {"User-Agent": agent})

            if not _ours(other):
                yield Finding(ERROR, "url", "calls by {agent} do not arrive ({error}): a firewall (ModSecurity, "
                                           "Cloudflare) blocks them; ask your host to allow the URL",
                              agent=agent.partition(" ")[0], error=seen(other))


def _ours(answer: Answer) -> bool:
    try:
        return bool(json.loads(answer.body) == {"accepted": False})
    except (ValueError, RecursionError):
        return False


def seen(answer: Answer) -> str:
    """What came back: the problem, or the status with the target of a redirect or the first line of text."""
    if answer.problem or not answer.status:
        return f"no answer, {answer.problem}" if answer.problem else "no answer"

    if answer.location:
        return f"HTTP {answer.status} to {answer.location[:100]}"

    text = re.sub("<[^<>]*>", "\n", answer.body.decode("latin-1")).strip().partition("\n")[0]
    return f"HTTP {answer.status}" + (f" {text[:80]!r}" if text else "")


def cause(answer: Answer) -> str:
    """The likely cause and what to do: one of CAUSES."""
    if _ours(answer):
        return CAUSES["unavailable" if answer.status == 503 else "refusal"]

    if answer.location:
        return CAUSES["redirect"]

    shown = answer.body.startswith(b"#!") or b"import sys" in answer.body
    return CAUSES["script"] if shown else CAUSES.get(answer.status, CAUSES["other"])


def _served(base: str, home: str) -> Iterator[Finding]:
    """Ask for state.json at the URLs that it would have if a folder above the home were the root of the site."""
    parts = urlsplit(base)
    folders = os.path.join(home, "state.json").split("/")[1:]
    found = False

    for depth in range(2, min(len(folders), 6) + 1):
        url = urlunsplit((parts.scheme, parts.netloc, "/" + "/".join(folders[-depth:]), "", ""))
        answer = fetch(url, LIMIT)

        if answer.status == 200 and b'"slug"' in answer.body:
            found = True
            yield Finding(ERROR, "home", "the web server shows {url} with every secret: move the home out of the site, "
                                        "then `webscheduler rotate-secret NAME` for each task", url=url)

    if not found:
        yield Finding(OK, "home", "the web server does not show it")
