"""Who may trigger what: the first stage of a trigger.

The rule: reading only; no lock, no write, no fork. What is compared follows from the shape of the request (with `ts` or
without), never from what is stored: with an index one comparison for a static signature, else one HMAC, and the same
with a dummy where the slug is unknown. So neither answer nor time tells whether a slug exists. The kind of signature
that a task asks for is looked at after that.
"""

from __future__ import annotations

from ..store.index import NOBODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..store.index import Known
    from ..store.lookup import View
    from .request import Request


def authenticate(request: Request, view: View, now: float) -> tuple[Known | None, str]:
    """(the task, if the signature is valid for it, else None; what is wrong, in words for the owner)."""
    found: Known | None = view.find(request.slug or NOBODY[:32])
    timed = request.kind == "run" and request.ts is not None

    if view.signed and not timed:
        expected = NOBODY if found is None else found.status if request.kind == "status" else found.signature
    else:
        from ..signing import DUMMY_SECRET, run_message, sign, status_message

        slug = request.slug or NOBODY[:32]
        message = status_message(slug) if request.kind == "status" else run_message(slug, request.ts)
        expected = sign(found.secret if found and found.secret != NOBODY else DUMMY_SECRET, message)

    valid = same(expected, request.signature)

    if request.problem:
        return None, request.problem

    ts = int(request.ts) if timed and request.ts else None

    if ts is not None and abs(now - ts) > view.window:
        return None, "the signature's time is outside the window: is this clock right, and that one?"

    if not valid or found is None or found.secret == NOBODY:
        return None, "slug and signature do not belong together"

    if request.kind == "run" and found.kind not in ("either", "static" if ts is None else "timed"):
        return None, "the task asks for the other kind of signature"

    return found, ""


def client(request: Request, view: View) -> str:
    """The address that a request comes from, as far as it can be believed; at most 64 characters."""
    if not view.proxies:
        return request.peer[:64]

    from ..addresses import client as believed

    return believed(request.peer, request.forwarded, view.proxies)


def same(expected: str, given: str) -> bool:
    """Whether two signatures of 64 characters are the same; how long it takes does not tell where they differ."""
    one, other = expected.encode("ascii"), given.lower().encode("ascii", "replace")
    different = len(one) ^ len(other)

    for a, b in zip(one, other):
        different |= a ^ b

    return different == 0
