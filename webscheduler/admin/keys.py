# SPDX-License-Identifier: LGPL-3.0-or-later
"""The page of the keys of the API: made, listed and revoked by owners.

The rule: a key is shown once, on the page that answers the form that made it. It is in no URL, no cookie and no log,
and sending that form again makes no second key, since its stamp is old by then.
"""

from __future__ import annotations

import json

from ..errors import BadInput
from ..http import Response
from ..store import keys
from ..store.fields import Field
from ..store.people import ROLES
from .account import PERSON, ROLE_NAMES, stack
from .controls import Form
from .show import button, moment, page, plain, table, warning
from .web import Html, Visit, error_text, h

LABELS = {"name": PERSON["user"], "role": PERSON["role"], "expires": "Valid for", "ipAllowlist": "Allowed addresses"}
RULES = {
    "name": Field("text", "", "What or who uses the key. The record of changes names it."),
    "role": Field("choice", "viewer", "What the key may do, as in the panel.", ROLES),
    "expires": Field("seconds", None, "A number with a unit, like 90d; empty: until it is revoked.",
                     (1, keys.MOST_SECONDS), True),
    "ipAllowlist": Field("networks", [], "Addresses or networks that may use the key; empty: all."),
}


def index(visit: Visit) -> Response:
    """The keys with their last use, and a form that makes one."""
    form = Form(visit, RULES, {name: rule.default for name, rule in RULES.items()})
    form.choices["role"] = [(role, visit.t(text)) for role, text in ROLE_NAMES.items()]
    form.beside[""] = _stamped(visit)
    made: object = ""

    if visit.method == "POST":
        form.meet()
        name = form.typed["name"].strip()

        try:
            if not form.errors and visit.form.get("do") == "revoke":
                keys.revoke(visit.home, name)
                visit.note("revoked", f"key {name}")
                visit.tell("The key {name} no longer opens the API.", name=name)
                return visit.redirect("keys")

            made = _make(visit, form, name)
        except BadInput as error:
            form.errors["" if visit.form.get("do") == "revoke" else error.field] = error_text(visit, error)

    rows = [visit.html(
        "key", name=name, role=Html(visit.t(ROLE_NAMES[row["role"]]).partition(":")[0]), addresses=[
            h("{each} ", each=each) for each in row["ipAllowlist"]] or visit.t("all"),
        used=moment(visit, row["lastUsedAt"], "not used yet"), end=_end(visit, row), revoke=button(
            visit, "keys", "Revoke", "danger", {"name": name, "do": "revoke", "was": form.stamp()}))
        for name, row in keys.listed(visit.home).items()]
    return page(visit, "Keys of the API", visit.html(
        "keys", problem=[plain(visit), warning(form.problem())], made=made,
        table=table(visit, "Keys of the API", ["Name", "Role", "Allowed addresses", "Last use", "End", "Actions"], rows)
        if rows else visit.html("no-keys"),
        form=stack(form, LABELS, visit.t("Make a key"), do="add")), 422 if form.errors else 200)


def _make(visit: Visit, form: Form, name: str) -> Html:
    """Make the key of a form and show it; nothing, if something in the form is wrong."""
    values = form.changed(every=True)

    if form.errors:
        return Html("")

    key = keys.add(visit.home, name, values["role"], visit.now, values["expires"] and visit.now + values["expires"],
                   values["ipAllowlist"])
    visit.note("made", f"key {name}")
    form.typed = dict(form.start)
    form.beside[""] = _stamped(visit)
    return visit.html("key-made", title=visit.t("Key {name}", name=name), key=visit.html(
        "url", key="key", label=visit.t("Key"), text=key))


def _stamped(visit: Visit) -> str:
    """Which keys there are. When one was used last is no change that somebody made."""
    return json.dumps([[name, row["createdAt"]] for name, row in keys.listed(visit.home).items()])


def _end(visit: Visit, row: keys.Key) -> Html:
    ended = h('<span class="badge failed">{text}</span> ', text=visit.t("ended"))
    return h("{ended}{when}", ended=ended if keys.is_over(row, visit.now) else "", when=moment(
        visit, row["expiresAt"], "no end"))
