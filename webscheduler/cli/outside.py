# SPDX-License-Identifier: LGPL-3.0-or-later
"""`doctor` for an installation elsewhere: what can be seen of it from outside, by its API.

The rule: what an answer says is a value of a finding, never a part of its message.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from .. import __version__
from ..errors import WebschedulerError
from ..host.findings import ERROR, OK, WARNING, Finding
from ..remote import client
from ..remote.sites import Site, shown
from ..times import format_time, instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .elsewhere import Elsewhere

SLOW = 3.0  # seconds for an answer
CLOCKS = 30.0  # seconds by which two clocks may differ
CERTIFICATE = 14 * 86400.0  # seconds that a certificate should still be valid


def examine(place: Elsewhere) -> Iterator[Finding]:
    """All findings, one after the other."""
    known = place.site
    site = Site(known.name, known.url, known.key)  # how it can be called is found out anew
    yield from _certificate(site)

    try:
        client.connect(site)
        begun = time.time()
        about, took = client.connect(site), time.time() - begun
    except WebschedulerError as error:
        yield Finding(ERROR, "api", "{error}", error=error)
        return

    yield Finding(WARNING if took > SLOW else OK, "api", "{url} answers in {n} s", url=shown(site.url), n=f"{took:.2f}")
    yield Finding(OK, "api", "calls put the path {where}", where="after the URL" if not site.by_query else
                  "into the query (`?api=`), since it does not arrive after the script")
    apart = instant(about["time"]) - (begun + took / 2)

    off = abs(apart) > CLOCKS + took
    yield Finding(WARNING if off else OK, "clock", "the clock there is {n} s {way} the one here" if off else
                  "the clocks there and here agree", n=f"{abs(apart):.0f}", way="ahead of" if apart > 0 else "behind")
    yield Finding(OK if about["version"] == __version__ else WARNING, "version", "{there} there, {here} here",
                  there=about["version"], here=__version__)
    yield Finding(OK, "key", "{name} has the role {role}", name=about["key"], role=about["role"])
    place.site = site
    yield from _health(place)


def _certificate(site: Site) -> Iterator[Finding]:
    """Until when the server's certificate is valid; nothing where that cannot be seen, as through a proxy."""
    import socket
    import ssl
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(site.url)
    host = parts.hostname or ""

    if parts.scheme != "https":
        yield from (Finding(WARNING, "tls", "{text}", text=text) for text in [client.warning(site)] if text)
        return

    if "https" in getproxies() and not proxy_bypass(host):
        return

    try:
        with socket.create_connection((host, parts.port or 443), client.LIMIT) as plain, (
                ssl.create_default_context().wrap_socket(plain, server_hostname=host)) as secure:
            found = secure.getpeercert() or {}
    except (OSError, ValueError):
        return  # the call says it, too

    until = ssl.cert_time_to_seconds(str(found["notAfter"])) if "notAfter" in found else 0.0

    if until:
        state = WARNING if until - time.time() < CERTIFICATE else OK
        yield Finding(state, "tls", "its certificate is valid until {until}", until=format_time(until))


def _health(place: Elsewhere) -> Iterator[Finding]:
    try:
        report = place.report()
    except WebschedulerError as error:
        yield Finding(ERROR, "tasks", "{error}", error=error)
        return

    for each in report["unhealthy"]:
        yield Finding(ERROR, "tasks", "{name} is {status}", name=each["name"], status=each["status"])

    if not report["unhealthy"]:
        yield Finding(OK, "tasks", "{n} tasks, none is failing or late", n=report["tasks"])

    for text in report["warnings"]:
        yield Finding(ERROR if text in report["errors"] else WARNING, "tasks", "{text}", text=text)

    last = report["lastTickAt"]

    if last is not None and not any(last in text for text in report["warnings"]):  # else that says what is wrong
        yield Finding(OK, "ticks", "@due was last called {when}", when=last)
