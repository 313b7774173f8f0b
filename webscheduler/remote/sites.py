# SPDX-License-Identifier: LGPL-3.0-or-later
"""sites.json: which installations elsewhere somebody looks after, and their keys.

The rules: it is in the configuration directory of the person (XDG Base Directory Specification; %APPDATA% on Windows),
and nobody else may read it: one that others can read is refused. It is replaced as a whole.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ..errors import BadInput, Unusable, did_you_mean
from ..fetching import split_url
from ..store import NAME_CHARACTERS
from ..store.files import replace_file

ALL = "all"  # of --at: each site
KEY = "WEBSCHEDULER_API_KEY"
PREFIX = "wsk_"


class Site:
    """name: as it was named, or its URL; url: of the installation, without `/` at its end; key; by_query: whether the
    path must be in the query, None while that is not known; timezone: that of the installation, if known."""

    def __init__(self, name: str, url: str, key: str, by_query: bool | None = None,
                 timezone: str | None = None) -> None:
        self.name, self.url, self.key, self.by_query, self.timezone = name, url, key, by_query, timezone


def path() -> str:
    """Where the file is; it need not exist."""
    if sys.platform == "win32":
        folder = os.environ.get("APPDATA") or os.path.expanduser("~")
    else:
        folder = os.environ.get("XDG_CONFIG_HOME", "")
        folder = folder if os.path.isabs(folder) else os.path.expanduser("~/.config")

    return os.path.join(folder, "webscheduler", "sites.json")


def read() -> dict[str, Site]:
    """The sites by name, sorted. Raises Unusable for a file that is damaged, or that others may read."""
    file = path()

    try:
        with open(file, "rb") as source:
            if sys.platform != "win32" and os.fstat(source.fileno()).st_mode & 0o077:
                raise Unusable(f"{file} has keys, and others may read it: `chmod 600 {file}`")

            found = json.loads(source.read())

        return {name: Site(name, _text(row, "url"), check_key(_text(row, "key")), row.get("byQuery"),
                           row.get("timezone")) for name, row in sorted(found.items())}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unusable(f"{file} cannot be read: {error.strerror}")
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError, BadInput):
        raise Unusable(f"{file} does not hold what it should: mend it, or remove it and add the sites anew")


def _text(row: Any, field: str) -> str:
    if not isinstance(row[field], str):
        raise TypeError

    return str(row[field])


def write(sites: dict[str, Site]) -> None:
    """Replace the file. Raises Unusable."""
    rows = {name: {"url": site.url, "key": site.key, "byQuery": site.by_query, "timezone": site.timezone}
            for name, site in sites.items()}
    file = path()

    try:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        replace_file(file, json.dumps(rows, indent=2).encode())
    except OSError as error:
        raise Unusable(f"{file} cannot be written: {error.strerror}")


def find(given: str) -> Site:
    """The site that --at names, or whose URL it is; the key may be in the environment. Raises BadInput, Unusable."""
    known = read()
    key = os.environ.get(KEY, "")

    if "://" not in given:
        if given not in known:
            raise BadInput(f"--at: no site is named {given!r}{did_you_mean(given, known)}: `webscheduler site list` "
                           "shows them, `webscheduler site add NAME URL` adds one")

        site = known[given]
    else:
        url = mount(given)
        site = next((each for each in known.values() if each.url == url), Site(shown(url), url, ""))

    site.key = check_key(key or site.key)
    return site


def shown(url: str) -> str:
    """A URL without user and password, for people."""
    return split_url(url)[0].rstrip("/")


def mount(url: str) -> str:
    """The URL of the installation that this is, or belongs to: of a task, the panel or the API. Raises BadInput."""
    import re
    from urllib.parse import urlsplit, urlunsplit

    try:
        split_url(url)
    except ValueError as error:
        raise BadInput(f"url: {error}", "url")

    parts = urlsplit(url.strip())
    place = re.sub(r"/(?:(?:run|status)/[^/]*|(?:admin|api)(?:/.*)?)$", "", parts.path)
    return urlunsplit((parts.scheme, parts.netloc, place.rstrip("/"), "", ""))


def check_name(name: str) -> str:
    """The name, if a site may have it. Raises BadInput."""
    if not name or name == ALL or name[0] in "-." or not NAME_CHARACTERS.issuperset(name) or len(name) > 100:
        raise BadInput(f"name: {name[:60]!r} must be letters, digits, or . _ -, and not `{ALL}`", "name")

    return name


def check_key(key: str) -> str:
    """The key, if it looks like one: in a header, other characters would be an error that shows it. Raises BadInput."""
    if not key:
        raise BadInput(f"no key is known for it: `webscheduler site add NAME URL` asks for one, {KEY} can hold one")

    if not key.startswith(PREFIX) or not all("!" <= c <= "~" for c in key) or len(key) > 200:
        raise BadInput(f"that is no key: one begins with {PREFIX}, and `webscheduler api-key add` on that host shows "
                       "it once")

    return key
