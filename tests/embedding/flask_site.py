# SPDX-License-Identifier: LGPL-3.0-or-later
"""A Flask site with the scheduler below /cron, whose people sign in at the site and are known to the panel.

Rule: what stands between the two lines of dashes is shown in docs/how-to/embedding.md, word for word.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request, session
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from webscheduler import create_app

ACCOUNTS = {"olga": "owner", "vera": "viewer", "nobody": ""}  # name -> role in the panel

site = Flask(__name__)
site.secret_key = os.environ["SITE_KEY"]


@site.post("/login")
def login() -> tuple[str, int]:
    name = request.form["name"]

    if name not in ACCOUNTS or request.form["password"] != name:
        return "no", 403

    session["account"] = name
    return "welcome", 200


@site.get("/")
def front() -> str:
    return f"the site itself, at {request.script_root}"


# -------------------------------------------------------------------------------------------------------------------

def scheduler_user(environ: dict[str, Any]) -> dict[str, str] | None:
    """Who of the site's accounts may use the panel, and as what."""
    with site.request_context(environ):  # opens the site's own session: no header is believed
        name = session.get("account", "")
        role = ACCOUNTS.get(name)
        return {"name": name, "role": role} if role else None


application = DispatcherMiddleware(site, {"/cron": create_app(user=scheduler_user)})

# -------------------------------------------------------------------------------------------------------------------
