# SPDX-License-Identifier: LGPL-3.0-or-later
"""Set-up of an installation that was uploaded without a shell, and a new password for people who forgot theirs.

The rules: whoever can read files of the home, or write beside the script, is the owner. The first is proved by a code
of 128 bits in the home: it is made at most once a minute, for all who ask, and deleted before the password is written,
so it works once. The second is proved by uploading a text that is valid for this session alone. A home that a web
server shows, or may show as far as names tell, is refused. The Host header is not trusted: it makes a suggestion for
the address, which the owner confirms.
"""

from __future__ import annotations

import hmac
import os
from contextlib import suppress

from ..errors import WebschedulerError
from ..host import url_check
from ..host.findings import ERROR, OK
from ..host.home import create_home
from ..http import Response, log
from ..store import people, rows
from ..store.files import replace_file
from ..store.settings import parse_setting, save_settings
from ..vocabulary import LANGUAGES
from . import session
from .account import FILLS, NEW, form_of, new_password, stack
from .controls import Form
from .show import ask, button, page, warning
from .web import Html, Refused, Visit, h

ASKED = ("language", "timezone", "baseUrl")
LABELS = {"code": "Code", "language": "Language", "timezone": "Time zone", "baseUrl": "Address", "user": "Your name",
          **NEW}
CODE = "setup-code"
UPLOAD = "webscheduler-code.txt"
LATEST = 86400.0  # seconds; a code that nobody used for so long is replaced
PAUSE = 60.0  # seconds between two codes


def begin(visit: Visit) -> Response:
    """There is no home: create it when the button for that is pressed, and not by any other form, which is from before
    the home was moved or removed."""
    title = visit.t("Set up webscheduler")

    if visit.method == "POST" and visit.page == "setup":
        session.check_site(visit)

        try:
            create_home(visit.home, visit.now, environ=visit.environ)
        except WebschedulerError as error:  # its text has paths, and the visitor may be anybody
            log(visit.environ.get("wsgi.errors"), f"webscheduler: {error}")
            cause = getattr(error.__context__, "strerror", "")
            text = visit.t("The directory cannot be created: {error}", error=cause) if cause else visit.t(
                "This directory is inside one that a web server may serve. Choose another.")
            return ask(visit, title, text, visit.html("home-help"), 409)

        _make_code(visit)
        return visit.redirect("setup")

    # Without a home there is no key and no token, so the browser must say where the form comes from (check_site).
    return page(visit, title, visit.html("begin", home=_place(visit), action=visit.href("setup"),
                                         help=visit.html("home-help")), 200 if visit.method == "GET" else 503,
                head=h('\n<meta name="referrer" content="same-origin">'))


def setup(visit: Visit) -> Response:
    """Language, zone, address and owner of a new installation; if it has people already, a new password."""
    if visit.embedded:
        return visit.redirect("")

    first = not people.read(visit.home)
    title = visit.t("Set up webscheduler") if first else visit.t("A new password")

    if visit.form.get("do") == "code":
        _make_code(visit)
        return visit.redirect("setup")

    if not os.path.exists(os.path.join(visit.home, CODE)):
        text = visit.t("First prove that this hosting account is yours, with a code from a file in the home directory.")
        return ask(visit, title, text, button(visit, "setup", "Create a code", "main", {"do": "code"}))

    guess = f"{'https' if visit.secure else 'http'}://{visit.environ.get('HTTP_HOST', 'example.org')}{visit.mount}"
    labels = {name: label for name, label in LABELS.items() if first or name not in ASKED}
    form = form_of(visit, labels, {"user": "username", **FILLS}, **{
        name: visit.settings[name] or guess.rstrip("/") for name in ASKED if first})
    form.choices["language"] = [("auto", visit.t("like the browser")), *LANGUAGES.items()]
    form.about["code"] = visit.t("The code from the file above. Leave it empty if you uploaded the text file instead.")

    if visit.method == "POST" and _take(visit, form, first):
        return visit.redirect("")

    script = os.path.basename(_script(visit))
    return page(visit, title, visit.html(
        "setup", title=title, problem=warning(form.problem()), form=stack(form, labels, visit.t("Save")),
        file=_place(visit, CODE), beside=visit.html(
            "beside", upload=UPLOAD, text=_challenge(visit), script=script) if script else ""),
        422 if form.errors else 200)


def _place(visit: Visit, *file: str) -> Html:
    """Where the home is, or a file in it, for an owner who may know the account by FTP alone. No absolute path is told:
    the visitor may be anybody."""
    script = _script(visit)
    home, account, beside = map(os.path.realpath, (visit.home, os.path.expanduser("~"), os.path.dirname(script)))
    above = os.path.dirname(home).rstrip("/")
    shown, said = os.path.join("…", os.path.basename(home), *file), []

    if account != "/" and home.startswith(account + "/"):
        shown = os.path.join("~", os.path.relpath(home, account), *file)
        said.append(visit.t("`~` is the home directory of your account, where most FTP programs begin."))

    if above and script and (beside + "/").startswith(above + "/"):
        said.append(visit.t("From the directory of {script} the way is {way}.", script=os.path.basename(script),
                            way=os.path.join(os.path.relpath(home, beside), *file)))

    if not said:
        said.append(visit.t("The line HOME at the top of the script, or the server's variable WEBSCHEDULER_HOME, says "
                            "where this directory is."))

    return visit.html("place", shown=shown, said=[h("{each} ", each=each) for each in said])


def _take(visit: Visit, form: Form, first: bool) -> bool:
    """Check the whole form, use up the code, then write. False if something is wrong."""
    form.meet()
    user, proof = form.typed["user"].strip(), _proof(visit, form.typed["code"].strip())
    given = form.changed(True, lambda name, _, text: parse_setting(name, text) if name in ASKED else text)
    password = new_password(form, user)

    if proof and not first and user not in people.read(visit.home):  # strangers must not learn who exists
        form.errors["user"] = visit.t("There is no person with this name.")

    looked = ""

    if proof and first and not form.errors:  # the address is called for somebody who has proved it, for nobody else
        found = url_check.look(visit.home, given["baseUrl"])
        looked = found.state

        if looked == ERROR:
            form.errors["baseUrl"] = visit.t(found.message, **found.values)

    if proof and first and not form.errors:
        save_settings(visit.home, {name: given[name] for name in ASKED})

    try:
        if proof and not form.errors:
            os.unlink(os.path.join(visit.home, CODE))  # of two at the same time one fails here
    except FileNotFoundError:
        proof = ""

    if not proof:
        form.errors["code"] = visit.t("This is not the code, or it was already used.")

    if form.errors:
        return False

    with suppress(OSError):  # the script may not be allowed to; nobody else can use the text
        os.unlink(proof)

    people.set_password(visit.home, user, password, "owner" if first else None, now=visit.now)
    visit.note("set a password by code", user)
    visit.tell("Your password is changed. All other sessions are signed out." if not first else
               "Welcome. Set up your hosting panel to call the URL below. The card turns green at the first call. "
               "The web server does not show the home directory." if looked == OK else
               "Welcome. Set up your hosting panel to call the URL below. The card turns green at the first call. "
               "Whether a web server shows the home directory is not known: check the installation in Diagnostics.")
    session.begin(visit, people.Person(user, people.read(visit.home)[user]["role"]))
    return True


def _make_code(visit: Visit) -> None:
    """Make the file of the code, unless there is one that is not too old. Raises Refused if the last was made less than
    a minute ago."""
    path, mark = os.path.join(visit.home, CODE), os.path.join(visit.home, "locks", f".{CODE}")

    with rows.locked(visit.home, CODE):
        if abs(visit.now - _changed(path)) <= LATEST:
            return

        passed = visit.now - _changed(mark)

        if passed < 0:  # the clock was set back: a minute from now on
            os.utime(mark, (visit.now, visit.now))

        if passed < PAUSE:
            raise Refused(429, "The last code was made less than a minute ago. Wait a minute and try again.")

        replace_file(mark, b"", sync="none")  # first: a kill in between leaves no code, and never two in a minute
        os.utime(mark, (visit.now, visit.now))
        replace_file(path, os.urandom(16).hex().encode() + b"\n")


def _changed(path: str) -> float:
    """When the file was changed, Unix seconds; 0 if there is none."""
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _proof(visit: Visit, code: str) -> str:
    """The file that holds the proof, which is the code or this session's text; empty if none does."""
    beside = os.path.dirname(_script(visit))
    file, expected = (os.path.join(visit.home, CODE), code) if code else (
        os.path.join(beside, UPLOAD), _challenge(visit))

    try:
        with open(file if code or beside else os.devnull, encoding="ascii", errors="replace") as source:
            held = source.read(200).strip()
    except OSError:
        return ""

    return file if held and hmac.compare_digest(held.encode("utf-8"), expected.encode("utf-8", "replace")) else ""


def _challenge(visit: Visit) -> str:
    """The text that this session may upload. It changes with the code in the home, so it works once, too."""
    try:
        with open(os.path.join(visit.home, CODE), "rb") as file:
            return session.mac(session.keys(visit.home)[-1], "setup", visit.session.encode() + file.read())[:32]
    except FileNotFoundError:
        return os.urandom(16).hex()


def _script(visit: Visit) -> str:
    """The path of the script; empty if the server does not tell."""
    script = os.fsdecode(str(visit.environ.get("SCRIPT_FILENAME", "")).encode("latin-1", "replace"))
    return script if os.path.isabs(script) else ""
