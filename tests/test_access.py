# SPDX-License-Identifier: LGPL-3.0-or-later
"""Who gets in, and that those who do not, learn nothing: every refusal is the same bytes, after the same work."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote

import pytest

from tests.installation import DOORS, REFUSED, Answer, Installation, asking
from webscheduler import http, signing, trigger
from webscheduler.store.refusals import MOST, add_refusal, read_refusals

Request = tuple[dict[str, str], bytes]
Case = Callable[[Installation], Request]
UNKNOWN = "ab" * 16
FORM = "application/x-www-form-urlencoded"


def altered(path: str = "/run/{slug}", query: str = "sig={sig}", body: str = "", **variables: str) -> Case:
    """A request for the task, with slug, right signature, a wrong one, and those of other messages filled in."""

    def make(installation: Installation) -> Request:
        row, now = installation.row(), int(time.time())
        values = {"slug": row["slug"], "sig": installation.signature(), "now": now, "bad": "0" * 64, "x": UNKNOWN,
                  "timed": installation.signature(ts=now), "status": installation.signature(status=True),
                  "past": now - 301, "old": installation.signature(ts=now - 301),
                  "ahead": now + 310, "early": installation.signature(ts=now + 310),
                  "nobody": signing.sign(signing.DUMMY_SECRET, UNKNOWN),
                  "crossed": signing.sign(row["secret"], UNKNOWN)}  # fmt: skip
        filled = {name: value.format(**values) for name, value in variables.items()}
        return asking(path.format(**values), query.format(**values), **filled), body.format(**values).encode("latin-1")

    return make


def after(prepare: Callable[[Installation], object], case: Case | None = None) -> Case:
    def make(installation: Installation) -> Request:
        prepare(installation)
        return (case or altered())(installation)

    return make


def limited(installation: Installation) -> None:
    """The task ran a moment ago."""
    installation.edit(minIntervalSeconds=3600)
    assert not installation.wsgi(installation.signed()).refused
    installation.idle()


def replay(installation: Installation) -> Request:
    installation.edit(signature="timed")
    environ = installation.signed(ts=int(time.time()))
    assert not installation.wsgi(environ).refused
    installation.idle()
    return environ, b""


def older(installation: Installation) -> Request:
    """A signature that is not used yet, but older than one that is."""
    installation.edit(signature="timed")
    now = int(time.time())
    assert not installation.wsgi(installation.signed(ts=now)).refused
    installation.idle()
    return installation.signed(ts=now - 5), b""


POST: dict[str, str] = {"method": "POST", "query": "", "CONTENT_TYPE": FORM}

# What no signature vouches for.
UNSIGNED: dict[str, Case] = {
    "unknown slug": altered("/run/{x}"),
    "unknown slug, the key of nobody": altered("/run/{x}", "sig={nobody}"),
    "unknown slug, signed with a known key": altered("/run/{x}", "sig={crossed}"),
    "no slug": altered("/run"),
    "no slug, slash": altered("/run/"),
    "more segments": altered("/run/{slug}/x"),
    "slug in capitals": altered("/run/ABCDEF0123456789ABCDEF0123456789"),
    "slug with more": altered("/run/{slug}0"),
    "slug with a NUL": altered("/run/{slug}%00"),
    "slug not UTF-8": altered("/run/\xff\xfe\xe9{slug}"),
    "slug half a character": altered("/run/\xc3"),
    "long slug": altered("/run/" + "a" * 20000),
    "task twice": altered("", "task={slug}&task={x}&sig={sig}"),
    "task unknown": altered("", "task={x}&sig={sig}"),
    "task empty": altered("", "task=&sig={sig}"),
    "no signature": altered(query=""),
    "empty signature": altered(query="sig="),
    "wrong signature": altered(query="sig={bad}"),
    "odd length": altered(query="sig={sig:.63}"),
    "too long": altered(query="sig={sig}0"),
    "much too long": altered(query="sig=" + "a" * 60000),
    "not hexadecimal": altered(query="sig=" + "z" * 64),
    "not ASCII": altered(query="sig=" + "\xe9" * 64),
    "not ASCII, escaped": altered(query="sig=" + quote("\u00e9") * 64),
    "not UTF-8, escaped": altered(query="sig=" + "%ff" * 64),
    "digits of elsewhere": altered(query="sig=" + quote("\u0663") * 64),
    "NUL": altered(query="sig={sig}%00"),
    "NUL alone": altered(query="sig=%00"),
    "blank in front": altered(query="sig=+{sig}"),
    "broken escape": altered(query="sig={sig}%"),
    "surrogate": altered(query="sig=%ed%a0%80"),
    "twice, the same": altered(query="sig={sig}&sig={sig}"),
    "twice, the right one first": altered(query="sig={sig}&sig={bad}"),
    "twice, the right one last": altered(query="sig={bad}&sig={sig}"),
    "SIG": altered(query="SIG={sig}"),
    "that of its status": altered(query="sig={status}"),
    "wrong header": altered(query="", HTTP_X_WEBSCHEDULER_SIGNATURE="{bad}"),
    "empty header": altered(query="", HTTP_X_WEBSCHEDULER_SIGNATURE=""),
    "header not ASCII": altered(query="", HTTP_X_WEBSCHEDULER_SIGNATURE="\xe9" * 64),
    "query right, header wrong": altered(HTTP_X_WEBSCHEDULER_SIGNATURE="{bad}"),
    "query wrong, header right": altered(query="sig={bad}", HTTP_X_WEBSCHEDULER_SIGNATURE="{sig}"),
    "query half, header right": altered(query="sig=", HTTP_X_WEBSCHEDULER_SIGNATURE="{sig}"),
    "signature in Authorization": altered(query="", HTTP_AUTHORIZATION="Bearer {sig}"),
    "signature in a cookie": altered(query="", HTTP_COOKIE="sig={sig}"),
    "wrong body": altered(body="sig={bad}", **POST),
    "empty POST": altered(**POST),
    "body of 64 KiB and a byte": altered(body="sig={sig}&" + "x" * (65537 - 69), **POST),
    "body without a length": altered(body="sig={sig}", **POST, CONTENT_LENGTH=""),
    "body with a length below zero": altered(body="sig={sig}", **POST, CONTENT_LENGTH="-1"),
    "body with a length in words": altered(body="sig={sig}", **POST, CONTENT_LENGTH="\xb2"),
    "body with a signed length": altered(body="sig={sig}", **POST, CONTENT_LENGTH="+68"),
    "body cut by its length": altered(body="sig={sig}", **POST, CONTENT_LENGTH="40"),
    "body of a GET": altered(query="", body="sig={sig}"),
    "binary body": altered(body="\x00\xff\xfe" * 1000, **POST),
    "body twice": altered(body="sig={sig}&sig={sig}", **POST),
    "ts in words": altered(query="ts=now&sig={timed}"),
    "ts empty": altered(query="ts=&sig={sig}"),
    "ts of another signature": altered(query="ts={now}1&sig={timed}"),
    "ts with a sign": altered(query="ts=%2B{now}&sig={timed}"),
    "ts below zero": altered(query="ts=-{now}&sig={timed}"),
    "ts in other digits": altered(query="ts=" + quote("\u00b9") * 10 + "&sig={timed}"),
    "ts with an underscore": altered(query="ts=1_0&sig={timed}"),
    "ts with a fraction": altered(query="ts={now}.0&sig={timed}"),
    "ts very long": altered(query="ts=" + "9" * 5000 + "&sig={timed}"),
    "ts twice": altered(query="ts={now}&ts={now}&sig={timed}"),
    "ts with a static signature": altered(query="ts={now}&sig={sig}"),
    "ts not where the signature is": altered(query="ts={now}", HTTP_X_WEBSCHEDULER_SIGNATURE="{timed}"),
}

# What is signed, and refused for another reason.
SIGNED: dict[str, Case] = {
    "expired": after(lambda i: i.edit(signature="either"), altered(query="ts={past}&sig={old}")),
    "ahead of time": after(lambda i: i.edit(signature="either"), altered(query="ts={ahead}&sig={early}")),
    "timed where static is asked": altered(query="ts={now}&sig={timed}"),
    "static where timed is asked": after(lambda i: i.edit(signature="timed")),
    "replayed": replay,
    "older than the last": older,
    "disabled": after(lambda i: i.edit(enabled=False)),
    "address denied": after(lambda i: i.edit(ipAllowlist=["198.51.100.0/24"])),
    "too soon": after(limited),
    "secret rotated": after(
        lambda i: i.edit(secret="e" * 64), lambda i: (asking(f"/run/{i.row()['slug']}", "sig=" + "1" * 64), b"")
    ),
}

# What must never run anything, however well it is signed.
HARMLESS: dict[str, Case] = {
    **{method: altered(method=method) for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")},
    "X-Moz": altered(HTTP_X_MOZ="prefetch"),
    "X-Purpose": altered(HTTP_X_PURPOSE="preview"),
    "Sec-Purpose": altered(HTTP_SEC_PURPOSE="prefetch;prerender"),
    "Purpose": altered(HTTP_PURPOSE="prefetch"),
    "Purpose in capitals": altered(HTTP_PURPOSE="Prefetch"),
    "prefetch by POST": altered(method="POST", HTTP_SEC_PURPOSE="prefetch"),
    "HEAD with a body": altered(query="", method="HEAD", body="sig={sig}"),
}

REFUSALS = {**UNSIGNED, **SIGNED, **HARMLESS}


@pytest.fixture
def ready(installation: Installation) -> Installation:
    installation.add()
    return installation


def contents(home: Path) -> dict[str, bytes]:
    return {str(file.relative_to(home)): file.read_bytes() for file in home.rglob("*") if file.is_file()}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_all_refusals_are_the_same_bytes(ready: Installation, case: Case, door: str) -> None:
    """Nothing in status, headers or body tells one refusal from another, and nothing runs."""
    environ, body = case(ready)
    before = ready.runs()
    answer = ready.call(door, environ, body)
    shown = b"" if environ["REQUEST_METHOD"] == "HEAD" else REFUSED
    assert answer == Answer(202, {"Content-Type": "application/json", "Content-Length": "19",
                                  "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}, shown, "")
    assert ready.claims() == []
    assert ready.runs() == before


@pytest.mark.parametrize("case", [*UNSIGNED.values(), *HARMLESS.values()], ids=[*UNSIGNED, *HARMLESS])
def test_without_a_valid_signature_nothing_is_written(ready: Installation, case: Case) -> None:
    """A request without a valid signature touches nothing but refused.json."""
    environ, body = case(ready)
    before = contents(ready.home)
    assert ready.wsgi(environ, body).status == 202
    now = contents(ready.home)
    now.pop("refused.json", None)
    assert now == before


@pytest.mark.parametrize("case", [*UNSIGNED.values(), *SIGNED.values()], ids=[*UNSIGNED, *SIGNED])
def test_each_request_costs_two_hmacs(
    ready: Installation, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known and unknown slugs, right and wrong signatures cost two HMACs each, of the secret and of the one before it,
    whether there is one or not, so no clock tells them apart."""
    environ, body = case(ready)
    messages = []
    sign = signing.sign
    ready.idle()
    (ready.home / "index").unlink(missing_ok=True)  # with it, a static signature is compared and needs no HMAC

    def counted(secret: str, message: str) -> str:
        messages.append(message)
        return sign(secret, message)

    monkeypatch.setattr(signing, "sign", counted)
    assert ready.wsgi(environ, body).status == 202
    assert len(messages) == 2


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "case",
    {
        "path": altered(),
        "path with a slash at its end": altered("/run/{slug}/"),
        "query alone": altered("", "task={slug}&sig={sig}"),
        "query alone below a slash": altered("/", "task={slug}&sig={sig}"),
        "escaped": altered(query="%73ig={sig}"),
        "capitals": lambda i: (asking(f"/run/{i.row()['slug']}", f"sig={i.signature().upper()}"), b""),
        "more parameters": altered(query="utm_source=panel&sig={sig}&_=1"),
        "header": altered(query="", HTTP_X_WEBSCHEDULER_SIGNATURE="{sig}"),
        "header with blanks": altered(query="", HTTP_X_WEBSCHEDULER_SIGNATURE=" {sig} "),
        "query and the same header": altered(HTTP_X_WEBSCHEDULER_SIGNATURE="{sig}"),
        "body": altered(body="sig={sig}", **POST),
        "body of 64 KiB": altered(body="sig={sig}&" + "x" * (65536 - 69), **POST),
        "POST with the signature in the query": altered(method="POST"),
        "another body beside the query": altered(method="POST", body="sig=1"),
        "timed": after(lambda i: i.edit(signature="timed"), altered(query="ts={now}&sig={timed}")),
        "timed, either": after(lambda i: i.edit(signature="either"), altered(query="sig={timed}&ts={now}")),
        "static, either": after(lambda i: i.edit(signature="either")),
        "timed header": after(lambda i: i.edit(signature="timed"), altered(
            query="", HTTP_X_WEBSCHEDULER_SIGNATURE="{timed}", HTTP_X_WEBSCHEDULER_TIMESTAMP="{now}")),
        "timed body": after(lambda i: i.edit(signature="timed"), altered(body="ts={now}&sig={timed}", **POST)),
        "a page": altered(HTTP_SEC_PURPOSE=""),
    }.items(),
    ids=lambda item: item[0],
)
def test_accepted(ready: Installation, case: tuple[str, Case], door: str) -> None:
    """A right signature is accepted wherever it may be: query, header, or the body of a POST."""
    answer = ready.call(door, *case[1](ready))
    assert answer.status == 202
    assert answer.document["accepted"] is True
    ready.idle()
    assert [run["run"] for run in ready.runs()] == [answer.document["run"]]


@pytest.mark.parametrize(
    ("variables", "settings", "allowed", "passes"),
    [
        ({"REMOTE_ADDR": "192.0.2.7"}, [], ["192.0.2.7"], True),
        ({"REMOTE_ADDR": "192.0.2.7"}, [], ["192.0.2.8", "192.0.2.0/29"], True),
        ({"REMOTE_ADDR": "192.0.2.7"}, [], ["192.0.2.8"], False),
        ({"REMOTE_ADDR": "192.0.2.7"}, [], ["192.0.2.7/29"], None),
        ({"REMOTE_ADDR": "::ffff:192.0.2.7"}, [], ["192.0.2.7"], True),
        ({"REMOTE_ADDR": "192.0.2.7"}, [], ["::ffff:192.0.2.7"], True),
        ({"REMOTE_ADDR": "::ffff:192.0.2.7"}, [], ["::ffff:192.0.2.0/120"], True),
        ({"REMOTE_ADDR": "2001:db8::1"}, [], ["2001:db8::/32"], True),
        ({"REMOTE_ADDR": "2001:DB8:0::1"}, [], ["2001:db8::1"], True),
        ({"REMOTE_ADDR": "2001:db9::1"}, [], ["2001:db8::/32"], False),
        ({"REMOTE_ADDR": "192.0.2.7"}, [], ["::/0"], False),
        ({"REMOTE_ADDR": "2001:db8::1"}, [], ["0.0.0.0/0"], False),
        ({"REMOTE_ADDR": "fe80::1%eth0"}, [], ["fe80::/10"], True),
        ({"REMOTE_ADDR": ""}, [], ["0.0.0.0/0", "::/0"], False),
        ({"REMOTE_ADDR": ""}, [], ["unix"], True),
        ({"REMOTE_ADDR": "unix"}, [], ["unix"], False),
        ({"REMOTE_ADDR": "nonsense"}, [], ["0.0.0.0/0"], False),
        # X-Forwarded-For counts for nothing while nobody is trusted,
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, [], ["198.51.100.1"], False),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, ["192.0.2.8"], ["198.51.100.1"], False),
        # and beyond trusted proxies from the right: the first that is none.
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, ["192.0.2.7"], ["198.51.100.1"], True),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, ["192.0.2.7"], ["192.0.2.7"], False),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1, 203.0.113.5"}, ["192.0.2.7"],
         ["198.51.100.1"], False),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1, 203.0.113.5"}, ["192.0.2.7"],
         ["203.0.113.5"], True),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1 ,203.0.113.5"},
         ["192.0.2.0/24", "203.0.113.0/24"], ["198.51.100.1"], True),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "evil, 198.51.100.1"}, ["192.0.2.7", "198.51.100.1"],
         ["198.51.100.1"], False),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1:4711"}, ["192.0.2.7"],
         ["198.51.100.1"], True),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "[2001:db8::9]:80"}, ["192.0.2.7"],
         ["2001:db8::9"], True),
        # However much a client puts in front, what the proxy appended is what counts.
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": f"198.51.100.1{' ' * 8000}, 203.0.113.5"}, ["192.0.2.7"],
         ["198.51.100.1"], False),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": ""}, ["192.0.2.7"], ["192.0.2.7"], True),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1,"}, ["192.0.2.7"], ["198.51.100.1"], False),
        # However long what the client itself put in front.
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1, " * 900 + "203.0.113.5"}, ["192.0.2.7"],
         ["198.51.100.1"], False),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1, " * 900 + "203.0.113.5"}, ["192.0.2.7"],
         ["203.0.113.5"], True),
        # A socket has no address: its proxy is trusted only by the word for it.
        ({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, ["192.0.2.7", "0.0.0.0/0"], ["198.51.100.1"],
         False),
        ({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, ["unix"], ["198.51.100.1"], True),
        ({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, ["unix"], ["unix"], False),
    ],
)  # fmt: skip
def test_addresses(
    ready: Installation, variables: dict[str, str], settings: list[str], allowed: list[str], passes: bool | None
) -> None:
    """The allow-list knows both families and mapped addresses, and believes X-Forwarded-For as far as it is trusted;
    a list that breaks the rule for networks (None) runs nothing and says so."""
    ready.configure(trustedProxies=settings)
    ready.edit(ipAllowlist=allowed)
    answer = ready.wsgi(ready.signed(**variables))

    if passes is None:
        assert answer.status == 503
        assert "ipAllowlist" in answer.errors
    elif passes:
        assert answer.document["accepted"] is True
        ready.idle()
        assert len(ready.runs()) == 1
    else:
        assert answer.refused
        assert [(line["status"], line["reason"], line["run"]) for line in ready.history()] == [
            ("rejected", "ip_denied", None)
        ]


@pytest.mark.parametrize("door", DOORS)
def test_the_window_is_a_setting(ready: Installation, door: str) -> None:
    """A timed signature is good for signatureWindowSeconds on both sides of the clock."""
    ready.edit(signature="timed")
    now = int(time.time())
    ready.configure(signatureWindowSeconds=1000)
    assert not ready.call(door, ready.signed(ts=now - 900)).refused
    ready.idle()
    assert not ready.call(door, ready.signed(ts=now + 900)).refused
    ready.idle()
    ready.configure(signatureWindowSeconds=10)
    assert ready.call(door, ready.signed(ts=now + 901)).refused


def test_a_timed_signature_from_ahead_does_not_outlive_the_window(ready: Installation) -> None:
    """Once a signature from ahead of the clock is used, others count again as soon as they are newer than it."""
    ready.edit(signature="timed")
    now = int(time.time())
    assert not ready.wsgi(ready.signed(ts=now + 100)).refused
    ready.idle()
    assert ready.wsgi(ready.signed(ts=now + 50)).refused
    assert not ready.wsgi(ready.signed(ts=now + 101)).refused


def test_a_denied_address_does_not_use_up_a_signature(ready: Installation) -> None:
    """Whoever may not trigger from where they are, cannot spoil a timed signature they got hold of."""
    ready.edit(signature="timed", ipAllowlist=["192.0.2.1"])
    environ = ready.signed(ts=int(time.time()))
    assert ready.wsgi({**environ, "REMOTE_ADDR": "192.0.2.2"}).refused
    assert not ready.wsgi(environ).refused


@pytest.mark.parametrize("field", ["slug", "secret"])
@pytest.mark.parametrize("value", [None, "", 7, "ABCDEF" * 20, [], {}])
def test_a_task_without_good_keys_has_no_url(ready: Installation, field: str, value: Any) -> None:
    """A row whose slug or secret is missing or malformed cannot be triggered, and disturbs no other task."""
    ready.add("other")
    signed = ready.signed("other")
    environ = ready.signed()
    ready.edit(**{field: value})
    assert ready.wsgi(environ).refused
    assert ready.wsgi(asking("/run/", "sig=" + signing.sign(signing.DUMMY_SECRET, "0" * 32))).refused
    assert not ready.wsgi(signed).refused


@pytest.mark.parametrize("row", [None, 5, "x", [], {}, {"slug": 5}], ids=repr)
def test_a_row_that_is_none_disturbs_no_other_task(ready: Installation, row: Any) -> None:
    """Whatever else stands in state.json, the tasks beside it run."""
    environ = ready.signed()
    file = ready.home / "state.json"
    file.write_text(json.dumps({"odd": row, **json.loads(file.read_text()), "odd too": row}))
    assert not ready.wsgi(environ).refused
    ready.idle()
    assert [run["status"] for run in ready.runs()] == ["success"]


@pytest.mark.parametrize("door", DOORS)
def test_refusals_leave_a_trace(ready: Installation, door: str) -> None:
    """The first refusal of a minute is noted with address, slug and what was wrong, for known and unknown slugs
    alike; the others are not, and no secret is."""
    for path in (f"/run/{ready.row()['slug']}", f"/run/{UNKNOWN}"):
        (ready.home / "refused.json").unlink(missing_ok=True)
        environ = asking(path, "sig=" + "0" * 64)

        for _ in range(3):
            assert ready.call(door, environ).refused

        (refusal,) = json.loads((ready.home / "refused.json").read_text())
        assert refusal["slug"] == path[5:]
        assert refusal["ip"] == "192.0.2.1"
        assert refusal["problem"] == "slug and signature do not belong together"
        assert "0" * 64 not in json.dumps(refusal)
        assert (ready.home / "refused.json").stat().st_mode & 0o777 == 0o600


def test_refusals_are_bounded(ready: Installation) -> None:
    """The last 50 refusals are kept, the newest first, and an old or damaged file harms nothing."""
    home = str(ready.home)
    now = time.time()
    nobody: dict[str, object] = {}

    for number in range(60):
        add_refusal(home, now + 100 * number, "GET", "", "192.0.2.1", str(number), nobody.get)

    assert [refusal["problem"] for refusal in read_refusals(home)] == [str(n) for n in range(59, 9, -1)]

    # The clock of the file system, as of a server of files, may be ahead of ours: no refusal writes oftener for that.
    (ready.home / "refused.json").unlink()

    for number in range(3):
        request = http.Request(asking(f"/run/{number:032}"))
        trigger.answer(request, home, False, lambda number=number: now - 3600 + number, print)

    assert [refusal["slug"] for refusal in read_refusals(home)] == ["0" * 32]

    for damaged in (b"", b"[", b"5", b'{"a": 1}', b"\xff", b"[null, 1]"):
        (ready.home / "refused.json").write_bytes(damaged)
        assert read_refusals(home) == []
        add_refusal(home, now + 100000, "GET", "", "192.0.2.1", "again", nobody.get)
        assert [refusal["problem"] for refusal in read_refusals(home)] == ["again"]


@pytest.mark.parametrize("door", DOORS)
def test_who_guesses_slugs_hides_no_mistake(ready: Installation, door: str) -> None:
    """However many unknown slugs are called, what the owner of a task is to read keeps its place, one for each problem;
    and a flood of calls without a slug leaves room for it."""
    home, started, passed = str(ready.home), time.time(), [0.0]
    slug, kept = ready.row()["slug"], {}

    def ask(path: str, query: str, seconds: float) -> None:
        passed[0] += seconds
        trigger.answer(http.Request(asking(path, query)), home, False, lambda: started + passed[0], print,
                       None if door == "cgi" else kept)  # fmt: skip

    def places(known: bool = True) -> list[str]:
        return [each["problem"] for each in read_refusals(home) if (each["slug"] == slug) is known]

    ask(f"/run/{slug}", "sig=" + "0" * 64, 0)
    ask(f"/run/{slug}", "sig%3D" + "0" * 64, 61)
    ask(f"/run/{slug}", "sig=" + "0" * 64, 61)

    for number in range(2 * MOST):
        ask(f"/run/{number:032x}", "sig=" + "0" * 64, 61)

    assert places() == ["slug and signature do not belong together", "`%3D` stands where `=` should"]
    assert len(places(known=False)) == MOST - 2

    for second in range(10 * 60):
        ask("/run/wp-login.php", "", 1)

        if second % 50 == 49:
            ask(f"/run/{slug}", "sig=" + "0" * 64 + ".", 0)

    assert places()[0] == "`.` follows the signature"


def test_one_slug_takes_no_places_of_others(ready: Installation) -> None:
    """Who knows one slug and calls it in every wrong way pushes out their own refusals, the oldest first."""
    home, slugs = str(ready.home), {"a" * 32: 1, "b" * 32: 2}
    add_refusal(home, time.time(), "GET", "a" * 32, "192.0.2.1", "one", slugs.get)

    for number in range(2 * MOST):
        add_refusal(home, time.time(), "GET", "b" * 32, "192.0.2.2", str(number), slugs.get)

    add_refusal(home, time.time(), "GET", "c" * 32, "192.0.2.3", "unknown", slugs.get)
    found = [(each["slug"][0], each["problem"]) for each in read_refusals(home)]
    assert found == [("c", "unknown"), *(("b", str(n)) for n in range(2 * MOST - 1, MOST + 1, -1)), ("a", "one")]


@pytest.mark.parametrize("door", DOORS)
def test_what_doctor_calls_takes_no_place(ready: Installation, door: str) -> None:
    """`doctor` reads the answer to its call itself."""
    assert ready.call(door, asking(f"/run/{trigger.CHECK_SLUG}", "sig=" + "0" * 64)).refused
    assert read_refusals(str(ready.home)) == []


# As the services send them.
PREVIEWS = {
    "Slack": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Slack's pictures": "Slack-ImgProxy (+https://api.slack.com/robots)",
    "Facebook": "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Meta": "meta-externalfetcher/1.1",
    "iMessage": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 "
                "Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
    "X": "Twitterbot/1.0",
    "Telegram": "TelegramBot (like TwitterBot)",
    "WhatsApp": "WhatsApp/2.23.20.0",
    "Discord": "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "Teams": "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    "Microsoft": "Mozilla/5.0 (compatible; MicrosoftPreview/2.0; +https://aka.ms/MicrosoftPreview)",
    "Bing": "Mozilla/5.0 (Windows NT 6.1) AppleWebKit/534.34 (KHTML, like Gecko) Safari/534.34 BingPreview/1.0b",
    "LinkedIn": "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Mastodon": "http.rb/5.1.1 (Mastodon/4.2.0; +https://mastodon.example/) Bot",
    "Bluesky": "Mozilla/5.0 (compatible; Bluesky Cardyb/1.1; +mailto:support@bsky.app)",
    "Zoom": "ZoomBot (Linkbot 1.0 http://zoom.us)",
    "Keybase": "Mozilla/5.0 (compatible; KeybaseBot; +https://keybase.io)",
    "Misskey": "SummalyBot/5.0.0",
    "Lemmy": "Lemmy/0.19.3; +https://lemmy.example",
    "Akkoma": "Akkoma 3.10.4; https://akkoma.example <admin@akkoma.example>",
    "Friendica": "Friendica 'Giant Rhubarb' 2023.12-1542; https://friendica.example",
    "Discourse": "Discourse Forum Onebox v3.1.0",
    "Bitly": "bitlybot/3.0 (+http://bit.ly/)",
    "OK": "Mozilla/5.0 (compatible; OdklBot/1.0; share@odnoklassniki.ru)",
}
CALLERS = {
    "curl": "curl/8.5.0", "wget": "Wget/1.21.3", "cron-job.org": "Mozilla/4.0 (compatible; cron-job.org; "
    "http://cron-job.org/abuse/)", "EasyCron": "EasyCron/1.0 (https://www.easycron.com/)", "no name": "",
    "a monitor": "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "a browser": "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "PHP": "PHP/8.2",
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("service", PREVIEWS)
def test_a_preview_runs_nothing(installation: Installation, door: str, service: str) -> None:
    """Somebody sends a URL to a friend or to a group, and its service looks what is behind it."""
    installation.add()

    for agent in (PREVIEWS[service], PREVIEWS[service].upper()):
        assert installation.trigger(door, HTTP_USER_AGENT=agent).refused

    assert installation.claims() == []
    assert installation.history() == []


@pytest.mark.parametrize("service", CALLERS)
def test_those_who_call_urls_are_no_previews(installation: Installation, service: str) -> None:
    """Panels, monitors and people."""
    installation.add()
    assert installation.trigger("wsgi", HTTP_USER_AGENT=CALLERS[service]).document["accepted"] is True
    installation.idle()
