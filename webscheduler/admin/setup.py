"""Setting up an installation that was uploaded alone, and a new password for who forgot it.

Imports `account`, `people`, `session`, `show` and `web`.

The rules: whoever may read the home's files, or write beside the script, is the owner. For the first there is a code of
128 bits in the home, made with O_EXCL and consumed by a rename before the password is written, so it is good once. For
the second this session is given a text to upload, which is of no use to any other session. A home below a document
root is refused, and nothing is learnt from a Host header: the address is a suggestion that the owner confirms.
"""

from __future__ import annotations

import hmac
import os

from .. import config, installation
from ..errors import BadInput, WebschedulerError
from . import people, session
from .account import user_input
from .language import LANGUAGES
from .show import ask, button, field, options, page, warning
from .web import Html, Response, error_text, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .web import Visit

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

    return page(visit, title, visit.html("begin", home=visit.home, action=visit.href("setup"),
                                         help=visit.html("home-help")))


def setup(visit: Visit) -> Response:
    """Language, zone, address and owner of a new installation; or, where there are people, a new password."""
    if visit.embedded:
        return visit.redirect("")

    first = not people.read(visit.home, "users.json")
    errors: dict[str, Html] = {}
    title = visit.t("Set up webscheduler") if first else visit.t("A new password")

    if visit.form.get("do") == "code":
        _make_code(visit)
        return visit.redirect("setup")

    if not os.path.exists(os.path.join(visit.home, CODE)):
        return ask(visit, title, visit.t("First show that the account is yours, by a code in a file of the home."),
                   button(visit, "setup", visit.t("Make a code"), "main", {"do": "code"}))

    start = {"language": visit.settings["language"], "timezone": visit.settings["timezone"],
             "baseUrl": visit.settings["baseUrl"] or _guess(visit)} if first else {}
    names = (*start, "user", "code")
    form = {name: visit.form.get(name, start.get(name, "")).strip() for name in names}

    if visit.method == "POST":
        _take(visit, form, first, errors)

        if not errors:
            return visit.redirect("")

    fields = [field(visit, "code", visit.t("Code"), h('<input common value="{value}" autocomplete="off">', value=form[
        "code"]), visit.t("From the file in the home; empty, if you uploaded the text instead."), errors.get("code"))]

    if first:
        fields += [
            field(visit, "language", visit.t("Language"), h("<select common>{options}</select>", options=options(
                [("auto", visit.t("as the browser")), *LANGUAGES.items()], form["language"]))),
            _text(visit, form, errors, "timezone", visit.t("Time zone"), visit.t("As in Europe/Paris.")),
            _text(visit, form, errors, "baseUrl", visit.t("Address"), visit.t(
                "Where the scheduler is reached from outside; trigger URLs start with it."))]

    fields += [user_input(visit, "user", visit.t("Your name"), "username", form["user"], errors.get("user")),
               user_input(visit, "password", visit.t("New password, at least 10 characters"), "new-password", "",
                          errors.get("password")),
               user_input(visit, "again", visit.t("New password, once more"), "new-password", "", errors.get("again"))]
    problem = visit.t("Nothing is saved yet: see the fields marked below.") if errors else None
    return page(visit, title, visit.html(
        "setup", title=title, problem=warning(problem), action=visit.href("setup"), fields=fields,
        file=os.path.join(visit.home, CODE), beside=visit.html(
            "beside", upload=UPLOAD, text=_challenge(visit), where=_beside(visit)) if _beside(visit) else ""),
        422 if errors else 200)


def _text(visit: Visit, form: dict[str, str], errors: dict[str, Html], name: str, label: Html, about: Html) -> Html:
    return field(visit, name, label, h('<input common value="{value}" autocomplete="off">', value=form[name]), about,
                 errors.get(name))


def _take(visit: Visit, form: dict[str, str], first: bool, errors: dict[str, Html]) -> None:
    """Check all of the form, then consume the code, then write."""
    settings = {}

    for name in ("language", "timezone", "baseUrl") if first else ():
        try:
            settings[name] = installation.setting(name, form[name])
        except BadInput as error:
            errors[name] = error_text(visit, error)

    password, role = visit.form.get("password", ""), "owner" if first else None

    try:
        people.check_name(form["user"])
        people.check_password(form["user"], password)
    except BadInput as error:
        errors[error.field] = error_text(visit, error)

    if password != visit.form.get("again"):
        errors["again"] = visit.t("The two differ.")

    if not first and form["user"] not in people.read(visit.home, "users.json"):
        errors["user"] = visit.t("Nobody has this name.")

    if not errors and not _consume(visit, form["code"]):
        errors["code"] = visit.t("This is not the code, or it was used.")

    if errors:
        return

    config.set_values(visit.home, settings)
    people.set_password(visit.home, form["user"], password, role, now=visit.now)
    row = people.read(visit.home, "users.json")[form["user"]]
    visit.note("set a password by code", form["user"])
    session.begin(visit, people.Person(form["user"], row["role"]))
    visit.tell("Welcome. Have your hosting panel call the URL below: the card turns green at the first call."
               if first else "Your password is changed, and every other session is ended.")


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


def _consume(visit: Visit, code: str) -> bool:
    """Whether the visitor proved to be the owner; that way of proving is used up then."""
    path, beside = os.path.join(visit.home, CODE), _beside(visit)
    ways = [(path, code)] if code else [(os.path.join(beside, UPLOAD), _challenge(visit))] if beside else []

    for file, expected in ways:
        try:
            with open(file, encoding="ascii", errors="replace") as source:
                held = source.read(200).strip()

            if not held or not hmac.compare_digest(held.encode("utf-8"), expected.encode("utf-8", "replace")):
                return False

            used = f"{path}.{os.getpid()}.used"
            os.rename(path, used)  # of two who come at once one fails here
            os.unlink(used)
        except OSError:
            return False

        if file != path:
            try:
                os.unlink(file)
            except OSError:
                pass  # the script may not write there; the text is of no use to anybody else

        return True

    return False


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
