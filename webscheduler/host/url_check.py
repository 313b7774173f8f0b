# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checks an installation from outside: do calls of its URLs arrive, and does a web server show its home?

The rules: no task is run, since a call without a valid signature shows as well that it arrived. If something else
answers, the likely cause and what to do are said. Whether the home is shown is tried with a file that holds nothing but
chance. That it is not shown is believed only where calls arrive; else it is not known.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import time
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from ..errors import BadInput
from ..fetching import Answer, fetch
from ..store.files import remove, replace_file
from ..store.settings import Settings, check_base_url
from ..trigger import CHECK_SLUG
from .findings import ERROR, OK, WARNING, Finding

LIMIT = 15.0
QUICK = 5.0  # seconds for a call that looks for the home
PATIENCE = 30.0  # seconds for all of them
MARKER = "marker-"
CLOSED = (401, 403)
SIGNATURE = "0" * 64
# How panels call: Infomaniak, cPanel and most examples use wget or curl; a service says its name.
AGENTS = ("Wget/1.21.3", "curl/7.88.1", "Mozilla/4.0 (compatible; cron-job.org; http://cron-job.org/abuse/)")
# By HTTP status, or by a word: what the caller sees (`seen`), and the likely cause with what to do (`cause`). The docs
# list the same, with why a script does not start (`starts`).
CAUSES: dict[str, dict[str, str]] = json.loads(pkgutil.get_data(__name__, "causes.json") or b"")["causes"]
# Other ways to call, where the usual one does not arrive: of CAUSES, what follows the address, headers, what to POST.
WAYS: tuple[tuple[str, str, dict[str, str], bytes | None], ...] = (
    ("path", f"?task={CHECK_SLUG}&sig={SIGNATURE}", {}, None),
    ("header", f"/run/{CHECK_SLUG}", {"X-Webscheduler-Signature": SIGNATURE}, None),
    ("post", f"/run/{CHECK_SLUG}", {}, f"sig={SIGNATURE}".encode()),
)


def examine(settings: Settings) -> list[Finding]:
    """All findings; a single warning if no URL is set."""
    base = settings["baseUrl"]

    if not base:
        return [Finding(WARNING, "url", "no address is set, so it is not known whether a web server shows the home: "
                        "`webscheduler config set baseUrl URL`, then try again")]

    try:
        check_base_url(base)
    except BadInput:
        return []  # `doctor` says so

    base = base.rstrip("/")
    answer, way = _try(base, LIMIT)
    return [*_arrives(base, answer, way), _looked(settings.home, base, answer, way)]


def _try(base: str, limit: float) -> tuple[Answer, str]:
    """What answers a call; if that is not us, in which of WAYS a call would arrive, empty for none."""
    answer = fetch(f"{base}/run/{CHECK_SLUG}?sig={SIGNATURE}", limit)
    ways = () if _ours(answer) or not answer.status else WAYS
    return answer, next((way for way, rest, headers, data in ways
                         if _ours(fetch(base + rest, limit, headers, data))), "")


def _arrives(base: str, answer: Answer, way: str) -> Iterator[Finding]:
    if way:
        yield Finding(ERROR, "url", "calls of {base}/run/… do not arrive, but others do ({error}): {cause}", base=base,
                      error=seen(answer), cause=CAUSES[way]["cause"])
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

        silent = fetch(f"{base}/run/{CHECK_SLUG}?sig={SIGNATURE}", LIMIT, {"User-Agent": ""})

        if not _ours(silent):
            yield Finding(WARNING, "url", "calls without a user agent do not arrive ({error}): if your panel sends "
                          "none, ask your host to allow the URL", error=seen(silent))


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
    shown = answer.body.startswith(b"#!") or b"import sys" in answer.body
    found = "script" if shown else str(answer.status) if str(answer.status) in CAUSES else "other"

    if _ours(answer):
        found = "unavailable" if answer.status == 503 else "refusal"
    elif answer.location:
        found = "redirect"

    return CAUSES[found]["cause"]


def look(home: str, base: str | None) -> Finding:
    """Whether a web server shows the home, about `home`: ERROR if it does, OK if not, WARNING if that is not known.
    base: the setting `baseUrl`. The home may still be empty. Takes up to a minute where nothing answers in time."""
    base = (base or "").rstrip("/")

    if not base:
        return Finding(WARNING, "home", "whether a web server shows it is not known, since no address is set: "
                                        "`webscheduler config set baseUrl URL`, then `webscheduler doctor`")

    return _looked(home, base, *_try(base, QUICK))


def _looked(home: str, base: str, answer: Answer, way: str) -> Finding:
    """The same, after `_try`."""
    name, content = f"{MARKER}{os.urandom(8).hex()}.tmp.txt", os.urandom(32).hex()
    file, deadline = os.path.join(home, name), time.monotonic() + PATIENCE

    try:
        replace_file(file, content.encode(), sync="none")  # with the mode that secrets have

        for place, beside in _places(home, base) if answer.status else ():
            found = fetch(f"{place}/{name}", QUICK, follow=True)

            if content.encode() in found.body:
                return Finding(ERROR, "home", "the web server shows {url} with every secret: move the home out of the "
                               "site, then `webscheduler rotate-secret NAME` for each task", url=place)

            # Of a directory that is there, and that a server may not open, it says another thing than of none.
            if found.status in CLOSED and fetch(
                    f"{beside}{content}/{name}", QUICK, follow=True).status not in (0, *CLOSED):
                return Finding(ERROR, "home", "the home is in the site, at {url}, where only its mode keeps the web "
                               "server from showing it: move it out of the site", url=place)

            if not found.status or time.monotonic() > deadline:
                answer = Answer(problem=found.problem or f"no whole answer within {PATIENCE:g} s, its time limit")
                way = ""
                break
    except OSError as error:
        answer, way = Answer(problem=f"{name}: {error.strerror}"), ""
    finally:
        remove(file)

    if not (way or _ours(answer)):
        return Finding(WARNING, "home", "whether a web server shows it is not known, since calls of {base} do not "
                                        "arrive: {error}", base=base, error=seen(answer))

    return Finding(OK, "home", "the web server does not show it")


def _places(home: str, base: str) -> Iterator[tuple[str, str]]:
    """The URLs that the home may have: it, or a directory above it, may be what a server shows at its root or at a
    directory in the address, like that of a user (`/~name`). With each, where a directory that is not there begins."""
    parts = urlsplit(base)
    steps = [step for step in parts.path.split("/") if step]
    steps = steps[:-1] if steps and "." in steps[-1] else steps  # the script itself
    known = set()

    for path in (os.path.normpath(home), os.path.realpath(home)):
        names = [quote(os.fsencode(name)) for name in path.split("/") if name]

        for depth in range(len(names) + 1):
            for top in range(len(steps) + 1):
                above = f"{parts.scheme}://{parts.netloc}" + "".join(f"/{step}" for step in steps[:top])
                place = "/".join((above, *names[len(names) - depth:]))

                if place not in known:
                    known.add(place)
                    yield place, f"{place}-" if depth else f"{place}/"
