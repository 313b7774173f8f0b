# SPDX-License-Identifier: LGPL-3.0-or-later
"""Instants and time zones: ISO 8601 text, Unix seconds, and zones by name.

The rule: an instant is written in UTC with its offset; what is read without one is taken as UTC.
"""

from __future__ import annotations

from .errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import tzinfo
    from typing import Any


def parse_time(text: str) -> float:
    """Unix seconds of an ISO 8601 instant with offset or `Z`; an instant without a zone is taken as UTC."""
    if len(text) == 29 and text.isascii() and text[23:] == "+00:00" and text[10] == "T" and text[19] == ".":
        found = _own(text)  # datetime costs a request 3 ms

        if found is not None:
            return found

    from datetime import datetime, timezone

    # fromisoformat understands `Z` only from Python 3.11 on, and colonless offsets (as PHP's DATE_ISO8601) neither.
    text = text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text

    if len(text) > 5 and text[-5] in "+-" and text[-4:].isdigit() and "T" in text:
        text = text[:-2] + ":" + text[-2:]

    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)).timestamp()


def _own(text: str) -> float | None:
    """Unix seconds of an instant as `format_time` writes it; None for one that is not quite that."""
    words = (text[0:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19], text[20:23])

    if not "".join(words).isdigit():
        return None

    year, month, day, hour, minute, second, milli = map(int, words)

    if not (text[4] == text[7] == "-" and text[13] == text[16] == ":" and year > 0 and 0 < month < 13
            and 0 < day < 29 and hour < 24 and minute < 60 and second < 60):
        return None  # the last days of a month are left to datetime

    # Days since 1970 in the proleptic Gregorian calendar, counted from March, so that leap days come last.
    years = year - (month < 3)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
    return days * 86400 + hour * 3600 + minute * 60 + second + milli / 1000


def instant(value: Any) -> float:
    """The same of what a file may hold; 0 for what is no such instant."""
    try:
        return parse_time(value) if isinstance(value, str) else 0.0
    except (ValueError, OverflowError):
        return 0.0


def format_time(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds: 2026-03-29T01:00:00.000+00:00."""
    from time import gmtime  # datetime costs a request 3 ms

    whole = int(seconds // 1)
    micros = round((seconds - whole) * 1e6)
    whole, micros = (whole + 1, 0) if micros == 1000000 else (whole, micros)
    year, month, day, hour, minute, second = gmtime(whole)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros // 1000:03}+00:00"


def time_zone(name: str) -> tzinfo:
    """The time zone of that name. Raises BadInput for one that the system does not know."""
    from datetime import timezone

    if name == "UTC":
        return timezone.utc  # needs no database

    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        from .zones import unknown

        raise unknown(name)


def system_zone() -> str:
    """The name of this machine's zone (tzset(3), localtime(5)), UTC where it tells none that is known."""
    import os

    name = os.environ.get("TZ", "").lstrip(":") or os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]

    try:
        time_zone(name)
    except BadInput:
        return "UTC"

    return "UTC" if name == "Etc/UTC" else name
