"""Signing in and out, one's own password, and the people. Imports `people`, `session`, `show` and `web`.

The rules: a wrong name and a wrong password read the same; where to go after signing in is a page of this panel or the
list of tasks, whatever the request says; changing a password asks for the old one and ends every other session.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from ..errors import BadInput
from . import PAGES, people, session
from .show import button, field, link, moment, options, page, table, warning
from .web import Html, Refused, Response, error_text, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .web import Visit

ROLE_NAMES = {"viewer": "Viewer: reads", "editor": "Editor: also runs and changes tasks",
              "owner": "Owner: also settings and people"}


def sign_in(visit: Visit) -> Response:
    """The form, and signing in."""
    if visit.embedded or visit.person and visit.method == "GET":
        return visit.redirect("")

    users = people.read(visit.home, "users.json")

    if not users:
        return visit.redirect("setup")

    user, wanted = visit.form.get("user", "").strip(), visit.form.get("to", visit.query.get("to", ""))
    problem: Html | None = None

    if visit.method == "POST":
        problem = visit.t("Name or password is wrong.")

        try:
            person = session.verify(visit, user, visit.form.get("password", ""))
        except Refused as refused:
            person, problem = None, visit.t(refused.message)

        if person:
            session.begin(visit, person, users.get(user, {}).get("password", ""))
            target, _, query = wanted.partition("?")
            known = target in PAGES and target not in ("sign-in", "sign-out", "setup")
            pairs = {name: value for name, value in parse_qsl(query) if name != "admin"} if known else {}
            return Response("", 303, Location=visit.href(target if known else "", **pairs))

    fields = [h('<input type="hidden" name="to" value="{to}">', to=wanted),
              entry(visit, "user", visit.t("Name"), "username", user),
              entry(visit, "password", visit.t("Password"), "current-password")]
    return page(visit, visit.t("Sign in"), visit.html(
        "sign-in", problem=warning(problem), form=stack(visit, visit.t("Sign in"), fields),
        reset=visit.href("setup")), 403 if problem else 200)


def sign_out(visit: Visit) -> Response:
    """Sign out here or, if the form says so, everywhere."""
    if not visit.embedded:
        session.end(visit, visit.form.get("everywhere") == "yes")
        visit.tell("You are signed out.")

    return visit.redirect("sign-in")


def account(visit: Visit) -> Response:
    """One's own password and sessions."""
    assert visit.person is not None
    who = visit.t("Signed in as {name}. {role}.", name=visit.person.name, role=visit.t(ROLE_NAMES[visit.person.role]))

    if visit.embedded:
        return page(visit, visit.t("Your account"), visit.html(
            "account", who=who, parts=h("<p>{text}</p>", text=visit.t(
                "The site that this panel is part of signs you in and out."))))

    problems = _change_password(visit) if visit.method == "POST" else {}

    if visit.method == "POST" and not problems:
        visit.tell("Your password is changed, and every other session is ended.")
        return visit.redirect("account")

    fields = [h('<input name="user" autocomplete="username" value="{name}" hidden>', name=visit.person.name),
              entry(visit, "old", visit.t("Present password"), "current-password", problem=problems.get("old")),
              *new_password(visit, "new", problems)]
    parts = [visit.html("password", form=stack(visit, visit.t("Change the password"), fields)),
             visit.html("sessions", button=button(visit, "sign-out", visit.t("Sign out everywhere"),
                                                  fields={"everywhere": "yes"}))]

    if visit.person.may("owner"):
        parts.append(h("<p>{link}</p>", link=link(visit, visit.t("All people…"), "people")))

    return page(visit, visit.t("Your account"), visit.html("account", who=who, parts=parts), 422 if problems else 200)


def _change_password(visit: Visit) -> dict[str, Html]:
    assert visit.person is not None
    name, form = visit.person.name, visit.form

    if session.verify(visit, name, form.get("old", "")) is None:
        return {"old": visit.t("This is not your password.")}

    if form.get("new", "") != form.get("again", ""):
        return {"again": visit.t("The two differ.")}

    try:
        people.set_password(visit.home, name, form.get("new", ""), now=visit.now)
    except BadInput as error:
        return {"new": error_text(visit, error)}

    session.begin(visit, visit.person)
    visit.note("changed the password of", name)
    return {}


def people_page(visit: Visit) -> Response:
    """Who may sign in: roles, new passwords, removal."""
    problem: Html | None = None
    form = visit.form

    if visit.embedded:
        raise Refused(404, "There is no such page.")

    if visit.method == "POST":
        try:
            return _change_people(visit, form.get("user", "").strip(), form.get("role", ""))
        except BadInput as error:
            problem = h("{field}: {text}", field=error.field, text=error_text(visit, error))

    rows = [_person(visit, name, row) for name, row in sorted(people.read(visit.home, "users.json").items())]
    fields = [entry(visit, "user", visit.t("Name"), value=form.get("user", "")),
              entry(visit, "password", visit.t("Password, at least 10 characters"), "new-password"),
              field(visit, "role", visit.t("Role"), h("<select common>{roles}</select>", roles=[
                  *options([("", visit.t("As before; somebody new: viewer"))], form.get("role", "")),
                  *_roles(visit, form.get("role", ""))]))]
    names = [visit.t("Name"), visit.t("Since"), visit.t("Role"), visit.t("Actions")]
    return page(visit, visit.t("People"), visit.html(
        "people", problem=warning(problem), table=table(visit, visit.t("People"), names, rows),
        form=stack(visit, visit.t("Save"), fields, "set")), 422 if problem else 200)


def _change_people(visit: Visit, user: str, role: str) -> Response:
    what = visit.form.get("do")

    if what == "set":
        people.set_password(visit.home, user, visit.form.get("password", ""), role or None, now=visit.now)
        visit.note("set the password of", user)
        visit.tell("{name} can sign in with the new password.", name=user)
    elif what == "role":
        people.set_role(visit.home, user, role)
        visit.note("changed the role of", user)
        visit.tell("{name} has another role.", name=user)
    elif what == "remove":
        people.remove(visit.home, user)
        visit.note("removed the person", user)
        visit.tell("{name} is removed.", name=user)

    return visit.redirect("people")


def _person(visit: Visit, name: str, row: dict[str, object]) -> Html:
    return visit.html(
        "person", name=name, since=moment(visit, str(row.get("createdAt") or "")), action=visit.href("people"),
        label=visit.t("Role of {name}", name=name), roles=_roles(visit, str(row["role"])),
        remove=button(visit, "people", visit.t("Remove"), "danger", {"user": name, "do": "remove"}))


def _roles(visit: Visit, chosen: str) -> list[Html]:
    return options([(role, visit.t(text)) for role, text in ROLE_NAMES.items()], chosen)


def stack(visit: Visit, text: Html, fields: object, do: str = "") -> Html:
    """A form that is sent to its own page: fields, one below the other, and a button."""
    return visit.html("stack", action=visit.href(visit.page), text=text, fields=fields, do=do)


def entry(visit: Visit, name: str, label: Html, fill: str = "off", value: str = "", problem: Html | None = None,
          about: Html | None = None) -> Html:
    """A field of a line of text. fill: what a password manager is told (HTML, autofill)."""
    return field(visit, name, label, h(
        '<input common type="{kind}" value="{value}" autocomplete="{fill}" autocapitalize="none"{required}>',
        kind="password" if fill.endswith("password") else "text", value=value, fill=fill,
        required="" if fill == "off" else Html(" required")), about, problem)


def new_password(visit: Visit, name: str, problems: dict[str, Html]) -> list[Html]:
    """The two fields for a new password."""
    return [entry(visit, each, label, "new-password", problem=problems.get(each)) for each, label in (
        (name, visit.t("New password, at least 10 characters")), ("again", visit.t("New password, once more")))]
