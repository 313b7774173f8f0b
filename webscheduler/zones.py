# SPDX-License-Identifier: LGPL-3.0-or-later
"""The names of time zones that this host knows: to choose from, and to suggest for what was typed wrongly."""

from __future__ import annotations

import functools

from .errors import BadInput, did_you_mean


class NoZoneData(BadInput):
    """No zone but UTC is known, so it is not the fault of who names one."""


@functools.cache
def known() -> tuple[str, ...]:
    """All names, sorted: of places, and UTC."""
    from zoneinfo import available_timezones

    return (*sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/")), "UTC")


def unknown(name: str) -> BadInput:
    """The error for a name of which there is no zone here."""
    if len(known()) == 1:
        return NoZoneData("timezone: this machine has no time zone data, so only UTC works: `pip install tzdata` for "
                          "the Python that runs webscheduler, or ask your host to install it", "timezone")

    return BadInput(f"timezone: {name[:60]!r} is not known here{alike(name)}: use a name like Europe/Paris, or UTC",
                    "timezone")


@functools.lru_cache(maxsize=100)
def alike(typed: str) -> str:
    """A suggestion as of `did_you_mean`: the place of that name, or one that is spelled almost so."""
    from difflib import get_close_matches

    places = {name.rpartition("/")[2].casefold(): name for name in known()}
    wanted = typed.rpartition("/")[2].strip().replace(" ", "_").casefold()
    close = get_close_matches(wanted[:60], places, 1)
    return did_you_mean(places[close[0]], known()) if close else ""
