# SPDX-License-Identifier: LGPL-3.0-or-later
"""Signatures: openssl is the witness."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.installation import DOORS, Installation, asking
from webscheduler import signing
from webscheduler.runs.indexing import refresh
from webscheduler.trigger import same

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "signatures.json").read_text())
SLUG, SECRET = "0123456789abcdef" * 2, "f" * 64


def openssl(secret: str, message: str) -> str:
    """What the documentation tells people to type."""
    if not shutil.which("openssl"):
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("openssl is missing")

    line = f"printf %s {message} | openssl dgst -sha256 -hmac {secret}"
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout.split()[-1]


def message_of(vector: dict[str, Any]) -> str:
    if vector["kind"] == "status":
        return signing.status_message(vector["slug"])

    return signing.run_message(vector["slug"], None if vector["ts"] is None else str(vector["ts"]))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['kind']}-{vector['slug'][:4]}")
def test_vectors(vector: dict[str, Any]) -> None:
    """What openssl once signed is what we sign, and we accept it, in capitals too; openssl still says the same."""
    message = message_of(vector)
    assert message == vector["message"]
    assert signing.sign(vector["secret"], message) == vector["signature"]
    assert same(vector["signature"], signing.sign(vector["secret"], message))
    assert same(signing.sign(vector["secret"], message), vector["signature"].upper())
    assert openssl(vector["secret"], message) == vector["signature"]


@pytest.mark.parametrize("signed", VECTORS, ids=lambda vector: f"{vector['kind']}-{vector['slug'][:4]}")
def test_a_signature_fits_one_message_only(signed: dict[str, Any]) -> None:
    """No signature of one kind, slug or time is one of another."""
    fitting = [v for v in VECTORS if same(signing.sign(v["secret"], message_of(v)), signed["signature"])]
    assert fitting == [signed]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("timed", [False, True], ids=["static", "timed"])
def test_openssl_can_trigger(installation: Installation, door: str, timed: bool) -> None:
    """A URL that somebody signed with openssl on a machine of their own runs the task."""
    installation.add(signature="timed" if timed else "static")
    row = installation.row()
    ts = str(int(time.time()))
    signature = openssl(row["secret"], f"{row['slug']}.{ts}" if timed else row["slug"])
    query = f"ts={ts}&sig={signature}" if timed else f"sig={signature}"
    answer = installation.call(door, asking(f"/run/{row['slug']}", query))
    assert answer.document["accepted"] is True
    installation.idle()
    assert [run["status"] for run in installation.runs()] == ["success"]


@pytest.mark.parametrize("indexed", [False, True])
def test_nobody_signs_nothing(installation: Installation, indexed: bool) -> None:
    """Whoever knows what stands in for unknown slugs and missing secrets has won nothing."""
    installation.add(secret=None)
    assert not indexed or refresh(str(installation.home))

    for slug in (SLUG, installation.row()["slug"]):
        for guess in (signing.sign(signing.DUMMY_SECRET, slug), "-" * 64, "0" * 64):
            assert installation.call("cgi", asking(f"/run/{slug}", f"sig={guess}")).refused

    assert installation.history() == []


@pytest.mark.parametrize(
    "signature",
    ["", "0", "0" * 64, "é" * 64, "\x00" * 64, "\ud800", "\u0663" * 64, signing.sign(SECRET, SLUG)[:-1],
     signing.sign(SECRET, SLUG) + "0", " " + signing.sign(SECRET, SLUG), signing.sign("e" * 64, SLUG)],
)  # fmt: skip
def test_anything_else_does_not_match(signature: str) -> None:
    """What is no signature, whatever its characters, is answered no and raises nothing."""
    assert not same(signing.sign(SECRET, SLUG), signature)


def test_urls() -> None:
    """The URLs are what is documented, whether or not the base ends with a slash, and need no escapes."""
    for base in ("https://example.org/cgi-bin/webscheduler.cgi", "https://example.org/cgi-bin/webscheduler.cgi/"):
        plain = base.rstrip("/")
        assert signing.trigger_url(base, SLUG, SECRET) == f"{plain}/run/{SLUG}?sig={signing.sign(SECRET, SLUG)}"
        assert signing.trigger_url(base, SLUG, SECRET, 17) == (
            f"{plain}/run/{SLUG}?ts=17&sig={signing.sign(SECRET, SLUG + '.17')}"
        )
        assert signing.status_url(base, SLUG, SECRET) == (
            f"{plain}/status/{SLUG}?sig={signing.sign(SECRET, 'status:' + SLUG)}"
        )


@pytest.mark.parametrize(("base", "query"), [
    ("https://example.org/cgi-bin/webscheduler.cgi", "https://example.org/cgi-bin/webscheduler.cgi?"),
    ("https://example.org/run/cron/", "https://example.org/run/cron?"), ("http://[::1]:8000", "http://[::1]:8000/?"),
])  # fmt: skip
def test_urls_by_query(base: str, query: str) -> None:
    """The same without a path behind the base, be it a script, a folder, or a host alone."""
    run, timed, status = (signing.trigger_url(base, SLUG, SECRET), signing.trigger_url(base, SLUG, SECRET, 17),
                          signing.status_url(base, SLUG, SECRET))
    assert signing.by_query(run) == f"{query}task={SLUG}&sig={signing.sign(SECRET, SLUG)}"
    assert signing.by_query(timed) == f"{query}task={SLUG}&ts=17&sig={signing.sign(SECRET, SLUG + '.17')}"
    assert signing.by_query(status) == f"{query}status={SLUG}&sig={signing.sign(SECRET, 'status:' + SLUG)}"


def test_keys() -> None:
    """Keys are lower-case hexadecimal of 128 and 256 bits, and no two are the same."""
    slugs = {signing.new_slug() for _ in range(1000)}
    secrets = {signing.new_secret() for _ in range(1000)}
    assert len(slugs) == len(secrets) == 1000
    assert all(len(slug) == 32 and int(slug, 16) >= 0 and slug == slug.lower() for slug in slugs)
    assert all(len(secret) == 64 and int(secret, 16) >= 0 and secret == secret.lower() for secret in secrets)
