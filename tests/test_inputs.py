# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whatever comes from outside, or was written into a file by hand, meets an error that is documented, in bounded work:
the rules of `tests/fuzz/rules.py`, for inputs that have the form of good ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz import rules
from tests.fuzz.rules import ROW
from tests.installation import Installation
from webscheduler import http
from webscheduler.admin import PAGES
from webscheduler.interchange import importing
from webscheduler.schedule.cron import Cron
from webscheduler.store.settings import SETTINGS
from webscheduler.store.task import FIELDS
from webscheduler.vocabulary import ENTRY

few = settings(max_examples=60, suppress_health_check=list(HealthCheck))
some = settings(few, max_examples=200)

texts = st.text(st.characters(max_codepoint=0x2FFF), max_size=60)
odd_numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -1, 2**63, 1e308, float("nan"), True]))
scalars = st.one_of(st.none(), st.booleans(), odd_numbers, texts,
                    st.sampled_from(["", "0", "\ud800", "@due", "a" * 5000]))
values = st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)), max_leaves=10)  # fmt: skip
NESTED = b'{"task": ' + b"[" * 100_000


@pytest.fixture(scope="module", autouse=True)
def paid_once() -> None:
    """What a process pays once, whatever it is asked first: modules, and the names of this host's zones."""
    rules.paid_once()


@pytest.fixture(scope="module")
def one() -> Iterator[Installation]:
    """An installation whose files each example writes anew: a new home for each takes longer than the test."""
    with tempfile.TemporaryDirectory() as folder:
        made = Installation(Path(folder, "home"))
        made.add(argv=["true"], expression="0 3 * * *")

        try:
            yield made
        finally:
            made.end()


def fuzzed(text: Any) -> bytes:
    return json.dumps(text).encode("utf-8", "surrogatepass")


# A request

queries = st.lists(st.one_of(
    texts, st.sampled_from(["sig", "ts", "task", "status", "admin", "=", "&", "%", "%zz", "%ff%fe", "+", "&amp;", ";"]),
    st.text("0123456789abcdefABCDEF", max_size=70)), max_size=12).map("".join)  # fmt: skip
latin = st.text(st.characters(max_codepoint=255), max_size=80)
paths = st.one_of(latin, st.sampled_from(["", "/", "/run", "/run/", "//run//x", "/status/" + "0" * 32,
                                          "/run/" + "f" * 32, "/run/" + "f" * 32 + "/x",
                                          "/run/" + "²" * 32]))  # fmt: skip
VARIABLES = ("QUERY_STRING", "HTTP_X_WEBSCHEDULER_SIGNATURE", "HTTP_X_WEBSCHEDULER_TIMESTAMP", "HTTP_X_FORWARDED_FOR",
             "HTTP_PURPOSE", "HTTP_SEC_PURPOSE", "REMOTE_ADDR", "SERVER_SOFTWARE", "CONTENT_LENGTH", "CONTENT_TYPE",
             "SCRIPT_NAME", "HTTP_HOST", "HTTP_COOKIE", "HTTP_TRANSFER_ENCODING")  # fmt: skip
environs = st.fixed_dictionaries(
    {"REQUEST_METHOD": st.one_of(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "", "get", "PÜT"]), latin),
     "PATH_INFO": paths}, optional=dict.fromkeys(VARIABLES, st.one_of(latin, queries.filter(
         lambda text: all(ord(each) < 256 for each in text)))))  # fmt: skip


@some
@given(queries)
@example("&" * 100_000)
@example("a=%" * 30_000)
def test_a_query_string_has_no_errors(text: str) -> None:
    """Any text is a list of names and values, at most 500, of at most its own length."""
    assert len(rules.query(text)) <= http.MAX_FIELDS


@some
@given(environs, st.binary(max_size=200))
def test_a_request_is_answered_and_runs_nothing(one: Installation, environ: dict[str, str], body: bytes) -> None:
    """Without the signature nothing runs, and the answer is one of those that are documented."""
    assert rules.request(one, environ, body).status in rules.STATUSES


# Schedules

@some
@given(st.text(alphabet="0123456789*/,-?LW# @JANMONdaily\t\x00\n¹é", max_size=60))
@example("*/1," * 2000 + "* * * * *")
@example("0 0 29 2 1#5")
@example("0 0 31 2,4,6,9,11 *")
@example("0-59/59 0-23/23 L 2 0#5")
@example("9" * 5000 + " * * * *")
def test_a_cron_expression_is_read_or_refused(text: str) -> None:
    """Any text is a schedule, whose next time is found in bounded work though it never comes, or a documented error."""
    assert isinstance(rules.cron(text), (Cron, type(None)))


# Files that people edit

rows = st.one_of(values, st.builds(lambda field, value: {**ROW, field: value},
                                   st.sampled_from(sorted(FIELDS)), values))  # fmt: skip


@few
@given(st.one_of(st.binary(max_size=200), values.map(fuzzed), st.dictionaries(
    st.one_of(st.sampled_from(["task", "@due", "", "a/b", "\ud800"]), texts), rows, max_size=3).map(fuzzed)))
@example(NESTED)
@example(b'{"task": {"timeout": ' + b"9" * 5000 + b"}}")
@example(b'{"task": {"enabled": true, "argv": ["true"], "intervalSeconds": 1e999}}')
def test_a_state_of_any_content(one: Installation, content: bytes) -> None:
    """With any state.json each reader says what is wrong with it, in bounded work, and no request is answered with
    anything but the answers for an unknown slug or for an installation that cannot work."""
    assert rules.state_file(one, content) in (202, 503)


@few
@given(st.one_of(st.binary(max_size=200), values.map(fuzzed), st.dictionaries(
    st.one_of(st.sampled_from(sorted(SETTINGS)), texts), values, max_size=3).map(fuzzed)))
@example(NESTED)
def test_a_config_of_any_content(one: Installation, content: bytes) -> None:
    """With any config.json the settings are read, or what is wrong is said; a request answers 503 at the worst."""
    assert rules.config_file(one, content) in (202, 503)


entries = st.one_of(values, st.dictionaries(st.sampled_from(sorted(ENTRY)), values, max_size=6))


@few
@given(st.lists(st.one_of(st.binary(max_size=80), entries.map(fuzzed)), max_size=6).map(b"\n".join), st.booleans())
@example(b"[" * 100_000, True)
@example(b'{"finishedAt": "9999-99-99T99:99:99Z", "run": "20269999999999-00000000"}', True)
def test_a_history_of_any_content(one: Installation, content: bytes, whole: bool) -> None:
    """With any lines in a history, what can be read is shown, searched and cleaned, and a new line comes after it."""
    assert rules.history_file(one, content + (b"\n" if whole else b""))[-1:] == [rules.RUN]


# The panel

KINDS = ("multipart/form-data; boundary=x", "multipart/form-data", "application/x-www-form-urlencoded", "")


@few
@given(st.lists(st.tuples(st.sampled_from(["webscheduler", "webscheduler_notice", "webscheduler_device",
                                           "webscheduler_stranger", "x"]), latin), max_size=4), latin)
@example([("webscheduler", "." * 100_000)], "")
@example([("webscheduler", "W10." + "0" * 64)], "")
def test_cookies_of_any_content(one: Installation, cookies: list[tuple[str, str]], rest: str) -> None:
    """A cookie that was not made here signs nobody in, and is answered as none."""
    text = "; ".join(f"{name}={value}" for name, value in cookies) + rest
    assert rules.cookies(one, text) == 303  # to signing in, or to set-up


others = ["* * * * *", "task", "on", "yes", "1", "²", "-1", "9" * 400, "\x00", "a\nb", "[]", "{}", '{"a": 1}', "1~2~3"]
fields = st.dictionaries(
    st.one_of(st.sampled_from(["page", "from", "to", "before", "run", "name", "stream", "kind", "every", "do"]), texts),
    st.one_of(texts, st.sampled_from(others)), max_size=6)
# What starts processes is no work of a form; its pages are in tests/admin.
FORMS = sorted(page for page in PAGES if page not in (
    "run-now", "probe", "check", "cancel", "notify-test", "update", "crontab", "diagnostics", "sign-out"))  # fmt: skip


@some
@given(st.sampled_from(FORMS), fields, st.booleans(), st.sampled_from(KINDS), st.binary(max_size=40), st.data())
def test_forms_of_any_content(
    one: Installation, page: str, more: dict[str, str], sends: bool, kind: str, raw: bytes, data: st.DataObject
) -> None:
    """Whatever a form of the panel holds, and however it is sent, the answer is a page that says what is wrong."""
    def body(form: dict[str, str]) -> bytes:
        wrong = data.draw(st.dictionaries(st.sampled_from(sorted(form)), st.one_of(texts, st.sampled_from(others))))
        wrong.pop("token", None)
        return raw if kind.startswith("multipart") else encoded({**form, "do": "save", **more, **wrong}).encode()

    assert rules.form(one, page, encoded(more), kind, body if sends else None) in rules.STATUSES


def encoded(form: dict[str, str]) -> str:
    return urlencode(list(form.items()), errors="replace")


# What is imported

crontabs = st.lists(st.one_of(
    texts, st.sampled_from(["* * * * * true", "@daily x", "@reboot x", "A=b", "CRON_TZ=Nowhere", "SHELL='", "# x",
                            "\\%", "* * * * * cat%a%b", "*/0 * * * * x", "1 2 3", "%", "0 0 1 1 * \x00"])), max_size=8)


@some
@given(crontabs.map("\n".join))
@example("@daily %x")
@example("CRON_TZ=Europ/Paris\n* * * * * x")
@example("A=" * 20_000)
@example("* * * * * " + "%" * 20_000)
def test_a_crontab_of_any_content(text: str) -> None:
    """Each line of a crontab becomes a task that can be loaded, or what is wrong with it is said."""
    rules.crontab(text)


@few
@given(st.one_of(texts, values.map(json.dumps), st.dictionaries(texts, rows, max_size=3).map(
    lambda tasks: json.dumps({"format": importing.FORMAT, "version": 1, "tasks": tasks}))))
@example("[" * 100_000)
@example('{"format": "' + importing.FORMAT + '", "version": true, "tasks": []}')
def test_a_backup_of_any_content(one: Installation, text: str) -> None:
    """A backup is imported as a whole, or refused by a documented error, after which nothing has changed."""
    rules.backup(one, text)
