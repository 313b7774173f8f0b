# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whether a request has a valid signature: the first stage of a trigger.

The rules: it only reads; no lock, no write, no fork. What is compared depends on the shape of the request (with `ts` or
without), never on what is stored: with an index, one comparison for a static signature; otherwise, one HMAC. The same
is done with a dummy if the slug is unknown. So neither answer nor time tells whether a slug exists. Whether the task
takes that kind of signature is looked at afterwards.
"""

from __future__ import annotations

from ..store.index import NO_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..store.index import Known
    from ..store.lookup import View
    from .request import Request


def authenticate(request: Request, view: View, now: float) -> tuple[Known | None, str]:
    """(the task if the signature is valid for it, else None; what is wrong, for the owner to read)."""
    found: Known | None = view.find(request.slug or NO_KEY[:32])
    timed = request.kind == "run" and request.ts is not None

    if view.signed and not timed:
        expected = NO_KEY if found is None else found.status if request.kind == "status" else found.signature
    else:
        from ..signing import DUMMY_SECRET, run_message, sign, status_message

        slug = request.slug or NO_KEY[:32]
        message = status_message(slug) if request.kind == "status" else run_message(slug, request.ts)
        expected = sign(found.secret if found and found.secret != NO_KEY else DUMMY_SECRET, message)

    valid = same(expected, request.signature)

    if request.problem:
        return None, request.problem

    ts = int(request.ts) if timed and request.ts else None

    if ts is not None and abs(now - ts) > view.window:
        return None, "the signature's time is outside the window: is this clock right, and that one?"

    if not valid or found is None or found.secret == NO_KEY:
        return None, "slug and signature do not belong together"

    if request.kind == "run" and found.kind not in ("either", "static" if ts is None else "timed"):
        return None, "the task asks for the other kind of signature"

    return found, ""


def client(request: Request, view: View) -> str:
    """The address of the client, as far as it can be trusted; at most 64 characters."""
    if not view.proxies:
        return request.peer[:64]

    from ..addresses import client as trusted_client

    return trusted_client(request.peer, request.forwarded, view.proxies)


def same(expected: str, given: str) -> bool:
    """Whether two signatures of 64 characters are equal. The time that it takes does not tell where they differ."""
    one, other = expected.encode("ascii"), given.lower().encode("ascii", "replace")
    different = len(one) ^ len(other)

    for a, b in zip(one, other):
        different |= a ^ b

    return different == 0
