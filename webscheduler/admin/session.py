"""Sessions, what forms must bring along, and how often somebody may try. Imports `people` and `web`.

The rules: a cookie is signed by session.key with a salt for each purpose, and a session of a person stands in
users.json besides, so that one that was signed out is dead wherever it was copied to. It ends after IDLE seconds
without a request, and ABSOLUTE seconds after the sign-in, which always makes a new id. A change needs the token of the
session it comes from, and must not come from another site.
Failed sign-ins are counted before the password is looked at, on disk, by address and in all; each counter leaks. A
browser that signed in before has a counter of its own, so that a stranger who uses up the others locks nobody out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os

from ..errors import Unusable
from . import people
from .people import Person
from .web import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .web import Visit

IDLE = 1800
ABSOLUTE = 43200
RENEW = 60
NOTICE_SECONDS = 60
DEVICE_SECONDS = 180 * 86400
COOKIE, NOTICE, DEVICE = "webscheduler", "webscheduler_notice", "webscheduler_device"

# Failed sign-ins that are borne, and seconds after which one of them is forgotten.
LIMITS = {"ip": (10, 60.0), "device": (10, 60.0), "all": (100, 5.0)}
MOST_COUNTERS = 1000


def keys(home: str) -> list[bytes]:
    """The keys of session.key, one a line as hexadecimal, oldest first; the file is made when it is not there."""
    path = os.path.join(home, "session.key")

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    else:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(32).hex().encode() + b"\n")

    with open(path, "rb") as file:
        found = [line for line in file.read().split() if len(line) >= 64]

    if not found:
        raise Unusable(f"{path} holds no key: remove it, and everybody signs in anew")

    return found


def sign(home: str, purpose: str, value: Any) -> str:
    """A value (JSON) as text for a cookie, signed for one purpose by the newest key."""
    payload = base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")
    return f"{payload.decode()}.{mac(keys(home)[-1], purpose, payload)}"


def unsign(home: str, purpose: str, text: str) -> Any:
    """The value that `sign` made the text of, or None."""
    payload, _, given_mac = text.partition(".")
    data = payload.encode("ascii", "replace")
    given = given_mac.encode("ascii", "replace")

    if not any(hmac.compare_digest(mac(key, purpose, data).encode(), given) for key in keys(home)):
        return None

    try:
        return json.loads(base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4)))
    except (ValueError, binascii.Error):
        return None


def mac(key: bytes, purpose: str, data: bytes) -> str:
    """HMAC-SHA256 with a key derived for one purpose, as hexadecimal."""
    derived = hmac.digest(key, b"webscheduler " + purpose.encode(), "sha256")
    return hmac.digest(derived, data, "sha256").hex()


def cookies(visit: Visit) -> dict[str, str]:
    """The cookies of the request; the first of a name, which is that of the longest path (RFC 6265, 5.4)."""
    found: dict[str, str] = {}

    for part in str(visit.environ.get("HTTP_COOKIE", ""))[:16384].split(";"):
        name, _, value = part.strip().partition("=")
        found.setdefault(name, value)

    return found


def set_cookie(visit: Visit, name: str, value: str, seconds: int | None = None) -> None:
    """Have the answer set a cookie, for this session of the browser or for so many seconds."""
    path = visit.mount.replace(";", "%3B")
    age = "" if seconds is None else f"; Max-Age={seconds}"
    secure = "; Secure" if visit.secure else ""
    visit.cookies[name] = f"{name}={value}; Path={path}; HttpOnly; SameSite=Strict{age}{secure}"


def enter(visit: Visit, embedded: Callable[[dict[str, Any]], Any] | None) -> None:
    """Find out who visits: whom the embedding site names, or who signed in here. Starts a session for a stranger, too,
    since the form to sign in needs a token as well."""
    given = cookies(visit)
    value = unsign(visit.home, "session", given.get(COOKIE, ""))
    session, name, started, seen = value if isinstance(value, list) and len(value) == 4 else ("", "", 0, 0)

    if not session or not visit.now - IDLE < seen <= visit.now + 60 or not visit.now - ABSOLUTE < started:
        session, name, started, seen = os.urandom(16).hex(), "", int(visit.now), 0

    if embedded is not None or "webscheduler.user" in visit.environ:
        visit.embedded = True
        visit.person = _believed(embedded(visit.environ) if embedded else visit.environ["webscheduler.user"])
    elif name:
        row = people.read(visit.home, "users.json").get(name, {})

        if session in row.get("sessions", {}) and row.get("role") in people.ROLES:
            visit.person = Person(name, row["role"])
        else:
            session, name, started, seen = os.urandom(16).hex(), "", int(visit.now), 0

    visit.session = session

    if visit.now - seen > RENEW:
        set_cookie(visit, COOKIE, sign(visit.home, "session", [session, name, started, int(visit.now)]))

    bound = f"{session} {visit.person.name if visit.embedded and visit.person else ''}"
    visit.token = mac(keys(visit.home)[-1], "form", bound.encode("utf-8", "replace"))
    notice = unsign(visit.home, "notice", given.get(NOTICE, ""))

    if isinstance(notice, list) and notice[0] == session and notice[1] > visit.now and visit.method == "GET":
        visit.notice = notice[2]


def _believed(user: Any) -> Person | None:
    if not isinstance(user, dict) or user.get("role") not in people.ROLES or not isinstance(user.get("name"), str):
        return None

    return Person(user["name"], user["role"])


def keep_notice(visit: Visit) -> None:
    """Hand what the action has to say to the page after it: it is shown there once, and no reload shows it again."""
    value = [visit.session, int(visit.now) + NOTICE_SECONDS, visit.notice]
    set_cookie(visit, NOTICE, sign(visit.home, "notice", value), NOTICE_SECONDS)


def check(visit: Visit) -> None:
    """Refuse a change that does not come from a form of this session, or comes from another site. Raises Refused."""
    check_site(visit)

    if not hmac.compare_digest(visit.form.get("token", "").encode("utf-8", "replace"), visit.token.encode()):
        raise Refused(403, "This form has expired. Go back, load the page anew, and send it again.")


def check_site(visit: Visit) -> None:
    """Refuse a change that comes from another site. Raises Refused."""
    site, origin = visit.environ.get("HTTP_SEC_FETCH_SITE"), visit.environ.get("HTTP_ORIGIN")

    if site not in (None, "same-origin"):
        raise Refused(403, "This request comes from another site.")

    # A page with `Referrer-Policy: no-referrer` sends the origin `null` (Fetch, "serializing a request origin"), and so
    # do pages that have something to hide; only a browser that says where from is believed then.
    if origin == "null" and site is None or origin not in (None, "null") and not _own(visit, str(origin)):
        raise Refused(403, "This request comes from another site.")

    if origin is None and site is None and visit.environ.get("HTTP_REFERER") and not _own(
        visit, "/".join(str(visit.environ["HTTP_REFERER"]).split("/")[:3])
    ):
        raise Refused(403, "This request comes from another site.")


def _own(visit: Visit, origin: str) -> bool:
    base = visit.settings["baseUrl"]
    scheme, _, host = origin.lower().partition("://")

    if base and origin.lower() == "/".join(base.lower().split("/")[:3]):
        return True

    # A proxy may speak https for us; a page that came by http is never ours where we know that we speak https.
    return host == str(visit.environ.get("HTTP_HOST", "")).lower() and (scheme == "https" or not visit.secure)


def verify(visit: Visit, user: str, password: str) -> Person | None:
    """The person whose name and password these are. Raises Refused when there were too many tries."""
    device = unsign(visit.home, "device", cookies(visit).get(DEVICE, ""))
    known = isinstance(device, list) and len(device) == 2 and device[0] == user
    counters = [f"device {device[1]}"] if known else [f"ip {_network(visit.address)}", "all"]

    if not people.update(visit.home, "throttle.json", lambda found: _take(found, counters, visit.now)):
        visit.note("sign-in refused", user[:64])
        raise Refused(429, "Too many failed sign-ins. Wait some minutes and try again.")

    person = people.verify(visit.home, user, password)

    if person is None:
        visit.note("sign-in failed", user[:64])
    else:
        people.update(visit.home, "throttle.json", lambda found: _give_back(found, counters))

    return person


def begin(visit: Visit, person: Person) -> None:
    """Start a new session for the person, in a browser that is known from now on."""
    visit.person, visit.session = person, os.urandom(16).hex()
    people.open_session(visit.home, person.name, visit.session, visit.now)
    moment = int(visit.now)
    set_cookie(visit, COOKIE, sign(visit.home, "session", [visit.session, person.name, moment, moment]))
    set_cookie(visit, DEVICE, sign(visit.home, "device", [person.name, os.urandom(8).hex()]), DEVICE_SECONDS)
    visit.note("signed in")


def end(visit: Visit, everywhere: bool) -> None:
    """Sign out here, or everywhere."""
    assert visit.person is not None
    people.close_sessions(visit.home, visit.person.name, None if everywhere else visit.session)
    visit.session, moment = os.urandom(16).hex(), int(visit.now)
    set_cookie(visit, COOKIE, sign(visit.home, "session", [visit.session, "", moment, moment]))
    visit.note("signed out everywhere" if everywhere else "signed out")


def _network(address: str) -> str:
    """The address, or the /64 network of an IPv6 address, which is what one customer has; hashed, to be of one size."""
    if ":" in address:
        from ..addresses import network

        whole = network(address.partition("%")[0])
        address = str(whole.supernet(new_prefix=64)) if whole is not None and whole.version == 6 else address

    return hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:16]


def _take(found: dict[str, Any], counters: list[str], now: float) -> bool:
    """Count one try in each counter, unless one of them is full."""
    levels = {}

    for counter in counters:
        most, leak = LIMITS[counter.split(" ")[0]]
        level, when = found.get(counter, (0.0, now))
        levels[counter] = max(0.0, level - max(0.0, now - when) / leak)

        if levels[counter] + 1 > most:
            return False

    found.update({counter: [round(level + 1, 3), now] for counter, level in levels.items()})

    for counter in sorted(found, key=lambda one: found[one][1])[:-MOST_COUNTERS]:
        del found[counter]

    return True


def _give_back(found: dict[str, Any], counters: list[str]) -> None:
    for counter in counters:
        if counter in found:
            found[counter][0] = max(0.0, found[counter][0] - 1) if counter == "all" else 0.0
