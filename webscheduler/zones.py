# SPDX-License-Identifier: LGPL-3.0-or-later
"""The names of time zones that this host knows: to choose from, and to suggest for what was typed wrongly."""

from __future__ import annotations

import functools

from .errors import BadInput, did_you_mean

NEAREST = 15  # places that a wrong name is compared with


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


@functools.cache
def _places() -> dict[str, tuple[str, set[str]]]:
    """The last part of each name, without capitals, with the name and the pairs of letters in that part."""
    return {place: (name, _pairs(place)) for name in known() for place in [name.rpartition("/")[2].casefold()]}


def _pairs(text: str) -> set[str]:
    return set(map("".join, zip(f" {text}", f"{text} ")))


@functools.lru_cache(maxsize=100)
def alike(typed: str) -> str:
    """A suggestion as of `did_you_mean`: the place of that name, or one that is spelled almost so."""
    from difflib import get_close_matches
    from heapq import nlargest

    wanted = typed.rpartition("/")[2].strip().replace(" ", "_").casefold()[:60]
    places, pairs = _places(), _pairs(wanted)
    # A file may have thousands of wrong names, and to compare one with all places takes 5 ms: it is compared with those
    # that share most pairs of letters with it.
    close = get_close_matches(wanted, nlargest(NEAREST, places, lambda place: len(pairs & places[place][1])), 1)
    return did_you_mean(places[close[0]][0], [places[close[0]][0]]) if close else ""
