# SPDX-License-Identifier: LGPL-3.0-or-later
"""The list, one task and its form: what is shown, what a form changes and what it never does."""

from __future__ import annotations

import html
import re
import time
from typing import Any

import pytest

from tests.admin.client import PASSWORD, Browser, Elements, Page, registered
from tests.installation import Installation, until, waits_for
from webscheduler import editing
from webscheduler.admin.web import version
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.schedule import slots
from webscheduler.store import history, history_view, state
from webscheduler.store.task import FIELDS
from webscheduler.times import format_time

NEW = {"name": "first", "command": "hello", "kind": "none", "do": "save"}


def create(browser: Browser, **fields: Any) -> Any:
    browser.get("edit")
    return browser.submit("edit", **{**NEW, **fields})


def test_an_empty_list_says_what_to_do(owner: Browser) -> None:
    page = owner.get()
    assert "No tasks yet" in page
    assert "Never called so far" in page
    assert page.text.count("New task") == 1


def test_a_task_that_cannot_be_loaded_is_deleted_from_the_list(owner: Browser, inhabited: Installation) -> None:
    """It has no page; without a shell nothing else would remove it."""
    inhabited.add("broken")
    inhabited.edit("broken", timeout="long")
    page = owner.get()
    assert "broken: timeout: must be" in html.unescape(page.text)
    assert "Delete broken?" in owner.get("delete", name="broken")
    assert "broken is deleted" in owner.submit("delete")
    assert "broken" not in state.read(str(inhabited.home))
    assert owner.get("delete", name="broken").status == 404


def test_a_task_is_made_and_its_secret_shown_once(owner: Browser, inhabited: Installation) -> None:
    """The page after creation has the secret, the URL and the ways to use it; no reload has the secret again."""
    page = create(owner)
    row = inhabited.row("first")
    assert row["command"] == "hello"
    assert row["enabled"] is True
    assert row["secret"] in page
    assert f"curl -fsS &#x27;https://example.org/cron/run/{row['slug']}?sig=" in page
    assert "cPanel" in page
    assert "Infomaniak" in page
    again = owner.request(page.url)
    assert row["secret"] not in again
    assert f"/run/{row['slug']}?sig={inhabited.signature('first')}" in again
    assert owner.errors == ""


def test_another_page_that_refreshes_itself_does_not_use_up_the_secret(owner: Browser, inhabited: Installation) -> None:
    """What is shown once waits for the page that it is for."""
    owner.get("edit")
    target = owner.submit("edit", **NEW, follow=False).header("Location")
    owner.get("history", poll="1")
    assert inhabited.row("first")["secret"] in owner.request(str(target))


def test_a_new_secret_refuses_the_old_url(owner: Browser, inhabited: Installation) -> None:
    """Asked for first; afterwards the signature of the old URL is refused and the new one accepted."""
    create(owner)
    old = inhabited.signed("first")
    page = owner.get("secret", name="first")
    assert "stops working at once" in page
    assert inhabited.wsgi(old).document["accepted"]
    inhabited.idle()
    page = owner.submit("secret")
    assert "The old URL no longer works." in page
    assert inhabited.row("first")["secret"] in page
    assert inhabited.wsgi(old).refused
    assert inhabited.wsgi(inhabited.signed("first")).document["accepted"]
    inhabited.idle()


def test_what_was_done_is_told_though_it_cannot_be_noted(owner: Browser, inhabited: Installation) -> None:
    """A new secret is shown where audit.jsonl cannot be written; the server's log gets the line instead."""
    create(owner)
    old = inhabited.row("first")["secret"]
    owner.get("secret", name="first")
    (inhabited.home / "audit.jsonl").unlink()
    (inhabited.home / "audit.jsonl").mkdir()
    sent = owner.submit("secret", follow=False)
    assert sent.status == 303
    assert "made a new secret first" in owner.errors
    shown = owner.request(sent.header("Location") or "")
    new = inhabited.row("first")["secret"]
    assert new != old
    assert new in shown


FULL = {"title": "T & <b>", "description": "two\nlines\n", "group": "shop", "timezone": "Europe/Paris",
        "expression": "*/7 3 * * 1-5", "intervalSeconds": 5400, "priority": -3, "timeout": 0, "preventOverlap": False,
        "arguments": "a 'b c'", "strategy": "close", "minIntervalSeconds": 90, "ipAllowlist": ["203.0.113.0/24", "::1"],
        "signature": "either", "catchUpSeconds": 0, "retries": 3, "retryDelaySeconds": 7, "failureStatus": 500,
        "logOutput": False, "logErrorOutput": True, "logRetentionDays": 0, "enabled": False, "notify": False}
STRANGE = {"title": "a\u202eb\x1b[31m\ttab", "description": "\n\r\nline\r \u2066x", "group": "g&amp;\"'<",
           "arguments": "a\tb   c "}


@pytest.mark.parametrize("fields", [{}, FULL, STRANGE, {"intervalSeconds": 90 * 60}, {"intervalSeconds": 86400},
                                    {"expression": "@daily"}, {"expression": " 0  3 * * * "}])
def test_saving_an_untouched_form_changes_nothing(
    owner: Browser, inhabited: Installation, fields: dict[str, Any]
) -> None:
    """Not a byte of the task, whatever it holds: an interval in another unit, invisible characters, line breaks."""
    registered(inhabited, "task", "hello", **fields)
    before = inhabited.row("task")
    owner.get("edit", name="task")
    page = owner.submit("edit", do="save")
    assert "Nothing was changed." in page
    assert inhabited.row("task") == before


def test_one_changed_field_changes_one_field(owner: Browser, inhabited: Installation) -> None:
    """Only what was edited is written; what the form cannot carry stays as it is."""
    registered(inhabited, "task", "hello", unknown={"kept": 1}, **{**FULL, **STRANGE})
    before = inhabited.row("task")
    owner.get("edit", name="task")
    owner.submit("edit", do="save", priority="5")
    assert inhabited.row("task") == {**before, "priority": 5}


@pytest.mark.parametrize(("control", "text", "field"), [
    ("title", "New", "title"), ("timeout", "60", "timeout"), ("timeout", "", "timeout"), ("retries", "2", "retries"),
    ("ipAllowlist", "192.0.2.0/24\n2001:db8::/32", "ipAllowlist"), ("logOutput", "false", "logOutput"),
    ("logOutput", "", "logOutput"), ("strategy", "sync", "strategy"), ("signature", "timed", "signature"),
    ("enabled", None, "enabled"), ("preventOverlap", None, "preventOverlap"), ("failureStatus", "503", "failureStatus"),
    ("notify", None, "notify"), ("arguments", "x 'y z'", "arguments"), ("timezone", "America/New_York", "timezone")])
def test_every_kind_of_field(owner: Browser, inhabited: Installation, control: str, text: Any, field: str) -> None:
    """What is typed arrives as the field's own kind of value."""
    registered(inhabited, "task", "hello", timeout=5, logOutput=True)
    owner.get("edit", name="task")
    assert owner.submit("edit", do="save", **{control: text}).status == 200
    known = FIELDS[field]
    value = inhabited.row("task")[field]
    expected: Any = text

    if known.kind in ("int", "seconds"):
        expected = int(text) if text else None
    elif known.kind == "bool":
        expected = {"false": False, "": None, None: False}[text]
    elif known.kind == "networks":
        expected = text.split()

    assert value == expected


@pytest.mark.parametrize(("fields", "expected"), [
    ({"kind": "cron", "expression": "5 4 1 1 *"}, ("5 4 1 1 *", None)),
    ({"kind": "daily", "at": "03:05"}, ("5 3 * * *", None)),
    ({"kind": "weekdays", "at": "9:30"}, ("30 9 * * 1-5", None)),
    ({"kind": "weekly", "at": "23:59", "weekday": "0"}, ("59 23 * * 0", None)),
    ({"kind": "monthly", "at": "00:00:00", "monthday": "31"}, ("0 0 31 * *", None)),
    ({"kind": "monthly", "at": "05:00", "monthday": "L"}, ("0 5 L * *", None)),
    ({"kind": "interval", "amount": "90", "unit": "60"}, (None, 5400)),
    ({"kind": "interval", "amount": "1", "unit": "86400"}, (None, 86400)), ({"kind": "none"}, (None, None))])
def test_schedules(owner: Browser, inhabited: Installation, fields: dict[str, str], expected: tuple[Any, Any]) -> None:
    """None, a time of day, cron, or an interval with a unit; switching clears the other, and the form shows it again as
    it was chosen."""
    registered(inhabited, "task", "hello", expression="1 1 1 1 *")
    owner.get("edit", name="task")
    owner.submit("edit", do="save", **fields)
    row = inhabited.row("task")
    assert (row["expression"], row["intervalSeconds"]) == expected
    shown = owner.get("edit", name="task").form("edit")["fields"]
    assert {name: text.zfill(5) if name == "at" else text for name, text in shown.items() if name in fields} == {
        name: text.zfill(5)[:5] if name == "at" else text for name, text in fields.items()}


@pytest.mark.parametrize(("expression", "kind"), [
    ("0 3 * * *", "daily"), ("00 03 * * *", "daily"), ("0 3 * * 1-5", "weekdays"), ("0 3 * * 7", "cron"),
    ("0 3 * * MON", "cron"), ("0 3 1 * 1", "cron"), ("*/5 3 * * *", "cron"), ("0 3 31 * *", "monthly"),
    ("0 3 1 1 *", "cron"), ("0 24 * * *", "cron"), ("@daily", "cron"), ("0 3 LW * *", "cron")])
def test_a_schedule_is_picked_where_it_says_the_same(
    owner: Browser, inhabited: Installation, expression: str, kind: str
) -> None:
    """And is an expression where not."""
    registered(inhabited, "task", "hello", expression=expression)
    assert owner.get("edit", name="task").form("edit")["fields"]["kind"] == kind


def test_a_new_task_has_four_fields(owner: Browser, inhabited: Installation) -> None:
    """The others are folded, until one of them is wrong; a schedule that is wrong is said once."""
    page = owner.get("edit")
    first, _, more = page.text.partition("<details")
    assert re.findall(r'<label for="(\w+)"', first) == ["command", "kind", "name", "enabled"]
    assert len(re.findall(r'<label for="(\w+)"', more)) >= 18
    assert '<details class="stack">' in page
    assert '<details class="stack" open>' in create(owner, priority="high")
    page = create(owner, kind="daily", at="25:00")
    assert page.text.count("give a time of day like 03:00") == 1
    page = create(owner, kind="cron", expression="61 * * * *")
    assert page.text.count("is not within 0-59") == 1

    for kind in ("none", "interval", "daily"):
        page = create(owner, kind=kind, at="03:00", timezone="paris")
        assert (page.status, page.text.count("is not known here")) == (422, 1)


def test_a_zone_is_chosen_from_those_of_this_host(owner: Browser, inhabited: Installation) -> None:
    """By its place, too: what is not a zone gets a suggestion, in the task and in the settings."""
    assert '<option value="Europe/Paris">' in owner.get("edit")
    page = create(owner, timezone="paris")
    assert "did you mean &#x27;Europe/Paris&#x27;?" in page.text
    assert '<option value="Europe/Paris">' in owner.get("settings")
    assert "did you mean &#x27;America/New_York&#x27;?" in owner.submit("settings", timezone="New York")


@pytest.mark.parametrize(("control", "text", "said"), [
    ("name", "-x", "must be 1 to 100 printable characters"), ("name", "", "must be 1 to 100"),
    ("name", "taken", "exists already"), ("name", "tak/en", ""), ("command", "", "Choose a command"),
    ("command", "none such", "is not registered"), ("arguments", "'open", "no closing quotation"),
    ("expression", "99 * * * *", "is not within 0-59"), ("expression", "0 0 30 2 *", "never comes"),
    ("expression", "", "is empty"), ("priority", "1e3", "must be a whole number"), ("retries", "101", "must be from 0"),
    ("retries", "¹", "must be a whole number"), ("timezone", "Mars/Olympus", "is not known here"),
    ("timezone", "../../etc/passwd", "is not known here"), ("ipAllowlist", "10.0.0.0/33", "is not an address"),
    ("strategy", "magic", "must be one of"), ("minIntervalSeconds", "-1", "must be from 0"),
    ("title", "x" * 201, "is longer than 200"), ("group", "a\x00b", "NUL")])
def test_errors_stand_beside_their_fields_and_nothing_typed_is_lost(
    owner: Browser, inhabited: Installation, control: str, text: str, said: str
) -> None:
    """What is wrong is said at its field, everything else that was typed is still there, and nothing is saved."""
    inhabited.add("taken", argv=["/bin/true"])
    before = state.read(str(inhabited.home))
    typed = {"name": "fresh", "title": "Typed", "description": "a\nb", "kind": "cron", "expression": "0 4 * * *",
             "command": "hello", "arguments": "x", "group": "g"}
    page = create(owner, **{**typed, control: text})

    if not said:
        assert page.status == 200
        return

    assert page.status == 422
    assert said in re.sub("<[^>]*>", "", page.text).replace("&#x27;", "'")
    where = "schedule" if control == "expression" else control
    assert re.search(rf'id="{where}-error"', page.text)
    marked = re.findall(r'<(?:input|select|textarea)[^>]* name="(\w+)"[^>]* aria-invalid="true"', page.text)
    assert marked == [control]
    form = page.form("edit")

    for name, value in typed.items():
        if name != control:
            assert form["fields"][name].strip("\n") == value, name

    assert state.read(str(inhabited.home)) == before


def test_a_form_of_another_state_is_not_saved_unseen(owner: Browser, inhabited: Installation) -> None:
    """Somebody changed the task after the form was loaded: it is said first, and the second time it is saved."""
    registered(inhabited, "task", "hello")
    owner.get("edit", name="task")
    inhabited.edit("task", priority=7, retries=2)
    page = owner.submit("edit", do="save", title="Mine")
    assert page.status == 422
    assert "else changed this task" in page
    assert inhabited.row("task")["title"] == ""
    owner.submit("edit", do="save", priority="7", retries="2")
    row = inhabited.row("task")
    assert (row["title"], row["priority"], row["retries"]) == ("Mine", 7, 2)


def test_what_somebody_else_saved_is_shown_and_kept(owner: Browser, inhabited: Installation) -> None:
    """Beside the control, and taken over where nothing was typed; what both changed is as it was typed here."""
    registered(inhabited, "task", "hello", expression="0 3 * * *")
    owner.get("edit", name="task")
    inhabited.edit("task", priority=7, title="Theirs", expression="0 4 * * *")
    page = owner.submit("edit", do="save", title="Mine", retries="2")
    assert page.status == 422
    assert 'id="title-error">Somebody else saved this in the meantime: Theirs<' in page
    assert 'id="priority-error">Somebody else saved this in the meantime: 7<' in page
    assert 'id="kind-error">Somebody else saved this in the meantime: Every day at 04:00<' in page
    assert "retries-error" not in page
    assert owner.submit("edit", do="save").status == 200
    row = inhabited.row("task")
    assert [row[name] for name in ("title", "priority", "retries", "expression")] == ["Mine", 7, 2, "0 4 * * *"]


def test_nothing_in_the_panel_names_a_program(owner: Browser, inhabited: Installation) -> None:
    """Fields that would be a shell are not taken from a form, whatever is sent along."""
    inhabited.add("task", argv=["/bin/true"])
    before = inhabited.row("task")
    owner.get("edit", name="task")
    page = owner.submit("edit", do="save", argv='["/bin/sh"]', cwd="/tmp", environment='{"A": "b"}', command="hello",
                        arguments="x", slug="0" * 32, secret="0" * 64)
    assert page.status == 200
    assert inhabited.row("task") == before
    create(owner, argv='["/bin/sh"]', cwd="/tmp", environment='{"A": "b"}')
    row = inhabited.row("first")
    assert (row["argv"], row["cwd"], row["environment"]) == (None, None, {})


def test_the_preview(owner: Browser) -> None:
    """The next five runs, in the task's zone; an expression that never comes is said; the part alone for a script."""
    owner.get("edit")
    page = owner.submit("edit", **{**NEW, "do": "preview", "kind": "cron", "expression": "0 3 * * *"})
    assert page.status == 200
    assert page.text.count("<li><time") == 5
    assert "Every day at 03:00" in page
    assert "has been no call so far" in page
    part = owner.get("preview", kind="interval", amount="90", unit="60")
    assert part.text.startswith('<div id="preview"')
    assert "Every 90 minutes" in part
    assert "never comes" in owner.get("preview", kind="cron", expression="0 0 30 2 *")
    assert "Runs only when" in owner.get("preview", kind="none")


@pytest.mark.parametrize(("fields", "said"), [
    ({"kind": "cron", "expression": "* * * * *"}, "The task is scheduled every 60 s, and ticks come every 900 s"),
    ({"kind": "interval", "amount": "15", "unit": "60"}, "The task has an interval of 900 s"),
    ({"kind": "cron", "expression": "0 3 * * *"}, "")])
def test_a_schedule_finer_than_the_calls_is_said(
    owner: Browser, inhabited: Installation, fields: dict[str, str], said: str
) -> None:
    """With what to set instead, in the words that `webscheduler status` has; a coarser one needs no word."""
    now = time.time()

    for number in (3, 2, 1):
        at = format_time(now - 900 * number)
        history.append(str(inhabited.home), "@due", {"command": "@due", "run": f"x{number}", "startedAt": at,
                                                     "finishedAt": at, "status": "success"})

    part = owner.get("preview", **fields).text
    assert ('class="warning"' in part) == bool(said)
    assert said in part


def test_enabling_duplicating_renaming_and_deleting(owner: Browser, inhabited: Installation) -> None:
    """Each with a message; deleting asks first, and a running task is neither renamed nor deleted."""
    create(owner, title="Mine", kind="cron", expression="0 3 * * *")
    owner.get("task", name="first")
    assert "Mine is disabled." in owner.submit("enable")
    assert inhabited.row("first")["enabled"] is False
    owner.submit("enable")
    assert inhabited.row("first")["enabled"] is True

    owner.get("edit", copy="first")
    assert owner.page.form("edit")["fields"]["name"] == "first-2"
    owner.submit("edit", do="save")
    one, two = inhabited.row("first"), inhabited.row("first-2")
    assert one["slug"] != two["slug"]
    assert one["secret"] != two["secret"]
    assert (two["title"], two["expression"]) == ("Mine", "0 3 * * *")

    owner.get("edit", name="first-2")
    owner.submit("edit", do="save", name="second")
    assert inhabited.row("second")["slug"] == two["slug"]
    page = owner.get("delete", name="second")
    assert "cannot be undone" in page
    assert "Mine is deleted." in owner.submit("delete")
    assert "second" not in state.read(str(inhabited.home))
    assert owner.get("delete", name="second").status == 404


def test_a_rename_with_other_changes_is_one_write(owner: Browser, inhabited: Installation) -> None:
    """A refused edit leaves the old name, and a refused name the other fields; what is accepted comes in at once, with
    its history and in its place in the file."""
    registered(inhabited, "old", "hello", priority=5)
    inhabited.add("taken", argv=["/bin/true"])
    inhabited.add("running", argv=["/bin/sleep", "60"])
    run_by_hand(str(inhabited.home), "old", "cli", time.time)
    before = state.read_strictly(str(inhabited.home))

    for wrong in ({"arguments": "'open"}, {"command": "none such"}, {"expression": "0 0 30 2 *", "kind": "cron"},
                  {"name": "taken"}, {"name": "@due"}, {"timezone": "Mars/Olympus"}):
        owner.get("edit", name="old")
        page = owner.submit("edit", do="save", **{"name": "new", "title": "Typed", **wrong})
        assert page.status == 422
        assert page.form("edit")["fields"]["title"] == "Typed"
        assert state.read_strictly(str(inhabited.home)) == before

    inhabited.trigger("wsgi", "running")
    inhabited.command_runs()
    owner.get("edit", name="running")
    assert "is running" in owner.submit("edit", do="save", name="new", title="Typed")
    assert inhabited.row("running")["title"] == ""

    owner.get("edit", name="old")
    assert "Typed is saved." in owner.submit("edit", do="save", name="new", title="Typed", priority="7")
    after = state.read_strictly(str(inhabited.home))
    assert list(after) == ["new" if name == "old" else name for name in before]
    assert after["new"] == {**before["old"], "title": "Typed", "priority": 7}
    assert len(inhabited.history("new")) == 1


def test_a_program_is_not_duplicated(owner: Browser, inhabited: Installation) -> None:
    """The form of the copy says why it has no command, from the beginning, and everything else is copied."""
    inhabited.add("shell", argv=["/bin/true"], title="Sh", expression="0 3 * * *", enabled=False)
    said = "The program of Sh was set on the command line and cannot be copied in the panel: choose a command."
    page = owner.get("edit", copy="shell")
    assert page.status == 200
    assert f'id="command-error">{said}' in page
    page = owner.submit("edit", do="save")
    assert page.status == 422
    assert f'id="command-error">{said}' in page
    owner.submit("edit", do="save", command="hello")
    row = inhabited.row("shell-2")
    assert [row[field] for field in ("argv", "command", "title", "expression")] == [None, "hello", "Sh", "0 3 * * *"]


def test_who_would_be_told_is_said_beside_the_field(owner: Browser, inhabited: Installation) -> None:
    """A task that is to be told of, and settings that name nobody, is no promise."""
    assert "Nobody is told yet" in owner.get("edit")
    inhabited.configure(notify={"email": "a@example.org"})
    assert "Nobody is told yet" not in owner.get("edit")


def test_a_running_task_is_not_deleted(owner: Browser, inhabited: Installation) -> None:
    inhabited.add("long", argv=["/bin/sleep", "60"])
    inhabited.trigger("wsgi", "long")
    inhabited.command_runs()
    owner.get("delete", name="long")
    assert "is running: cancel the run first" in owner.submit("delete")
    assert inhabited.row("long")


def test_due_cannot_be_deleted_or_given_a_schedule(owner: Browser, inhabited: Installation) -> None:
    """The built-in task has a form of its own; the rest of it is not to be had."""
    owner.get("edit", name="@due")
    form = owner.page.form("edit")
    assert "command" not in form["fields"]
    page = owner.submit("edit", do="save", ipAllowlist="192.0.2.1", command="hello", kind="interval", amount="5")
    assert page.status == 200
    row = inhabited.row("@due")
    assert row["ipAllowlist"] == ["192.0.2.1"]
    assert (row["command"], row["intervalSeconds"]) == (None, None)
    owner.get("delete", name="@due")
    owner.submit("delete")
    assert inhabited.row("@due")


def test_the_due_card_turns_green_at_the_first_call(owner: Browser, inhabited: Installation) -> None:
    """Waiting until a call came; then when, and later how often."""
    assert 'class="due waiting" id="live"' in owner.get()
    assert inhabited.trigger("wsgi", "@due").document["accepted"]
    until(lambda: inhabited.history("@due"), "the tick's line")
    page = owner.get()
    assert 'class="due good"' in page
    assert "Called once" in page


def test_the_list(owner: Browser, inhabited: Installation) -> None:
    """Groups, the command and its arguments, the schedule in words and raw, the last run and its outcome in words, the
    strip and the timeline with their texts; on the task's page the last call with address and outcome."""
    registered(inhabited, "shop:mail", "hello", arguments="you", expression="*/10 * * * *", group="shop",
                  title="Mail", minIntervalSeconds=3600)
    inhabited.add("bad", argv=["/bin/sh", "-c", "exit 127"])
    inhabited.trigger("wsgi", "shop:mail")
    inhabited.trigger("wsgi", "bad")
    inhabited.idle()
    inhabited.trigger("wsgi", "shop:mail")
    page = owner.get()
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page.text))
    assert "Every 10 minutes */10 * * * *" in text
    assert "hello you" in text
    assert "exit status 127: program not found" in text
    assert '<td class="group">shop</td>' in page
    assert "Runs that succeeded: 1 of the last 1" in page
    assert "Starts in the next 24 hours" in page
    assert re.search(r"<desc[^>]*>Mail: \d\d:\d\d \(Every 10 minutes\)</desc>", page.text)
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", owner.get("task", name="shop:mail").text))
    assert "Skipped called again too soon" in text
    assert "192.0.2.1" in text


def test_a_task_that_cannot_be_read_is_shown_and_the_others_too(owner: Browser, inhabited: Installation) -> None:
    inhabited.add("good", argv=["/bin/true"])
    inhabited.add("broken", argv=["/bin/true"], priority="high")
    inhabited.add("badcron", argv=["/bin/true"], expression="61 * * * *")
    registered(inhabited, "lost", "gone")
    page = owner.get()
    assert page.status == 200
    assert "priority" in page
    assert "good" in page
    assert "no longer registered" in page


HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "{token}", "{0.__class__}", "[[Tasks]]",
           "' onfocus='alert(1)", "&lt;b&gt;", "\u202egnp.exe", "a\x1b[31mred", "</textarea><script>", "%s %(x)s"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_titles_are_text(owner: Browser, inhabited: Installation, text: str) -> None:
    """In every place where a task's own words appear they are text: no element, no attribute, no direction mark."""
    registered(inhabited, "task", "hello", title=text, description=text, group=text, arguments=text.replace(
        "'", ""), expression="0 3 * * *")
    inhabited.configure(name=text)
    script = f"/cron/admin/script?v={version('script')}"

    for page in (owner.get(), owner.get("task", name="task"), owner.get("edit", name="task"), owner.get("history"),
                 owner.get("delete", name="task"), owner.get("secret", name="task"), owner.get("settings")):
        assert page.status == 200, page.text
        elements = Elements(page.text).found
        assert [given.get("src") for tag, given in elements if tag == "script"] == [script]
        assert not {"img", "style", "iframe", "object", "embed", "base"} & {tag for tag, _ in elements}
        assert not [name for _, given in elements for name in given if name.startswith("on") or name == "style"]
        assert "\u202e" not in page
        assert "\x1b" not in page
        assert owner.token() not in re.sub(r'value="[0-9a-f]{64}"', "", page.text)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\r\nSet-Cookie: x=y", "//evil.example", "../../etc",
                                  "é/?&=#", "x" * 101])
def test_hostile_names_in_the_query(owner: Browser, name: str) -> None:
    """A name that no task has is a page that says so, whatever it holds."""
    for page in ("task", "edit", "delete", "secret", "run", "output", "shim"):
        answer = owner.get(page, follow=False, name=name, run=name)
        assert answer.status == 404, page
        assert "<script>alert" not in answer
        assert answer.header("Set-Cookie") is None or "x=y" not in str(answer.headers)


def test_no_get_changes_anything(owner: Browser, inhabited: Installation) -> None:
    """Every page by GET and HEAD, with all that a form would send: not a byte of the home changes."""
    from webscheduler.admin import PAGES

    create(owner)
    owner.get("account")

    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in sorted(inhabited.home.rglob("*"))
                if file.is_file() and "locks" not in file.parts}

    before = content()

    for page in PAGES:
        for method in ("GET", "HEAD"):
            owner.request(f"/cron/admin/{page}?name=first&run=x&do=save&do=remove&enabled=no&token={owner.token()}"
                          if owner.page.text else "/cron/admin/", method, follow=False)
            assert owner.page.status < 500, page
            owner.get("account")

    assert content() == before


@pytest.mark.parametrize("headers", [
    {"HTTP_ORIGIN": "https://evil.example"}, {"HTTP_ORIGIN": "https://example.org.evil.example"},
    {"HTTP_ORIGIN": "https://example.org:8443"}, {"HTTP_SEC_FETCH_SITE": "cross-site"}, {"HTTP_ORIGIN": ""},
    {"HTTP_SEC_FETCH_SITE": "same-site"}, {"HTTP_SEC_FETCH_SITE": "none"}, {"HTTP_REFERER": "https://evil.example/x"},
    {"HTTP_ORIGIN": "null", "HTTP_SEC_FETCH_SITE": "cross-site"}])
def test_a_change_from_another_site_is_refused(
    owner: Browser, inhabited: Installation, headers: dict[str, str]
) -> None:
    """Even with the right token: origin, referrer or what the browser says of itself give it away."""
    inhabited.add("task", argv=["/bin/true"])
    owner.get("edit", name="task")
    assert owner.submit("edit", do="save", title="stolen", headers=headers).status == 403
    assert inhabited.row("task")["title"] == ""


@pytest.mark.parametrize("headers", [
    {"HTTP_ORIGIN": "http://example.org"}, {"HTTP_ORIGIN": "https://example.org"}, {},
    {"HTTP_ORIGIN": "null", "HTTP_SEC_FETCH_SITE": "same-origin"}, {"HTTP_REFERER": "http://example.org/cron/admin/"},
    {"HTTP_ORIGIN": "null"}])
def test_a_change_from_our_own_pages_is_not(owner: Browser, inhabited: Installation, headers: dict[str, str]) -> None:
    """As browsers send it: under `no-referrer` the origin is `null`, and Sec-Fetch-Site says that it is ours, but not
    over plain http, nor in a Safari before 16.4."""
    inhabited.add("task", argv=["/bin/true"])
    owner.get("edit", name="task")
    assert owner.submit("edit", do="save", title="mine", headers=headers).status == 200
    assert inhabited.row("task")["title"] == "mine"


def test_a_form_without_the_token_of_this_session_is_refused(inhabited: Installation) -> None:
    """No token, somebody else's, or that of the time before signing in: on every page that takes a POST, sign-in
    included."""
    from webscheduler.admin import PAGES

    inhabited.add("task", argv=["/bin/true"])
    mallory, alice = Browser(inhabited), Browser(inhabited)
    mallory.sign_in("eve")
    foreign = mallory.token()
    alice.get("sign-in")
    early = alice.token()
    alice.submit("sign-in", user="alice", password=PASSWORD)
    before = inhabited.row("task")

    for page, (_, _, change) in PAGES.items():
        if change is None:
            continue

        for token in ("", foreign, early, "0" * 64, "é"):
            answer = alice.post(f"/cron/admin/{page}?name=task", {"token": token, "do": "save", "user": "alice",
                                                                  "password": PASSWORD}, follow=False)
            assert answer.status == 403, (page, token)

    assert inhabited.row("task") == before


def test_every_answer_carries_its_headers(owner: Browser, inhabited: Installation) -> None:
    """Pages, errors, redirects, files and raw output alike."""
    inhabited.add("task", argv=["/bin/true"])
    pages = ["", "task?name=task", "nothing", "output?name=task&run=x", "sign-out", "style", "script", "icon", "people"]

    for page in [owner.request(f"/cron/admin/{page}", follow=False) for page in pages]:
        policy = str(page.header("Content-Security-Policy"))
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.header("X-Content-Type-Options") == "nosniff"
        assert page.header("Referrer-Policy") == "no-referrer"
        kind = str(page.header("Content-Type"))
        assert page.header("Cache-Control") == ("no-cache" if kind.startswith(("text/css", "text/javascript", "image"))
                                                else "no-store")

        if kind.startswith("text/html"):
            assert "style=" not in page
            assert not re.search(r"<style|<script>|javascript:", page.text)

    link = re.search(r'href="([^"]*style[^"]*)"', owner.get().text)
    assert link
    assert "immutable" in str(owner.request(link[1]).header("Cache-Control"))


def test_hosts_that_drop_path_info(inhabited: Installation) -> None:
    """Asked by a query, every link and form is made in that form too, and the whole way can be gone."""
    browser = Browser(inhabited)
    browser.request("/cron?admin=sign-in")
    browser.submit("sign-in", user="alice", password=PASSWORD)
    links = re.findall(r'(?:href|action)="([^"#]*)"', browser.page.text)
    assert links
    assert all(link.startswith("/cron?admin=") for link in links)
    browser.request("/cron?admin=edit")
    browser.submit("edit", **NEW)
    assert inhabited.row("first")
    browser.request("/cron?admin=history")
    browser.submit("get", status="success")
    assert browser.page.status == 200
    assert browser.query()["admin"] == "history"


def test_the_bare_url_leads_to_the_panel(inhabited: Installation) -> None:
    """To /admin/, or by a query where /admin/ was asked for and the host dropped it; never to another host."""
    browser = Browser(inhabited)
    assert browser.request("/cron", follow=False).header("Location") == "/cron/admin/"
    page = browser.request("/cron", follow=False, REQUEST_URI="/cron/admin/")
    assert page.header("Location") == "/cron?admin="
    page = browser.request("/cron", follow=False, SCRIPT_NAME="//evil.example/x", PATH_INFO="")
    assert page.header("Location") == "/evil.example/x/admin/"


def test_it_is_mounted_at_the_root_as_well(inhabited: Installation) -> None:
    browser = Browser(inhabited, SCRIPT_NAME="")
    browser.request("/admin/sign-in")
    page = browser.submit("sign-in", user="alice", password=PASSWORD)
    assert page.url == "/admin/"
    assert 'href="/admin/history"' in page
    assert "; Path=/;" in browser.last_cookie


@pytest.fixture
def crowded(inhabited: Installation) -> Installation:
    """A hundred and twenty tasks in three groups."""
    row = inhabited.row(inhabited.add("t", argv=["/bin/true"], expression="* * * * *"))
    tasks = {f"t{number:03}": {**row, "group": "abc"[number % 3], "slug": f"{number:032x}"} for number in range(120)}
    state.update(str(inhabited.home), lambda rows: (rows.pop("t"), rows.update(tasks)))
    return inhabited


def titles(page: Page) -> list[str]:
    return re.findall(r'<td class="task"><a href="[^"]*">(.*?)</a>', page.text)


def test_many_tasks_are_shown_in_pages(owner: Browser, crowded: Installation) -> None:
    """Each task once, in the order of the groups; `@due` heads each page."""
    pages = [owner.get(), *(owner.get(page=number) for number in (2, 3))]
    assert [name for page in pages for name in titles(page)] == [
        f"t{number:03}" for group in range(3) for number in range(group, 120, 3)]
    assert [sorted({*re.findall('<td class="group">([abc])</td>', page.text)}) for page in pages] == [
        ["a", "b"], ["b", "c"], ["c"]]
    assert ['class="due ' in page for page in pages] == [True, True, True]
    assert ["Tasks 1 to 50 of 120" in pages[0], "Tasks 101 to 120 of 120" in pages[2]] == [True, True]
    assert "And 35 more tasks." in pages[0]


def test_links_to_other_pages_keep_the_rest_of_the_query(owner: Browser, crowded: Installation) -> None:
    page = owner.get(page=2, other="a&b")
    links = re.findall(r'<a href="([^"]*)"( aria-current="page")?>(\d)</a>', page.text)
    assert [number for _, _, number in links] == ["1", "2", "3"]
    assert all("other=a%26b" in target for target, _, _ in links)
    assert [number for _, here, number in links if here] == ["2"]
    assert titles(owner.request(html.unescape(links[2][0]))) == [f"t{number:03}" for number in range(62, 120, 3)]


@pytest.mark.parametrize(("asked", "first"), [
    ("", "t000"), ("0", "t000"), ("-1", "t000"), ("x", "t000"), ("1.5", "t000"), ("\u0662", "t000"),
    ("9" * 400, "t000"), ("2", "t031"), ("02", "t031"), ("4", "t062"), ("99999999", "t062")])
def test_a_page_that_there_is_not(owner: Browser, crowded: Installation, asked: str, first: str) -> None:
    """What is no number leads to the first page, a number that is too high to the last."""
    assert titles(owner.get(page=asked))[0] == first


def select(browser: Browser, do: str, *names: str) -> Page:
    """Press a button below the list, with the boxes of these tasks ticked."""
    return browser.submit("selection", do=do, **{f"task:{name}": "on" for name in names})


def test_an_outcome_is_said_once(owner: Browser, inhabited: Installation) -> None:
    """By the page after the action, and by none after that."""
    inhabited.add("task", argv=["/bin/true"])
    owner.get("task", name="task")
    assert "task is disabled." in owner.submit("enable")
    assert "task is disabled." not in owner.get("task", name="task")


def test_the_selected_tasks_are_enabled_and_disabled(owner: Browser, crowded: Installation) -> None:
    """Those and no others; the answer is the list as it was asked for, and the audit names each."""
    owner.get(page=2, sort="name")
    page = select(owner, "disable", "t050", "t051")
    assert "Tasks disabled: 2." in page
    assert owner.query() == {"page": "2", "sort": "name"}
    assert [name for name in sorted(state.read(str(crowded.home))) if not crowded.row(name)["enabled"]] == [
        "t050", "t051"]
    assert "Tasks enabled: 1." in select(owner, "enable", "t050")
    assert crowded.row("t050")["enabled"] is True
    assert crowded.row("t051")["enabled"] is False
    audit = (crowded.home / "audit.jsonl").read_text()
    assert [audit.count(f'"{did}"') for did in ("disabled", "enabled")] == [2, 1]
    assert "Select tasks first." in select(owner, "disable")
    assert "Select tasks first." in select(owner, "disable", "@due", "no such task")


def test_the_selected_tasks_are_run(owner: Browser, inhabited: Installation) -> None:
    """Each once, one that runs already is named, and no more than may run at the same time."""
    for name in ("one", "two", "three"):
        inhabited.add(name, argv=["/bin/true"])

    inhabited.add("long", argv=["/bin/sleep", "60"])
    inhabited.configure(maxConcurrentTasks=2)
    owner.get()
    assert "At most 2 tasks" in select(owner, "run", "one", "two", "three")
    assert "Tasks started: 2." in select(owner, "run", "one", "two")
    inhabited.trigger("wsgi", "long")
    inhabited.command_runs()
    assert "Tasks started: 1. Already running: long" in select(owner, "run", "three", "long")
    until(lambda: [len(inhabited.runs(name)) for name in ("one", "two", "three")] == [1, 1, 1], "the runs")


def test_the_selected_tasks_are_deleted_after_a_question(owner: Browser, inhabited: Installation) -> None:
    """Which names them; a running one is kept and named."""
    for name in ("one", "two", "three"):
        inhabited.add(name, argv=["/bin/true"])

    inhabited.add("long", argv=["/bin/sleep", "60"])
    inhabited.trigger("wsgi", "long")
    inhabited.command_runs()
    owner.get()
    page = select(owner, "delete", "one", "two", "long")
    assert "Delete 3 tasks?" in page
    assert "one" in state.read(str(inhabited.home))
    assert "Tasks deleted: 2. These are running, so cancel their runs first: long" in owner.submit("selection")
    assert sorted(state.read(str(inhabited.home))) == ["@due", "long", "three"]


@pytest.mark.parametrize(("query", "expected"), [
    ({"search": "re"}, ["report", "shop:repair", "are"]), ({"search": "SHOP"}, ["shop:repair", "are"]),
    ({"group": "shop"}, ["are"]), ({"search": "re", "state": "disabled"}, ["report"]), ({"search": "zz"}, []),
    ({"state": "failing"}, ["shop:repair"]), ({"state": "never"}, ["are"]), ({"state": "success"}, ["dull"]),
    ({"sort": "name"}, ["are", "dull", "report", "shop:repair"]),
    ({"sort": "-name"}, ["shop:repair", "report", "dull", "are"]),
    ({"sort": "-last"}, ["dull", "shop:repair", "report", "are"]),
    ({"sort": "state"}, ["shop:repair", "are", "dull", "report"]), ({"sort": "<x>"}, ["dull", "report", "shop:repair",
                                                                                   "are"])])
def test_the_list_is_searched_filtered_and_sorted(
    owner: Browser, inhabited: Installation, query: dict[str, str], expected: list[str]
) -> None:
    """The best match of a search first; problems first by state; what cannot be sorted by is the usual order."""
    now = time.time()
    inhabited.add("report", argv=["/bin/true"], enabled=False)
    inhabited.add("shop:repair", argv=["/bin/true"], lastRunStatus="failed", lastRunAt=format_time(now - 99))
    inhabited.add("are", argv=["/bin/true"], group="shop")
    inhabited.add("dull", argv=["/bin/true"], lastRunStatus="success", lastRunAt=format_time(now - 9))
    page = owner.get(**query)
    assert titles(page) == expected
    assert ("No task matches." in page) == (not expected)

    for name, value in query.items():
        if name != "sort":
            assert page.form("get")["fields"][name] == value


def test_a_strategy_that_is_chosen_says_which(owner: Browser, inhabited: Installation) -> None:
    """The one that the diagnostics call selected; a strategy that is set is itself."""
    inhabited.add("task", argv=["/bin/true"], strategy="auto")
    inhabited.add("set", argv=["/bin/true"], strategy="close")
    elected = re.search(r"<td>(\w+) <span [^>]*>selected", owner.get("diagnostics").text)
    assert elected
    assert f"auto: now {elected[1]}" in owner.get("task", name="task")
    assert "auto: now" not in owner.get("task", name="set")


def test_only_what_is_shown_is_looked_at(
    owner: Browser, crowded: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories are read, and next runs told, of the tasks on the page alone."""
    seen: dict[str, set[str]] = {"history": set(), "next": set()}
    recent, next_at = history_view.recent, slots.next_at

    def reading(home: str, name: str, *most: int) -> Any:
        seen["history"].add(name)
        return recent(home, name, *most)

    def telling(task: Any, *rest: Any) -> Any:
        seen["next"].add(task.name)
        return next_at(task, *rest)

    monkeypatch.setattr(history_view, "recent", reading)
    monkeypatch.setattr(slots, "next_at", telling)
    shown = set(titles(owner.get(page=3)))
    assert len(shown) == 20
    assert seen == {"history": shown | {"@due"}, "next": shown}  # its strip is on each page


def test_who_holds_the_places_is_named(owner: Browser, inhabited: Installation) -> None:
    """On the card of `@due`: due tasks wait for the runs that hold all places."""
    inhabited.configure(maxConcurrentTasks=1)
    release = inhabited.home / "release"
    inhabited.add("hangs", waits_for(release), intervalSeconds=86400, priority=1)
    assert "No other due task" not in owner.get().text
    assert inhabited.trigger("wsgi", "@due").document["accepted"]
    until(lambda: inhabited.row("hangs")["lastRunStatus"] == "running", "the run")
    assert re.search(r"until one of these ends: hangs \(since <time .*</time>\)\.", owner.get().text)
    release.touch()
    inhabited.idle()
    assert "No other due task" not in owner.get().text


def test_late_tasks_are_named_wherever_they_are_listed(owner: Browser, crowded: Installation) -> None:
    """On the card of `@due`, with a word that there are more; also those of which no tick noted when they are due."""
    before = format_time(time.time() - 90000)
    fields = {"scheduledSince": before, "createdAt": before, "lastRunAt": before, "lastRunStatus": "success",
              "expression": None, "intervalSeconds": 3600}
    assert crowded.trigger("wsgi", "@due").document["accepted"]
    crowded.idle()

    def late(*names: str) -> str:
        for name in names:
            crowded.edit(name, **fields, nextRunAt=before if name < "t060" else None)

        found = re.search(r"Late: (.*?)\. Is the URL", owner.get().text)
        return found[1] if found else ""

    assert late() == ""
    assert late("t119") == "t119"
    assert late("t000", "t001", "t002", "t003", "t004") == "t000, t003, t001, t004, t002 …"


def test_the_old_url_works_for_a_day_or_until_a_click(owner: Browser, inhabited: Installation) -> None:
    """Chosen where a new secret is asked for; the task's page says until when, and ends it."""
    create(owner)
    old = inhabited.signed("first")
    owner.get("secret", name="first")
    assert "The old URL works for 24 hours." in owner.submit("secret", old="keep")
    page = owner.get("task", name="first")
    assert "Old URL works until" in page and inhabited.row("first")["oldSecret"]["secret"] not in page
    new = inhabited.signed("first")

    for environ in (old, new):
        assert inhabited.wsgi(environ).document["accepted"]
        inhabited.idle()

    assert "The old URL no longer works." in owner.submit("secret", old="end")
    assert "Old URL works until" not in owner.get("task", name="first")
    assert inhabited.wsgi(old).refused and inhabited.wsgi(new).document["accepted"]
    inhabited.idle()


def test_who_may_not_change_a_task_ends_no_old_url(inhabited: Installation) -> None:
    """A viewer sees until when it works, and neither the secret nor the button."""
    inhabited.add("task")
    editing.rotate_secret(str(inhabited.home), "task", 3600, time.time())
    viewer = Browser(inhabited)
    viewer.sign_in("victor")
    page = viewer.get("task", name="task")
    assert "Old URL works until" in page and "End it now" not in page
    assert viewer.post("/cron/admin/secret?name=task", {"token": viewer.token(), "old": "end"}).status == 403
    assert inhabited.row("task")["oldSecret"]
