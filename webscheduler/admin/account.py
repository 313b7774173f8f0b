# SPDX-License-Identifier: LGPL-3.0-or-later
"""Signing in and out, a person's own password, and the list of people.

The rules: a wrong name and a wrong password have the same message. After signing in, the next page is always one of
this panel, whatever the request says. A new password needs the old one, and signs out all other sessions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import parse_qsl

from ..admin import PAGES
from ..errors import BadInput
from ..http import Response
from ..store import people
from ..store.fields import Field
from ..store.settings import SETTINGS
from . import session
from .controls import Form
from .show import button, link, moment, options, page, paragraph, plain, table, warning
from .web import Html, Refused, Visit, error_text, h, respond

ROLE_NAMES = {"viewer": "Viewer: can read", "editor": "Editor: can also run and change tasks",
              "owner": "Owner: can also change settings and people"}
# The forms: control -> label.
SIGN_IN = {"user": "Name", "password": "Password"}
NEW = {"password": "New password, at least 10 characters", "again": "New password again"}
FILLS = dict.fromkeys(NEW, "new-password")
CHANGE = {"old": "Current password", **NEW}
PERSON = {"user": "Name", "password": "Password, at least 10 characters", "role": "Role"}


def sign_in(visit: Visit) -> Response:
    if visit.embedded or (visit.person and visit.method == "GET"):
        return visit.redirect("")

    users = people.read(visit.home)

    if not users:
        return visit.redirect("setup")

    form = form_of(visit, SIGN_IN, {"user": "username", "password": "current-password"})
    user, wanted = form.typed["user"].strip(), visit.form.get("to", visit.query.get("to", ""))

    if visit.method == "POST":
        person = None

        try:
            person = session.verify(visit, user, form.typed["password"])
            form.errors[""] = visit.t("Wrong name or password.")
        except Refused as refused:
            form.errors[""] = visit.t(refused.message)

        if person:
            session.begin(visit, person, users[user]["password"] if user in users else "")
            target, _, query = wanted.partition("?")
            known = target in PAGES and target not in ("sign-in", "sign-out", "setup")
            pairs = {name: value for name, value in parse_qsl(query) if name != "admin"} if known else {}
            return respond("", 303, Location=visit.href(target if known else "", **pairs))

    return page(visit, "Sign in", visit.html(
        "sign-in", problem=[plain(visit), warning(form.problem())], reset=visit.href("setup"), form=stack(
            form, SIGN_IN, visit.t("Sign in"), h('<input type="hidden" name="to" value="{to}">', to=wanted))),
        403 if form.errors else 200)


def sign_out(visit: Visit) -> Response:
    """Sign out here or, if the form says so, everywhere."""
    if not visit.embedded:
        session.end(visit, visit.form.get("everywhere") == "yes")
        visit.tell("You are signed out.")

    return visit.redirect("sign-in")


def account(visit: Visit) -> Response:
    assert visit.person is not None
    who = visit.t("Signed in as {name}. {role}.", name=visit.person.name, role=visit.t(ROLE_NAMES[visit.person.role]))

    if visit.embedded:
        return page(visit, "Your account", visit.html("account", who=who, parts=paragraph(
            visit, "You sign in and out at the site that this panel is part of.")))

    name, form = visit.person.name, form_of(visit, CHANGE, {"old": "current-password", **FILLS})

    if visit.method == "POST":
        password = new_password(form, name)

        if session.verify(visit, name, form.typed["old"]) is None:
            form.errors = {"old": visit.t("This is not your current password.")}

        if not form.errors:
            people.set_password(visit.home, name, password, now=visit.now)
            visit.note("changed the password of", name)
            visit.tell("Your password is changed. All other sessions are signed out.")
            session.begin(visit, visit.person)
            return visit.redirect("account")

    parts = [visit.html("password", form=stack(form, CHANGE, visit.t("Change the password"), h(
                 '<input name="user" autocomplete="username" value="{name}" hidden>', name=name))),
             visit.html("sessions", button=button(visit, "sign-out", "Sign out everywhere",
                                                  fields={"everywhere": "yes"}))]

    if visit.person.may("owner"):
        parts.append(paragraph(visit, h("{people} {keys}", people=link(visit, "All people…", "people"), keys=link(
            visit, "Keys of the API…", "keys"))))

    return page(visit, "Your account", visit.html("account", who=who, parts=parts), 422 if form.errors else 200)


def people_page(visit: Visit) -> Response:
    """The people who may sign in: their roles and passwords."""
    if visit.embedded:
        raise Refused(404, "There is no such page.")

    form = form_of(visit, PERSON, FILLS)
    form.choices["role"] = [("", visit.t("No change; new people: viewer")), *_roles(visit)]

    known = people.read(visit.home)
    form.beside[""] = json.dumps(known, sort_keys=True)

    if visit.method == "POST":
        form.meet()

        try:
            if not form.errors:
                return _change_people(visit, form.typed["user"].strip(), form.typed["role"])
        except BadInput as error:
            form.errors[""] = h("{field}: {text}", field=error.field, text=error_text(visit, error))

    rows = [visit.html(
        "person", name=name, since=moment(visit, row.get("createdAt")), action=visit.href("people"),
        label=visit.t("Role of {name}", name=name), roles=options(_roles(visit), row["role"]),
        was=form.stamp(), remove=button(visit, "people", "Remove", "danger", {
            "user": name, "do": "remove", "was": form.stamp()}))
        for name, row in sorted(known.items())]
    return page(visit, "People", visit.html(
        "people", problem=warning(form.problem()),
        table=table(visit, "People", ["Name", "Since", "Role", "Actions"], rows),
        keys=link(visit, "Keys of the API…", "keys"),
        form=stack(form, PERSON, visit.t("Save"), do="set")), 422 if form.errors else 200)


def _change_people(visit: Visit, user: str, role: str) -> Response:
    what = visit.form.get("do")

    if what == "set":
        people.set_password(visit.home, user, visit.form.get("password", ""), role or None, now=visit.now)
        visit.note("set the password of", user)
        visit.tell("{name} can sign in with the new password.", name=user)
    elif what == "role":
        people.set_role(visit.home, user, role)
        visit.note("changed the role of", user)
        visit.tell("{name} has a new role.", name=user)
    elif what == "remove":
        people.remove(visit.home, user)
        visit.note("removed the person", user)
        visit.tell("{name} is removed.", name=user)

    return visit.redirect("people")


def _roles(visit: Visit) -> list[tuple[str, Html]]:
    return [(role, visit.t(text)) for role, text in ROLE_NAMES.items()]


def form_of(visit: Visit, labels: Iterable[str], fills: dict[str, str], **stored: object) -> Form:
    """A form of text fields, and of settings with their stored values. fills: see `Form`."""
    rules = {name: SETTINGS[name] if name in stored else Field("text", "", "") for name in labels}
    form = Form(visit, rules, {**dict.fromkeys(labels, ""), **stored})
    form.fills = fills
    return form


def stack(form: Form, labels: dict[str, str], text: Html, more: object = "", do: str = "") -> Html:
    """The form as HTML: controls one below the other, and a button that sends it to this page."""
    return form.visit.html("stack", action=form.visit.href(form.visit.page), text=text, do=do, was=form.stamp(),
                           fields=[more, *(form.row(name, label) for name, label in labels.items())])


def new_password(form: Form, user: str) -> str:
    """The new password, which is typed twice. What is wrong with it, or with the name, goes to the form's errors."""
    try:
        people.check_password(user, form.typed["password"])
    except BadInput as error:
        form.errors[error.field] = error_text(form.visit, error)

    if form.typed["password"] != form.typed["again"]:
        form.errors["again"] = form.visit.t("The two passwords are different.")

    return form.typed["password"]
