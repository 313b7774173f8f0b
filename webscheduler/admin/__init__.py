# SPDX-License-Identifier: LGPL-3.0-or-later
"""The admin panel: server-rendered pages at /admin, which work without scripts.

    answer(environ, home, user)    the response to a request of kind "admin" (`http.Request`), for the doors

The rules: this package is loaded only for requests below /admin, and the module of a page only with the page. PAGES
says who may see a page and who may change something with it. Role, origin and token of a change are checked first, and
nothing is read of a body before its sender's role is known.
REMOTE_USER and headers are never trusted: an embedding site tells who is signed in by `user(environ)` or
environ["webscheduler.user"], {"name": …, "role": "viewer|editor|owner"} or None.
"""

from __future__ import annotations

import importlib
import os
import time

from ..errors import WebschedulerError, foreseen
from ..http import Request, Response, log, server_kind
from ..store.settings import SETTINGS, Settings, find_home, load_settings
from .web import FILES, Html, Refused, Visit, error_text, h, mount, respond, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from ..wsgi import Environ, User

# Page -> its function, the role that may see it, the role that may POST to it (None: nobody; "": anybody).
PAGES: dict[str, tuple[str, str | None, str | None]] = {
    "": ("overview:index", "viewer", None),
    "task": ("tasks:one", "viewer", None),
    "run-now": ("tasks:run_now", None, "editor"),
    "enable": ("tasks:enable", None, "editor"),
    "selection": ("tasks:selection", None, "editor"),
    "secret": ("tasks:secret", "editor", "editor"),
    "delete": ("tasks:delete", "editor", "editor"),
    "edit": ("form:edit", "editor", "editor"),
    "preview": ("form:preview", "editor", None),
    "history": ("runs:index", "viewer", None),
    "run": ("runs:one", "viewer", None),
    "output": ("runs:raw", "viewer", None),
    "cancel": ("runs:stop", None, "editor"),
    "clear": ("runs:clear", "editor", "editor"),
    "diagnostics": ("diagnostics:index", "viewer", None),
    "check": ("diagnostics:check", None, "editor"),
    "probe": ("diagnostics:probing", "editor", "editor"),
    "settings": ("settings:index", "viewer", "owner"),
    "permissions": ("scripts:mend", None, "owner"),
    "crontab": ("settings:crontab", "owner", "owner"),
    "update": ("settings:update", None, "owner"),
    "notify-test": ("settings:notify_test", None, "owner"),
    "backup": ("settings:backup", None, "owner"),
    "shim": ("settings:shim", "editor", None),
    "export": ("settings:export_page", "owner", None),
    "account": ("account:account", "viewer", "viewer"),
    "people": ("account:people_page", "owner", "owner"),
    "keys": ("keys:index", "owner", "owner"),
    "setup": ("setup:setup", "", ""),
    "sign-in": ("account:sign_in", "", ""),
    "sign-out": ("account:sign_out", None, "viewer"),
}

def answer(environ: Environ, home: str | None, user: User = None, clock: Callable[[], float] = time.time,
           in_process: bool = False) -> Response:
    """The response to a request for the panel of the installation at `home`, or where `find_home` says. in_process: see
    `trigger.answer`."""
    if not Request(environ).kind:
        return _front(environ)

    try:
        home = home or find_home()
    except WebschedulerError as error:  # no installation, so nothing to hide
        return respond(f"webscheduler: {error}\n", 503, "text/plain")

    present, problem = os.path.isdir(home), None

    try:
        settings = load_settings(home)
    except (WebschedulerError, OSError) as error:
        settings = Settings(home, {name: row.default for name, row in SETTINGS.items()})
        problem = error if present else None

    try:
        visit = Visit(environ, settings, clock())
    except Refused as refused:
        return respond(f"{refused.message}\n", refused.status, "text/plain")

    visit.in_process, visit.clock = in_process, clock
    visit.server = server_kind(environ, in_process)

    try:
        if visit.page in FILES:
            response = serve(visit)
        elif not present:
            response = _page("setup:begin")(visit)
        else:
            response = _answer(visit, user, problem)
    except Refused as refused:
        response = _problem(visit, refused.status, visit.t(refused.message))
    except (WebschedulerError, OSError) as error:
        log(environ.get("wsgi.errors"), foreseen(error, home))
        text = visit.t("The server's error log has the details.")
        # What was done is said above it, or it would be done again.
        response = _problem(visit, 503, error_text(visit, error) if visit.may("editor") else text)

    if not visit.may("editor"):
        from .redaction import hide

        response.body = hide(home, response.body, response.kind.startswith("text/html"), visit.settings)

    response.headers += [("Set-Cookie", cookie) for cookie in visit.cookies.values()]
    return response


def _answer(visit: Visit, user: User, problem: Exception | None) -> Response:
    """The page. problem: what is wrong with the settings; then no page works, and people who are signed in are told."""
    from . import session

    if visit.page not in PAGES:
        raise Refused(404, "There is no such page.")

    function, see, change = PAGES[visit.page]
    needed = change if visit.method == "POST" else see
    session.enter(visit, user)
    said = visit.notice

    if problem and visit.person:
        raise problem

    if needed is None or visit.method not in ("GET", "HEAD", "POST"):
        raise Refused(405, "Use the button for this." if change else "This is not possible here.")

    if visit.person is None and needed:
        if visit.embedded:
            raise Refused(403, "Sign in at the site first.")

        response = _stranger(visit)
    elif needed and visit.person and not visit.person.may(needed):
        raise Refused(403, "Your role does not allow this.")
    else:
        if visit.method == "POST":
            session.read_form(visit)

        response = _page(function)(visit)

    if visit.notice is not said:
        session.keep_notice(visit)
    elif said and response.status == 200 and response.kind.startswith("text/html"):
        session.set_cookie(visit, session.NOTICE, "", 0)

    return response


def _stranger(visit: Visit) -> Response:
    """Ask the visitor to sign in; the page that was asked for comes after that."""
    if visit.method == "POST" and visit.new_session:  # as a form with a wrong token, whose body is not read either
        raise Refused(403, "This form has expired. Go back, reload the page and send the form again.")

    from urllib.parse import urlencode

    if visit.environ.get("HTTP_SEC_FETCH_SITE") == "cross-site" and visit.method == "GET":
        from .show import page

        # A link on another site sends no cookie (SameSite=Strict). Our own page loads itself again, which does.
        return page(visit, "Sign in", h(""), head=h('\n<meta http-equiv="refresh" content="0">'))

    wanted = visit.page + ("?" + urlencode(visit.query) if visit.query else "") if visit.method == "GET" else ""
    return visit.redirect("sign-in", to=wanted)


def _front(environ: Environ) -> Response:
    """Redirect the bare URL to the panel; with a query if /admin/ was asked for and the host dropped PATH_INFO."""
    root = mount(environ)
    dropped = "/admin" in str(environ.get("REQUEST_URI", "")).partition("?")[0][len(root) - 1:]
    target = f"{root}?admin=" if dropped else f"{root.rstrip('/')}/admin/"
    return respond("", 303, Location=target)


def _problem(visit: Visit, status: int, text: Html) -> Response:
    from .show import ask, link

    return ask(visit, "Something failed after that" if visit.told else "That did not work", text,
               link(visit, "Back to the tasks", ""), status)


def _page(name: str) -> Callable[[Visit], Response]:
    module, _, function = name.partition(":")
    found: Callable[[Visit], Response] = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return found
