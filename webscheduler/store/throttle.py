# SPDX-License-Identifier: LGPL-3.0-or-later
"""How often somebody may try: throttle.json, counters that go down with time.

The rules: panel and API count together, by address, by the networks around it and in total. A try is counted under the
lock before it is looked at, so that a burst cannot outrun the count. A full counter changes nothing on disk.
"""

from __future__ import annotations

import hashlib
import math

from . import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Sequence

    Counters = dict[str, list[float]]  # counter -> [level, Unix seconds of the last try]

FILE = "throttle.json"
# Counter -> how often something may happen (failed sign-ins and wrong keys, except `once`), seconds until one time is
# forgotten. An IPv6 customer has a /64, a /56 or a /48 (RFC 6177), an IPv4 customer seldom more than a /24; each leaves
# room in `all` for others.
LIMITS = {"ip": (10, 60.0), "ip/56": (20, 60.0), "ip/48": (40, 30.0), "ip/24": (40, 30.0), "device": (10, 60.0),
          "all": (100, 5.0), "once": (1, 60.0)}
MOST_DEVICES = 20  # counters of one person's browsers


def take(home: str, now: float, counters: Sequence[str]) -> bool:
    """Add one to each counter; False, and no change, if one of them is full. Raises Unusable, Busy."""
    with changing(home) as found:
        return count(found, counters, now)


def forgive(home: str, counters: Sequence[str]) -> None:
    """Take back one try, and no more: else somebody with one password could try other people's without limit."""
    with changing(home) as found:
        for counter in set(counters) & set(found):
            found[counter][0] -= 1

            if found[counter][0] <= 0:
                del found[counter]


def failed(home: str, now: float, address: str) -> int:
    """Count a wrong key from an address. 0, or if there were too many, after how many seconds the next one counts."""
    counters = [*networks(address), "all"]

    with changing(home) as found:
        if count(found, counters, now):
            return 0

        return max(1, *(math.ceil((_level(counter, now, *found[counter]) + 1 - most) * leak)
                        for counter in set(counters) & set(found) for most, leak in [LIMITS[_kind(counter)]]))


def _is_sound(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(number, (int, float)) for number in row)


changing = rows.Rows(FILE, _is_sound, "what was counted is forgotten").changing


def networks(text: str) -> list[str]:
    """The counters of an address: of itself, or of an IPv6 address's /64, and of the larger networks around it."""
    from ..addresses import address, network

    found = address(text)
    sizes = {} if found is None else {"ip": 64, "ip/56": 56, "ip/48": 48} if found.version == 6 else {
        "ip": 32, "ip/24": 24}
    around = {kind: network(str(found)) for kind in sizes}
    return [f"{kind} {short(str(each.supernet(new_prefix=sizes[kind])))}"
            for kind, each in around.items() if each] or [f"ip {short(text)}"]


def short(text: str) -> str:
    """What stands for a text in the name of a counter."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def count(found: Counters, counters: Sequence[str], now: float) -> bool:
    """The same of counters that were read."""
    levels = {counter: _level(counter, now, *found[counter]) for counter in found}

    if any(levels.get(counter, 0.0) + 1 > LIMITS[_kind(counter)][0] for counter in counters):
        return False

    # What counts nothing any more goes. What still does makes no room for others: it is not much, since `all` counts
    # with each address. The browsers of one person make room for each other.
    for counter, level in levels.items():
        if not level:
            del found[counter]

    for counter in counters:
        found[counter] = [round(levels.get(counter, 0.0) + 1, 3), now]
        person = counter.rpartition(" ")[0] + " "

        if _kind(counter) == "device":
            for other in sorted((each for each in found if each.startswith(person)), key=lambda each: found[each][1])[
                    :-MOST_DEVICES]:
                del found[other]

    return True


def _kind(counter: str) -> str:
    return counter.partition(" ")[0]


def _level(counter: str, now: float, level: float, when: float) -> float:
    """What is left of a counter; nothing of a kind that this version does not have."""
    _, leak = LIMITS.get(_kind(counter), (0, 0.0))
    return max(0.0, level - abs(now - when) / leak) if leak else 0.0  # abs: a wrong clock locks nobody out
