# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sessions, the tokens of forms, and limits on sign-ins.

The rules: cookies are signed with session.key, with another salt for each purpose. The session of a person is also
stored in users.json, so that after signing out no copy of the cookie works. A session ends after IDLE seconds without a
request (a page that refreshes itself asks with `poll`, which does not count), and ABSOLUTE seconds after the sign-in;
each sign-in makes a new id. A change needs the token of its session, and must not come from another site.
Failed sign-ins are counted on disk, before the password is checked: by address and in total; counts go down with time.
A browser that signed in before has its own counter, so that strangers who use up the others lock nobody out. They can
add one line a minute to audit.jsonl, so that they cannot push out what others did.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from typing import Any, Callable

from ..errors import Unusable, WebschedulerError
from ..store import people, rows, throttle
from ..store.files import replace_file
from ..store.people import Person
from .web import Refused, Visit

IDLE = 1800
ABSOLUTE = 43200
RENEW = 60
NOTICE_SECONDS = 60
DEVICE_SECONDS = 180 * 86400
COOKIE, NOTICE, DEVICE = "webscheduler", "webscheduler_notice", "webscheduler_device"
# A request from another site brings no cookie, even if the person is signed in (SameSite=Strict). The cookie that it
# gets must not replace the person's own: else any link or form elsewhere would sign people out.
STRANGER = "webscheduler_stranger"


def keys(home: str) -> list[bytes]:
    """The keys in session.key, oldest first: hexadecimal, one on each line. Creates the file if it is missing."""
    path = os.path.join(home, "session.key")

    if not os.path.exists(path):
        with rows.locked(home, "session.key"):
            if not os.path.exists(path):  # another request may have been faster
                replace_file(path, os.urandom(32).hex().encode() + b"\n")

    with open(path, "rb") as file:
        found = [line for line in file.read().split() if len(line) >= 64]

    if not found:
        raise Unusable(f"{path} holds no key: remove it, and everybody signs in anew")

    return found


def sign(home: str, purpose: str, value: Any) -> str:
    """A JSON value as text for a cookie, signed with the newest key for one purpose."""
    payload = base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")
    return f"{payload.decode()}.{mac(keys(home)[-1], purpose, payload)}"


def unsign(home: str, purpose: str, text: str) -> Any:
    """The value in a text made by `sign`; None if the signature is wrong."""
    payload, _, given_mac = text.partition(".")
    data = payload.encode("ascii", "replace")
    given = given_mac.encode("ascii", "replace")

    if not any(hmac.compare_digest(mac(key, purpose, data).encode(), given) for key in keys(home)):
        return None

    return json.loads(base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4)))


def mac(key: bytes, purpose: str, data: bytes) -> str:
    """HMAC-SHA256 in hexadecimal, with a key derived for one purpose."""
    derived = hmac.digest(key, b"webscheduler " + purpose.encode(), "sha256")
    return hmac.digest(derived, data, "sha256").hex()


def cookies(visit: Visit) -> dict[str, str]:
    """The cookies of the request. Of several with one name the first counts: the longest path (RFC 6265, 5.4)."""
    found: dict[str, str] = {}

    for part in str(visit.environ.get("HTTP_COOKIE", ""))[:16384].split(";"):
        name, _, value = part.strip().partition("=")
        found.setdefault(name, value)

    return found


def set_cookie(visit: Visit, name: str, value: str, seconds: int | None = None) -> None:
    """Set a cookie with the response, for `seconds` or until the browser is closed."""
    age = "" if seconds is None else f"; Max-Age={seconds}"
    secure = "; Secure" if visit.secure_cookies else ""
    visit.cookies[name] = f"{name}={value}; Path={visit.mount}; HttpOnly; SameSite=Strict{age}{secure}"


def enter(visit: Visit, embedded: Callable[[dict[str, Any]], Any] | None) -> None:
    """Find out who visits: the person that the embedding site names, or who signed in here. Strangers get a session,
    too, because the sign-in form needs a token."""
    given = cookies(visit)

    for cookie in (COOKIE, STRANGER):
        session, name, started, seen = unsign(visit.home, "session", given.get(cookie, "")) or ("", "", 0, 0)
        row = people.read(visit.home).get(name) if name else None

        if visit.now - IDLE < seen <= visit.now + 60 and visit.now - ABSOLUTE < started and (
                not name or (row and session in row["sessions"])):
            break
    else:
        session, name, started, seen, row = os.urandom(16).hex(), "", int(visit.now), 0, None

    if embedded is not None or "webscheduler.user" in visit.environ:
        visit.embedded = True
        visit.person = _believed(embedded(visit.environ) if embedded else visit.environ["webscheduler.user"])
    elif row:
        visit.person = Person(name, row["role"])

    visit.session, visit.new_session = session, not seen

    if not seen or (visit.now - seen > RENEW and "poll" not in visit.query):
        _keep(visit, name, started)

    bound = f"{session} {visit.person.name if visit.embedded and visit.person else ''}"
    visit.token = mac(keys(visit.home)[-1], "form", bound.encode("utf-8", "replace"))
    notice = unsign(visit.home, "notice", given.get(NOTICE, ""))

    if notice and notice[0] == session and notice[1] > visit.now and visit.method == "GET" and (
            "poll" not in visit.query):  # a page that refreshes itself must not use up a notice
        visit.notice = notice[2]

        if "secret" in visit.notice and not _first_time(visit, given[NOTICE]):
            del visit.notice["secret"]  # a copy of the cookie must not show it again


def _first_time(visit: Visit, cookie: str) -> bool:
    """Whether this notice was not shown yet. If nobody can count that, it is: else a secret would be lost."""
    try:
        return throttle.take(visit.home, visit.now, [f"once {cookie[-16:]}"])
    except WebschedulerError:
        return True


def _believed(user: Any) -> Person | None:
    name = user.get("name") if isinstance(user, dict) else None

    if not name or not isinstance(name, str) or user.get("role") not in people.ROLES:
        return None

    return Person(name, user["role"])


def keep_notice(visit: Visit) -> None:
    """Give the message of an action to the next page, which shows it once."""
    value = [visit.session, int(visit.now) + NOTICE_SECONDS, visit.notice]
    set_cookie(visit, NOTICE, sign(visit.home, "notice", value), NOTICE_SECONDS)


def read_form(visit: Visit) -> None:
    """Read the form. Refuse a change that comes from another site or without this session's token: of one that cannot
    have the token, nothing is read. Raises Refused."""
    check_site(visit, unknown=True)

    if not visit.new_session:
        visit.read_form()

    given = visit.form.get("token", "").encode("utf-8", "replace")

    if visit.new_session and visit.secure_cookies and not visit.secure:
        raise Refused(403, "No cookie arrived with this form. If this page came over http, open it by its https "
                           "address.")

    if visit.new_session or not hmac.compare_digest(given, visit.token.encode()):
        raise Refused(403, "This form has expired. Go back, reload the page and send the form again.")


def check_site(visit: Visit, unknown: bool = False) -> None:
    """Refuse a change that comes from another site, or, without `unknown`, from an unknown place. Raises Refused.

    Our pages have the policy `no-referrer`, so their forms send the origin `null` (Fetch, "append a request Origin
    header"); sandboxed frames and others that hide their origin send the same. Browsers also send Sec-Fetch-Site, but
    not over plain http, and Safari only from 16.4 on. So where the token is checked as well, `null` is accepted: the
    token belongs to a cookie that no request from another site carries (SameSite=Strict), and no other site can read
    it. No script can write Sec-Fetch-Site, so `same-origin` needs no more: a proxy may have changed the host.
    """
    site, origin = visit.environ.get("HTTP_SEC_FETCH_SITE"), visit.environ.get("HTTP_ORIGIN")

    if origin is None and visit.environ.get("HTTP_REFERER"):
        origin = "/".join(str(visit.environ["HTTP_REFERER"]).split("/")[:3])

    known = origin is None or (origin == "null" and unknown) or _own(visit, str(origin))

    if site != "same-origin" and not (site is None and known):
        raise Refused(403, "This request comes from another site.")


def _own(visit: Visit, origin: str) -> bool:
    base = visit.settings["baseUrl"]
    scheme, _, host = origin.lower().partition("://")

    if base and origin.lower() == "/".join(base.lower().split("/")[:3]):
        return True

    own = str(visit.environ.get("HTTP_HOST", "")).lower()
    # Debian's nginx leaves the port out of the host that it passes on.
    ours = host in (own, f"{own}:{visit.environ.get('SERVER_PORT')}")
    # A proxy may add https in front of us. But if the request came by https, a page that came by http is not ours.
    return ours and (scheme == "https" or not visit.secure)


def verify(visit: Visit, user: str, password: str) -> Person | None:
    """The person with this name and password, or None. Raises Refused after too many tries."""
    device = unsign(visit.home, "device", cookies(visit).get(DEVICE, ""))
    known = device and device[0] == user
    counters = [f"device {throttle.short(user)} {device[1]}"] if known else [*throttle.networks(visit.address), "all"]
    free = throttle.take(visit.home, visit.now, counters)
    person = people.verify(visit.home, user, password) if free else None

    if person:
        throttle.forgive(visit.home, counters)
    elif throttle.take(visit.home, visit.now, [f"once sign-in {free}"]):
        # An unknown name may be a password that was typed into the wrong field.
        visit.note("sign-in failed" if free else "sign-in refused", user if user in people.read(visit.home) else "")

    if not free:
        raise Refused(429, "Too many failed sign-ins. Wait a few minutes and try again.")

    return person


def begin(visit: Visit, person: Person, password: str | None = None) -> None:
    """Start a new session for the person, and remember the browser. password: the stored one that was checked; if it
    has changed since, no session starts."""
    visit.person, visit.session = person, os.urandom(16).hex()
    _keep(visit, person.name, visit.now)
    people.open_session(visit.home, person.name, visit.session, visit.now, password)
    set_cookie(visit, DEVICE, sign(visit.home, "device", [person.name, os.urandom(8).hex()]), DEVICE_SECONDS)
    visit.note("signed in")


def end(visit: Visit, everywhere: bool) -> None:
    """Sign out in this browser, or everywhere."""
    assert visit.person is not None
    people.close_sessions(visit.home, visit.person.name, None if everywhere else visit.session)
    visit.session = os.urandom(16).hex()
    _keep(visit, "", visit.now)
    set_cookie(visit, COOKIE, "", 0)
    visit.note("signed out everywhere" if everywhere else "signed out")


def _keep(visit: Visit, name: str, started: float) -> None:
    value = sign(visit.home, "session", [visit.session, name, int(started), int(visit.now)])
    set_cookie(visit, COOKIE if name else STRANGER, value)
