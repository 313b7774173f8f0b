"""Who may trigger what: the first stage of a trigger.

The rule: reading only; no lock, no write, no fork. Each request costs one HMAC over the message that its shape says,
with the key of nobody where the slug is unknown, so that neither answer nor time tells whether a slug exists. What is
stored (the kind of signature that a task asks for) is compared after that.
"""

from __future__ import annotations

from .. import signing
from ..errors import BadInput
from ..store.fields import check
from ..store.task import FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.settings import Settings
    from .request import Request


class Ticket:
    """A request that a valid signature vouches for. ts: Unix seconds of a timed signature, else None; window: how far
    it may be from the clock."""

    __slots__ = ("ip", "name", "secret", "slug", "ts", "window")

    def __init__(self, name: str, slug: str, secret: str, ts: int | None, window: int, ip: str) -> None:
        self.name, self.slug, self.secret, self.ts, self.window, self.ip = name, slug, secret, ts, window, ip


def authenticate(
    request: Request, tasks: dict[str, dict[str, Any]], config: Settings, now: float
) -> tuple[Ticket | None, str]:
    """(the ticket, or None; what is wrong, in words for the owner of the installation)."""
    name = ""
    secret: str | None = None

    for candidate, row in tasks.items():
        if isinstance(row, dict) and row.get("slug") == request.slug:
            name, secret = candidate, row.get("secret")

    # An unknown slug costs the check of a secret, too.
    if not _is_secret(signing.DUMMY_SECRET if secret is None else secret) or not request.slug:
        secret = None

    slug = request.slug or "0" * 32
    message = signing.status_message(slug) if request.kind == "status" else signing.run_message(slug, request.ts)
    valid = signing.matches(secret, message, request.signature)

    if request.problem:
        return None, request.problem

    ts = None if request.ts is None or request.kind == "status" else int(request.ts)

    window = config["signatureWindowSeconds"]

    if ts is not None and abs(now - ts) > window:
        return None, "the signature's time is outside the window: is this clock right, and that one?"

    if not valid or secret is None:
        return None, "slug and signature do not belong together"

    kind = "static" if ts is None else "timed"

    if request.kind == "run" and tasks[name].get("signature", "static") not in ("either", kind):
        return None, "the task asks for the other kind of signature"

    return Ticket(name, slug, secret, ts, window, client(request, config)), ""


def client(request: Request, config: Settings) -> str:
    """The address that a request comes from, as far as it can be believed; at most 64 characters."""
    if not config["trustedProxies"]:
        return request.peer[:64]

    from ..addresses import client as believed

    return believed(request.peer, request.forwarded, config["trustedProxies"])


def _is_secret(value: Any) -> bool:
    try:
        return check("secret", FIELDS["secret"], value) is not None
    except BadInput:
        return False
