# SPDX-License-Identifier: LGPL-3.0-or-later
"""Keys of the API: made, listed, revoked, and looked up with the same work whatever is given."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.installation import Installation
from webscheduler.errors import BadInput, Unusable
from webscheduler.store import change_lock, keys, throttle
from webscheduler.store.settings import check_setting
from webscheduler.times import format_time, instant

NOW = 1_800_000_000.0
DAY = 86400
ROW: dict[str, Any] = {"hash": "0" * 64, "role": "viewer", "createdAt": format_time(NOW), "expiresAt": None,
                       "ipAllowlist": [], "lastUsedAt": None}


@pytest.fixture
def home(installation: Installation) -> str:
    return str(installation.home)


def kept(home: str) -> Any:
    return json.loads(Path(home, keys.FILE).read_text())


def test_a_key_is_shown_once_and_only_its_hash_is_kept(home: str) -> None:
    """256 random bits after a prefix; the file is for its owner alone, and neither it nor the list has the key."""
    assert not keys.exists(home)
    made = [keys.add(home, f"ci{number}", "editor", NOW) for number in range(3)]
    assert len(set(made)) == 3
    assert all(key.startswith("wsk_") and len(key) == 4 + 43 for key in made)  # 32 bytes in base64, RFC 4648
    assert kept(home)["ci0"]["hash"] == hashlib.sha256(made[0].encode()).hexdigest()
    assert stat.S_IMODE(os.stat(Path(home, keys.FILE)).st_mode) == 0o600
    assert keys.listed(home)["ci0"] == {"role": "editor", "createdAt": format_time(NOW), "expiresAt": None,
                                        "ipAllowlist": [], "lastUsedAt": None}
    assert not any(key in Path(home, keys.FILE).read_text() for key in made)
    assert keys.exists(home)


def test_a_key_opens_until_it_ends_and_from_its_addresses(home: str) -> None:
    """A person of the audit is named after the key; expired, revoked or elsewhere it is none."""
    key = keys.add(home, "ci", "viewer", NOW, NOW + DAY, ["192.0.2.0/24", "2001:db8::/32"])
    assert keys.verify(home, key, "192.0.2.7", NOW) == ("key ci", "viewer")
    assert keys.verify(home, key, "2001:db8::1", NOW) == ("key ci", "viewer")
    assert keys.verify(home, key, "198.51.100.1", NOW) is None
    assert keys.verify(home, key, "", NOW) is None
    assert keys.verify(home, key, "192.0.2.7", NOW + DAY) is None
    assert keys.is_over(keys.listed(home)["ci"], NOW + DAY)

    for wrong in ("", "wsk_", key[:-1], key + "=", key.upper(), key[4:], "WSK_" + key[4:], f" {key}", "\udcff",
                  kept(home)["ci"]["hash"]):
        assert keys.verify(home, wrong, "192.0.2.7", NOW) is None

    keys.revoke(home, "ci")
    assert keys.verify(home, key, "192.0.2.7", NOW) is None
    assert not keys.exists(home)


@pytest.mark.parametrize("change", [
    {"name": ""}, {"name": "a b"}, {"name": "-x"}, {"name": "x" * 65}, {"name": "a\nb"}, {"name": "taken"},
    {"role": "admin"}, {"role": ""}, {"expires": NOW}, {"expires": NOW - 1}, {"expires": float("nan")},
    {"expires": NOW + 1e12}, {"allowlist": ["10.0.0.1/8"]}, {"allowlist": ["here"]},
    {"allowlist": ["10.0.0.0/8"] * 201},
])  # fmt: skip
def test_bad_input_makes_no_key(home: str, change: dict[str, Any]) -> None:
    """A name that is taken or invalid, a role that there is none, an end in the past, a network that is none."""
    keys.add(home, "taken", "viewer", NOW)
    before = kept(home)
    given = {"name": "new", "role": "viewer", "now": NOW, **change}

    with pytest.raises(BadInput) as caught:
        keys.add(home, **given)

    assert caught.value.field in (*change, "ipAllowlist")
    assert kept(home) == before


def test_a_name_that_is_not_there_is_named(home: str) -> None:
    keys.add(home, "deploy", "viewer", NOW)

    with pytest.raises(BadInput, match=r"no key is named 'deplay' \(did you mean 'deploy'"):
        keys.revoke(home, "deplay")


def test_keys_have_an_end(home: str) -> None:
    """There is room for a hundred keys, so that a look at one is bounded."""
    Path(home, keys.FILE).write_text(json.dumps({f"k{number}": ROW for number in range(keys.MOST_KEYS)}))

    with pytest.raises(BadInput, match="revoke one first"):
        keys.add(home, "more", "viewer", NOW)


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"a": 1}', '{"a": []}', '{"a": {}}', "\x00", "[" * 100000, *(
        json.dumps({"a": {**ROW, **change}}) for change in (
            {"hash": "0" * 63}, {"hash": None}, {"role": "root"}, {"role": []}, {"createdAt": ""},
            {"expiresAt": "never"}, {"expiresAt": 0}, {"ipAllowlist": None}, {"ipAllowlist": ["x"]},
            {"ipAllowlist": "0.0.0.0/0"}, {"lastUsedAt": 5})),
    json.dumps({"version": 2, "a": ROW}),
])  # fmt: skip
def test_a_damaged_file_is_never_taken_for_one_without_keys(home: str, text: str) -> None:
    """Nor is one of a newer version: a sentence says so, and nothing is written over it."""
    file = Path(home, keys.FILE)
    file.write_text(text)
    calls: list[Callable[[], object]] = [
        lambda: keys.exists(home), lambda: keys.listed(home), lambda: keys.verify(home, "x", "", NOW),
        lambda: keys.add(home, "b", "viewer", NOW), lambda: keys.revoke(home, "a")]

    for call in calls:
        with pytest.raises(Unusable, match="newer" if "version" in text else "cannot be read"):
            call()

    assert file.read_text() == text


def test_what_a_later_version_adds_is_kept(home: str) -> None:
    """An unknown field of a row, which only a later version understands, survives a change."""
    Path(home, keys.FILE).write_text(json.dumps({"a": {**ROW, "tasks": ["x"]}}))
    key = keys.add(home, "b", "viewer", NOW)
    assert keys.verify(home, key, "", NOW)
    assert kept(home)["a"]["tasks"] == ["x"]


def test_last_use_is_written_once_a_minute(home: str) -> None:
    """And again if the clock goes back, which shows as it is."""
    key = keys.add(home, "ci", "viewer", NOW - DAY)
    written = []

    for seconds in (0, 1, 59.9, 60, 119, 120, -3600):
        assert keys.verify(home, key, "", NOW + seconds)
        written.append(instant(keys.listed(home)["ci"]["lastUsedAt"]) - NOW)

    assert written == [0, 0, 0, 60, 60, 120, -3600]


def test_a_last_use_that_cannot_be_written_stops_nothing(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process changes the keys, and where the directory takes no file."""
    key = keys.add(home, "ci", "viewer", NOW)

    with open(Path(home, f"{keys.FILE}.lock"), "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waits: list[float] = []
        monkeypatch.setattr(change_lock.time, "sleep", waits.append)
        assert keys.verify(home, key, "", NOW)
        assert len(waits) < 2  # seconds are not waited for: a clock that stands still allows one more try
        assert keys.listed(home)["ci"]["lastUsedAt"] is None

    os.unlink(Path(home, f"{keys.FILE}.lock"))
    os.mkdir(Path(home, f"{keys.FILE}.lock"))  # cannot be opened for writing, not even by root
    assert keys.verify(home, key, "", NOW)
    assert keys.listed(home)["ci"]["lastUsedAt"] is None


def test_a_use_never_brings_a_revoked_key_back(home: str) -> None:
    """Keys that are used, made and revoked by many at once: each change stands."""
    used = keys.add(home, "used", "viewer", NOW)
    done = threading.Event()

    def use() -> None:
        moment = NOW

        while not done.is_set():
            moment += 60
            keys.verify(home, used, "", moment)

    users = [threading.Thread(target=use) for _ in range(2)]

    for user in users:
        user.start()

    try:
        for number in range(20):
            keys.add(home, f"k{number}", "viewer", NOW)

            if number % 2:
                keys.revoke(home, f"k{number}")
    finally:
        done.set()

        for user in users:
            user.join()

    assert sorted(keys.listed(home)) == sorted(["used", *(f"k{number}" for number in range(0, 20, 2))])


def test_every_wrong_key_takes_the_same_work(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash, one comparison with each key there is, one look at each list of addresses and at each end: counted, for
    an unknown, an expired, a revoked and a misplaced key, and one without the prefix."""
    made = {"good": keys.add(home, "good", "viewer", NOW),
            "expired": keys.add(home, "expired", "owner", NOW, NOW + 1),
            "elsewhere": keys.add(home, "elsewhere", "owner", NOW, None, ["192.0.2.1"]),
            "revoked": keys.add(home, "revoked", "owner", NOW)}
    keys.revoke(home, "revoked")
    counts: dict[str, int] = {}

    def counted(module: Any, name: str) -> None:
        inner = getattr(module, name)

        def call(*args: Any, **named: Any) -> Any:
            counts[name] = counts.get(name, 0) + 1
            return inner(*args, **named)

        monkeypatch.setattr(module, name, call)

    counted(hashlib, "sha256")
    counted(hmac, "compare_digest")
    counted(keys, "allowed")
    counted(keys, "instant")
    counted(keys, "is_over")
    seen = []

    for given in (*(made[name] for name in ("expired", "elsewhere", "revoked")), "", "wsk_x", made["good"][4:]):
        counts.clear()
        assert keys.verify(home, given, "198.51.100.7", NOW + 5) is None
        seen.append(dict(counts))

    assert seen[0]["compare_digest"] == 3
    assert all(each == seen[0] for each in seen)


def test_wrong_keys_and_failed_sign_ins_are_counted_together(home: str) -> None:
    """After ten of them an address waits, a whole number of seconds of at least one; others do not, and time helps.
    A full counter changes nothing on disk."""
    assert [throttle.failed(home, NOW, "192.0.2.1") for _ in range(10)] == [0] * 10
    before = Path(home, throttle.FILE).read_bytes()
    assert throttle.failed(home, NOW, "192.0.2.1") == 60
    assert throttle.failed(home, NOW + 20.5, "192.0.2.1") == 40
    assert Path(home, throttle.FILE).read_bytes() == before
    assert not throttle.take(home, NOW, throttle.networks("192.0.2.1"))
    assert throttle.take(home, NOW, throttle.networks("198.51.100.1"))
    assert throttle.failed(home, NOW + 60, "192.0.2.1") == 0


GOOD = ("https://example.org", "http://localhost:8080", "https://[::1]:9", "https://xn--bcher-kva.example")
BAD = ("null", "*", "", "example.org", "https://", "https://example.org/", "https://example.org:443",
       "http://example.org:80", "https://Example.org", "HTTPS://example.org", "https://example.org:",
       "https://example.org:\u0663", "https://u@example.org", "https://a b", "ftp://example.org",
       "https://example.org?x", "https://*.example.org", "https://example.org:99999", "https://example.org\r\nX: y")


@pytest.mark.parametrize("origin", [*GOOD, *BAD])
def test_origins_are_those_that_browsers_send(origin: str) -> None:
    """They are compared as texts, so nothing is stored that no browser would send."""
    if origin in GOOD:
        assert check_setting("apiOrigins", [origin]) == [origin]
    else:
        with pytest.raises(BadInput, match=r"apiOrigins: .* is not an origin"):
            check_setting("apiOrigins", [origin])
