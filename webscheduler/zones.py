# SPDX-License-Identifier: LGPL-3.0-or-later
"""The names of time zones that this host knows: to choose from, and to suggest for what was typed wrongly."""

from __future__ import annotations

import functools

from .errors import did_you_mean


@functools.cache
def known() -> tuple[str, ...]:
    """All names, sorted: of places, and UTC."""
    from zoneinfo import available_timezones

    return (*sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/")), "UTC")


@functools.lru_cache(maxsize=100)
def alike(typed: str) -> str:
    """A suggestion as of `did_you_mean`: the place of that name, or one that is spelled almost so."""
    from difflib import get_close_matches

    places = {name.rpartition("/")[2].casefold(): name for name in known()}
    wanted = typed.rpartition("/")[2].strip().replace(" ", "_").casefold()
    close = get_close_matches(wanted[:60], places, 1)
    return did_you_mean(places[close[0]], known()) if close else ""
