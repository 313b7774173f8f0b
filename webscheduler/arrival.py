"""Do the panel's calls arrive? Looks at an installation from outside, by calling its own URLs.

Imports `doctor` for its findings, `probe` for the call, and files. The rules: nothing is run, a call that nobody
signed only shows that it arrived; what came back instead is told with its likely cause and what to do.
"""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit, urlunsplit

from .doctor import MEND, NOBODY, NOTE, OK, Finding
from .probe import fetch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .config import Config

LIMIT = 15.0
NO_ANSWER = "no answer"
SIGNATURE = "0" * 64
# As panels call: Infomaniak, cPanel's and most examples use wget or curl; a service says its name.
AGENTS = ("Wget/1.21.3", "curl/7.88.1", "Mozilla/4.0 (compatible; cron-job.org; http://cron-job.org/abuse/)")


def examine(settings: Config) -> list[Finding]:
    """All findings; one note where nobody said which URL leads here."""
    base = settings["baseUrl"]

    if not base:
        return [Finding(NOTE, "url", "nobody said where it is reached: `webscheduler config set baseUrl URL`, then ask "
                                     "again")]

    found = list(_arrives(base))
    return found if NO_ANSWER in found[0].text else [*found, *_served(base, settings.home)]


def _arrives(base: str) -> Iterator[Finding]:
    path = f"{base.rstrip('/')}/run/{NOBODY}?sig={SIGNATURE}"
    answer = fetch(path, LIMIT)

    if not _ours(answer):
        query = fetch(f"{base.rstrip('/')}?task={NOBODY}&sig={SIGNATURE}", LIMIT)

        if _ours(query):
            yield Finding(MEND, "url", f"the server drops what follows {urlsplit(base).path or '/'} ({_said(answer)}): "
                                       "give your panel ?task=SLUG&sig=SIG instead of /run/SLUG?sig=SIG")
        else:
            yield Finding(MEND, "url", f"{base} does not lead here: {_said(answer)}: {_cause(answer)}")

        return

    if answer["status"] == 503:
        yield Finding(MEND, "url", "the server runs it, but it cannot work there (503): the server's error log says "
                                   "why, often another home, user or Python than here")
        return

    yield Finding(OK, "url", f"{base} leads here in {answer['seconds']:g} s")

    for agent in AGENTS:
        other = fetch(path, LIMIT, agent)

        if not _ours(other):
            yield Finding(MEND, "url", f"calls by {agent.partition(' ')[0]} do not arrive ({_said(other)}): a firewall "
                                       "(ModSecurity, Cloudflare) blocks them; have your host allow the URL")


def _ours(answer: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(answer["body"]) == {"accepted": False})
    except ValueError:
        return False


def _said(answer: dict[str, Any]) -> str:
    if not answer["status"]:
        return f"{NO_ANSWER}, {answer.get('problem', 'none')}"

    return f"HTTP {answer['status']}" + (f" to {answer['location'][:100]}" if answer.get("location") else "")


def _cause(answer: dict[str, Any]) -> str:
    status, body = answer["status"], answer["body"]

    if answer.get("location"):
        return "set baseUrl to the address that it redirects to, most panels follow no redirect"

    if body.startswith("#!") or "import sys" in body:
        return "the script is shown instead of run: put it into the folder where your host runs scripts"

    causes = {
        0: "is the address right, and its certificate valid?",
        401: "the server asks for a password: give the panel's call one, or free the URL from it",
        403: "a firewall or a rule forbids it, or the script is not executable: chmod 755 it, then ask your host",
        404: "there is nothing at this address: is baseUrl the URL of webscheduler.cgi, or of the application?",
        500: "the script does not start: is it executable, its first line right, and its lines ended by LF? See the "
             "server's error log",
        503: "the server, or a program behind it, is overloaded or stopped: try again, then ask your host",
    }
    return causes.get(status, "something else answers at this address: is baseUrl right?")


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
            yield Finding(MEND, "home", f"the web hands out {url} with every secret: move the home out of the site, "
                                        "then `webscheduler rotate-secret` each task")

    if not found:
        yield Finding(OK, "home", "the web server does not hand it out")
