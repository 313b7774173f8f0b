"""Setting up an installation that was uploaded alone, and a new password for who forgot it.

Imports `account`, `people`, `session`, `show` and `web`.

The rules: whoever may read the home's files, or write beside the script, is the owner. For the first there is a code of
128 bits in the home, made with O_EXCL and unlinked before the password is written, so it is good once. For
the second this session is given a text to upload, which is of no use to any other session. A home below a document
root is refused, and nothing is learnt from a Host header: the address is a suggestion that the owner confirms.
"""

from __future__ import annotations

import hmac
import os
from contextlib import suppress

from .. import config, installation
from ..errors import BadInput, WebschedulerError
from . import people, session
from .account import entry, new_password, stack
from .language import LANGUAGES
from .show import ask, button, field, options, page, warning
from .web import Html, Response, error_text, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .web import Visit

ASKED = ("language", "timezone", "baseUrl")
CODE = "setup-code"
UPLOAD = "webscheduler-code.txt"
LATEST = 86400.0  # a code that nobody used in a day is replaced


def begin(visit: Visit) -> Response:
    """There is no home yet: make it, once a button says so."""
    title = visit.t("Set up webscheduler")

    if visit.method == "POST":
        session.check_site(visit)

        try:
            installation.create(visit.home, visit.now)
        except WebschedulerError as error:
            return ask(visit, title, h("{error}", error=str(error)), visit.html("home-help"), 409)

        _make_code(visit)
        return visit.redirect("setup")

    # No home, no key, no token: so this page lets its form say where it comes from (see session.check_site).
    return page(visit, title, visit.html("begin", home=visit.home, action=visit.href("setup"),
                                         help=visit.html("home-help")),
                head=h('\n<meta name="referrer" content="same-origin">'))


def setup(visit: Visit) -> Response:
    """Language, zone, address and owner of a new installation; or, where there are people, a new password."""
    if visit.embedded:
        return visit.redirect("")

    first = not people.read(visit.home, "users.json")
    title = visit.t("Set up webscheduler") if first else visit.t("A new password")

    if visit.form.get("do") == "code":
        _make_code(visit)
        return visit.redirect("setup")

    if not os.path.exists(os.path.join(visit.home, CODE)):
        return ask(visit, title, visit.t("First show that the account is yours, by a code in a file of the home."),
                   button(visit, "setup", visit.t("Make a code"), "main", {"do": "code"}))

    start = {name: visit.settings[name] or _guess(visit) for name in ASKED if first}
    form = {name: visit.form.get(name, start.get(name, "")).strip() for name in (*start, "user", "code")}
    errors = _take(visit, form, first) if visit.method == "POST" else {}

    if visit.method == "POST" and not errors:
        return visit.redirect("")

    def line(name: str, label: Html, fill: str = "off", about: Html | None = None) -> Html:
        return entry(visit, name, label, fill, form[name], errors.get(name), about)

    fields = [line("code", visit.t("Code"), about=visit.t(
        "From the file in the home; empty, if you uploaded the text instead."))]

    if first:
        languages = [("auto", visit.t("as the browser")), *LANGUAGES.items()]
        fields += [
            field(visit, "language", visit.t("Language"), h("<select common>{options}</select>", options=options(
                languages, form["language"]))),
            line("timezone", visit.t("Time zone"), about=visit.t("As in Europe/Paris.")),
            line("baseUrl", visit.t("Address"), about=visit.t(
                "Where the scheduler is reached from outside; trigger URLs start with it."))]

    fields += [line("user", visit.t("Your name"), "username"), *new_password(visit, "password", errors)]
    problem = visit.t("Nothing is saved yet: see the fields marked below.") if errors else None
    where = _beside(visit)
    return page(visit, title, visit.html(
        "setup", title=title, problem=warning(problem), form=stack(visit, visit.t("Save"), fields),
        file=os.path.join(visit.home, CODE), beside=visit.html(
            "beside", upload=UPLOAD, text=_challenge(visit), where=where) if where else ""), 422 if errors else 200)


def _take(visit: Visit, form: dict[str, str], first: bool) -> dict[str, Html]:
    """Check all of the form, then consume the code, then write; what is wrong, by field."""
    errors: dict[str, Html] = {}
    settings: dict[str, Any] = {}
    password, proof = visit.form.get("password", ""), _proof(visit, form["code"])

    try:
        people.check_name(form["user"])
        people.check_password(form["user"], password)
    except BadInput as error:
        errors[error.field] = error_text(visit, error)

    for name in ASKED if first else ():
        try:
            settings[name] = installation.setting(name, form[name])
        except BadInput as error:
            errors[name] = error_text(visit, error)

    if password != visit.form.get("again"):
        errors["again"] = visit.t("The two differ.")

    if proof and not first and form["user"] not in people.read(visit.home, "users.json"):  # not for strangers to know
        errors["user"] = visit.t("Nobody has this name.")

    try:
        if not errors and proof:
            os.unlink(os.path.join(visit.home, CODE))  # of two who come at once one fails here
    except FileNotFoundError:
        proof = ""

    if not proof:
        errors["code"] = visit.t("This is not the code, or it was used.")

    if errors:
        return errors

    with suppress(OSError):  # the script may not write there; the text is of no use to anybody else
        os.unlink(proof)

    config.set_values(visit.home, settings)
    people.set_password(visit.home, form["user"], password, "owner" if first else None, now=visit.now)
    visit.note("set a password by code", form["user"])
    session.begin(visit, people.Person(form["user"], people.read(visit.home, "users.json")[form["user"]]["role"]))
    visit.tell("Welcome. Have your hosting panel call the URL below: the card turns green at the first call."
               if first else "Your password is changed, and every other session is ended.")
    return {}


def _make_code(visit: Visit) -> None:
    path = os.path.join(visit.home, CODE)

    try:
        if visit.now - os.stat(path).st_mtime > LATEST:
            os.unlink(path)
    except FileNotFoundError:
        pass

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return

    with open(descriptor, "w", encoding="ascii") as file:
        file.write(os.urandom(16).hex() + "\n")


def _proof(visit: Visit, code: str) -> str:
    """The file that holds what the visitor was to show: the code, or this session's text; empty if none does."""
    beside = _beside(visit)
    file, expected = (os.path.join(visit.home, CODE), code) if code else (
        os.path.join(beside, UPLOAD), _challenge(visit))

    try:
        with open(file if code or beside else os.devnull, encoding="ascii", errors="replace") as source:
            held = source.read(200).strip()
    except OSError:
        return ""

    return file if held and hmac.compare_digest(held.encode("utf-8"), expected.encode("utf-8", "replace")) else ""


def _challenge(visit: Visit) -> str:
    """What this session alone may upload: it changes with the code in the home, so it is good once, too."""
    try:
        with open(os.path.join(visit.home, CODE), "rb") as file:
            return session.mac(session.keys(visit.home)[-1], "setup", visit.session.encode() + file.read())[:32]
    except FileNotFoundError:
        return os.urandom(16).hex()


def _beside(visit: Visit) -> str:
    """The directory of the script; empty where the server does not say."""
    script = str(visit.environ.get("SCRIPT_FILENAME", ""))
    return os.path.dirname(script) if os.path.isabs(script) else ""


def _guess(visit: Visit) -> str:
    scheme = "https" if visit.secure else "http"
    return f"{scheme}://{visit.environ.get('HTTP_HOST', 'example.org')}{visit.mount.rstrip('/')}"
