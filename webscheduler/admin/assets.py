# SPDX-License-Identifier: LGPL-3.0-or-later
"""The style sheet, the script and the icon, which are files beside this one.

The rule: links to them carry a hash of their content, so that browsers may keep the files for a year. Every page works
without the script.
"""

from __future__ import annotations

import functools
import hashlib
import pkgutil

from ..http import Response
from .web import Visit, respond

FILES = {"style": ("panel.css", "text/css"), "script": ("panel.js", "text/javascript"),
         "icon": ("icon.svg", "image/svg+xml")}


@functools.cache
def content(name: str) -> bytes:
    return pkgutil.get_data(__name__, FILES[name][0]) or b""


def version(name: str) -> str:
    """A hash of the content, for links."""
    return hashlib.sha256(content(name)).hexdigest()[:12]


def serve(visit: Visit) -> Response:
    kept = "max-age=31536000, immutable" if visit.query.get("v") == version(visit.page) else "no-cache"
    return respond(content(visit.page), kind=FILES[visit.page][1], Cache_Control=kept)
