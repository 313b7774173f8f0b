# SPDX-License-Identifier: LGPL-3.0-or-later
"""Settings, notifications, backup and restore, exports, diagnostics and the probe, and setting up by a code."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser, registered, restore
from tests.commandline import call
from tests.installation import Installation, until
from tests.listeners import listening
from webscheduler import __version__
from webscheduler.errors import BadInput
from webscheduler.interchange import importing
from webscheduler.store import capabilities, state
from webscheduler.store.settings import FORMAT, load_settings, read_settings, save_settings


def test_saving_untouched_settings_changes_nothing(owner: Browser, inhabited: Installation) -> None:
    inhabited.configure(notify={"email": "a@example.org"}, logOutput=False, unknown=1, tickBudgetSeconds=20)
    before = read_settings(str(inhabited.home))
    owner.get("settings")
    assert "Nothing was changed." in owner.submit("settings")
    assert read_settings(str(inhabited.home)) == before


@pytest.mark.parametrize(("name", "text", "value"), [
    ("name", "Shop", "Shop"), ("timezone", "Europe/Paris", "Europe/Paris"), ("language", "fr", "fr"),
    ("email", "a@example.org", {"email": "a@example.org"}),
    ("defaultTimeout", "0", 0), ("logOutput", None, False), ("failureRetentionDays", "90", 90),
    ("baseUrl", "https://example.com/x", "https://example.com/x"),
    ("url", "https://example.org/hook", {"url": "https://example.org/hook"})])
def test_settings_are_saved(owner: Browser, inhabited: Installation, name: str, text: Any, value: object) -> None:
    owner.get("settings")
    assert owner.submit("settings", **{name: text}).status == 200
    assert load_settings(str(inhabited.home))["notify" if name in ("email", "url") else name] == value


@pytest.mark.parametrize(("name", "text"), [
    ("timezone", "Nowhere"), ("baseUrl", "javascript:alert(1)"), ("defaultTimeout", "-1"), ("maxConcurrentTasks", "x"),
    ("language", "xx"), ("email", "no address"), ("baseUrl", "https://u:p@example.org/"), ("name", "x" * 101)])
def test_wrong_settings_are_said_at_their_field(owner: Browser, inhabited: Installation, name: str, text: str) -> None:
    before = read_settings(str(inhabited.home))
    owner.get("settings")
    page = owner.submit("settings", **{name: text, "logRetentionDays": "77"})
    assert page.status == 422
    assert f'id="{name}-error"' in page
    assert page.form("settings")["fields"]["logRetentionDays"] == "77"
    assert read_settings(str(inhabited.home)) == before


def test_nothing_that_is_a_shell_can_be_set(owner: Browser, inhabited: Installation) -> None:
    """Programs, modules, the environment and proxies are the command line's."""
    before = read_settings(str(inhabited.home))
    owner.get("settings")
    owner.submit("settings", python="/tmp/x", php="/tmp/x", modules="os", setup="os:system", environment='{"A": "b"}',
                 commands='{"x": {"argv": ["/bin/sh"]}}', trustedProxies="0.0.0.0/0")
    assert read_settings(str(inhabited.home)) == before


def backup(owner: Browser) -> dict[str, Any]:
    owner.get("settings")
    page = owner.post("/cron/admin/backup", {"token": owner.token(), "do": "download"})
    assert page.header("Content-Disposition") == 'attachment; filename="webscheduler-backup.json"'
    document: dict[str, Any] = json.loads(page.text)
    return document


def test_backup_and_restore(owner: Browser, inhabited: Installation) -> None:
    """What was saved comes back whole, URLs included; tasks that came later stay."""
    inhabited.add("task", argv=["/bin/echo", "hi"], title="Tâche")
    document = backup(owner)
    before = inhabited.row("task")
    inhabited.edit("task", title="spoilt", secret="0" * 64, argv=["/bin/false"])
    inhabited.add("later")
    page = restore(owner, document)
    assert "Tasks restored: 2." in page
    assert inhabited.row("task") == before
    assert inhabited.row("later")


def test_what_restoring_changes_is_shown_before(owner: Browser, inhabited: Installation) -> None:
    """Field by field, without secrets; nothing is written, and nothing is left to show once it is restored."""
    inhabited.add("task", argv=["/bin/echo", "hi"], title="Tâche")
    inhabited.add("gone")
    inhabited.configure(name="Shop")
    document = backup(owner)
    call(inhabited.home, "remove", "gone", "--yes")
    inhabited.edit("task", title="<b>", secret="0" * 64)
    inhabited.configure(name="Other")
    before = state.read(str(inhabited.home)), read_settings(str(inhabited.home))
    assert f'formaction="{owner.get("settings").form("backup")["action"]}?do=preview"' in owner.page
    page = restore(owner, document, "?do=preview")
    lines = re.findall(r'<code class="line"[^>]*>(.*?)</code>', page.text)
    assert lines == ["task: secret: ***", "task: title: &quot;&lt;b&gt;&quot; -&gt; &quot;Tâche&quot;", "gone: added",
                     "name: &quot;Other&quot; -&gt; &quot;Shop&quot;"]
    assert document["tasks"]["task"]["secret"] not in page and "Nothing is changed yet" in page
    assert (state.read(str(inhabited.home)), read_settings(str(inhabited.home))) == before
    assert "Tasks restored: 3." in restore(owner, document)
    assert "Nothing is different." in restore(owner, document, "?do=preview")
    document["tasks"]["task"]["argv"] = ["/bin/sh"]
    assert ">task: left out<" in restore(owner, document, "?do=preview").text
    inhabited.configure(language="fr")
    assert ">task: laissée de côté<" in restore(owner, document, "?do=preview").text
    inhabited.configure(language="en")
    document["tasks"]["task"]["expression"] = "99 * * * *"
    assert "Nothing was changed: task task: expression:" in restore(owner, document, "?do=preview")


def test_urls_outlive_the_restoring_of_an_export(owner: Browser, inhabited: Installation) -> None:
    """One without secrets gives no task that is here another URL, as `import` does not."""
    registered(inhabited, "task", "hello", title="old")
    before, due = inhabited.row("task"), inhabited.row("@due")
    text = call(inhabited.home, "export", "json").out
    inhabited.edit("task", title="new", slug="0" * 32)
    before["slug"] = "0" * 32
    page = restore(owner, text, "?do=preview")
    assert re.findall(r'<code class="line"[^>]*>(.*?)</code>', page.text) == [
        "task: title: &quot;new&quot; -&gt; &quot;old&quot;"]
    assert "Tasks restored: 2." in restore(owner, text)
    assert inhabited.row("task") == before and inhabited.row("@due") == due


def test_many_names_left_out_are_said(owner: Browser) -> None:
    """What the next page is to say fits into a cookie, however much it is."""
    tasks = {f"programme-{number}-é": {"argv": ["/bin/true"]} for number in range(400)}
    page = restore(owner, {"tasks": tasks, "format": importing.FORMAT, "version": importing.VERSION})
    assert "Left out" in page
    assert "programme-0-é" in page


def test_a_forged_backup_is_no_shell(owner: Browser, inhabited: Installation) -> None:
    """A file that was not made here, or was changed since, brings no program, directory or environment, nor settings
    that name some; registered commands do come in."""
    inhabited.add("task", argv=["/bin/echo", "hi"])
    document = backup(owner)
    document["tasks"]["evil"] = {"enabled": True, "argv": ["/bin/sh", "-c", "id"]}
    document["tasks"]["task"]["environment"] = {"LD_PRELOAD": "/tmp/x.so"}
    document["tasks"]["fine"] = {"enabled": True, "command": "hello"}
    document["settings"].update(python="/tmp/evil", commands={"x": {"argv": ["/bin/sh"]}}, name="Renamed")
    page = restore(owner, document)
    assert "Left out" in page
    tasks = state.read(str(inhabited.home))
    assert "evil" not in tasks
    assert tasks["task"]["environment"] == {}
    assert tasks["fine"]["command"] == "hello"
    settings = load_settings(str(inhabited.home))
    assert (settings["python"], settings["commands"], settings["name"]) == (None, {}, "Renamed")


def test_what_stays_behind_of_an_export_is_said(owner: Browser, inhabited: Installation, tmp_path: Path) -> None:
    """As `import` says it: an export has no values of settings, and its history comes in on the command line. Of a
    backup that was made here nothing stays behind."""
    other = Installation(tmp_path / "other")
    other.configure(timezone="Europe/Paris", name="Shop", defaultTimeout=60)
    other.add("daily", expression="0 3 * * *")
    registered(other, "named", "hello", expression="0 3 * * *")
    other.trigger("wsgi", "named")
    other.idle()
    text = call(other.home, "export", "json", "--history").out
    page = restore(owner, text)
    assert "Left out, because the file was not made here or was changed since: daily<br>" in page
    assert ("<br>Tasks with an expression and no time zone of their own: 1; they ran in Europe/Paris, and here run in "
            "UTC. Settings stay behind: name, defaultTimeout. Their history stays behind.</p>") in page
    assert inhabited.history("named") == []
    french = Browser(inhabited, HTTP_ACCEPT_LANGUAGE="fr")
    french.sign_in()
    page = restore(french, text)
    assert "<br>Tâches avec une expression et sans fuseau horaire propre : 1 ; elles s’exécutaient en Europe" in page
    assert "Réglages qui ne suivent pas : name, defaultTimeout. Leur historique ne suit pas.</p>" in page
    document = backup(owner)
    inhabited.configure(timezone="Asia/Tokyo", name="Mine")
    assert "Tasks restored: 2.</p>" in restore(owner, document)
    moved = {**document, "timezone": "Asia/Tokyo", "people": 2, "settings": {"python": "/usr/bin/python9"}}
    page = restore(owner, moved)
    assert "they ran in Asia/Tokyo, and here run in UTC" in page
    assert "Settings stay behind: python. People of the panel stay behind: 2.</p>" in page


GOOD_TASK = {"enabled": True, "command": "hello", "expression": "0 3 * * *"}


def test_a_restored_task_without_its_command_is_shown(owner: Browser, inhabited: Installation) -> None:
    """It comes in and is named, since it cannot run; a command of the settings in the same file counts as there."""
    inhabited.configure(commands={"report": {"argv": ["/bin/true"]}})
    registered(inhabited, "task", "report")
    document = backup(owner)
    inhabited.configure(commands={})
    assert "Tasks restored: 1." not in restore(owner, {**document, "settings": {}, "seal": ""})
    assert "These cannot run until their command is registered: task" in owner.page
    assert inhabited.row("task")["command"] == "report"
    assert "Tasks restored: 2.</p>" in restore(owner, document)
    assert load_settings(str(inhabited.home))["commands"]


@pytest.mark.parametrize("document", [
    {"settings": {"baseUrl": "javascript:alert(1)"}}, {"settings": {"timezone": "Mars/Olympus"}},
    {"tasks": {"@due": {"command": "hello"}}}, {"tasks": {"@due": {"expression": "0 3 * * *"}}},
    *({"tasks": {"good": GOOD_TASK, "bad": {**GOOD_TASK, **fields}}} for fields in (
        {"expression": "61 * * * *"}, {"expression": "0 0 30 2 *"}, {"timezone": "Mars/Olympus"}, {"command": None},
        {"argv": ["/bin/true"]}, {"arguments": "'open"}, {"slug": "0" * 32}, {"priority": "x"}, {"command": ["x"]})),
    {"tasks": {"b/ad": GOOD_TASK, "b_ad": GOOD_TASK}}, {"tasks": {"b:ad": GOOD_TASK, "good": GOOD_TASK}}])
def test_a_backup_is_checked_as_a_form_is(owner: Browser, inhabited: Installation, document: dict[str, Any]) -> None:
    """What no form would take, a URL of two tasks, and names whose files would be the same change nothing, not even
    the settings beside them; the one line says which task it is."""
    inhabited.add("b_ad", slug="0" * 32)
    before = state.read(str(inhabited.home)), read_settings(str(inhabited.home))
    page = restore(owner, {"format": "webscheduler tasks", "version": 1, "tasks": {}, "settings": {"name": "new"},
                           **document})
    assert "Nothing was changed" in page
    named = [name for name in document.get("tasks", ()) if name != "good"]
    assert not named or re.search(rf"Nothing was changed: task ({'|'.join(named)}): [^\n]*</p>", page.text)
    assert (state.read(str(inhabited.home)), read_settings(str(inhabited.home))) == before


@pytest.mark.parametrize("document", ["", "{", "[]", "[1]", '{"tasks": 5}', '{"format": "other"}',
                                      '{"a": {"priority": "x"}}', '{"-x": {}}', "x" * 1000])
def test_a_file_that_is_no_backup_changes_nothing(owner: Browser, inhabited: Installation, document: str) -> None:
    before = state.read(str(inhabited.home))
    assert restore(owner, document).status in (200, 403)
    assert state.read(str(inhabited.home)) == before


def test_no_link_leads_nowhere(owner: Browser, inhabited: Installation) -> None:
    """Whatever an owner can click: of the pages of each kind, the first that is linked, with all the links on it."""
    registered(inhabited, "task", expression="0 3 * * *")
    mount = owner.environ["SCRIPT_NAME"]
    left, seen = [f"{mount}/admin/"], set()

    for url in left:
        page = owner.request(url)
        assert page.status == 200, url

        for found in map(html.unescape, re.findall(r'<a [^>]*href="([^"#]*/admin/[^"#]*)', page.text)):
            kind = re.sub(r"=(?!kubernetes|systemd|crontab|github|url)[^&]*", "", found)

            if kind not in seen:
                seen.add(kind)
                left.append(found)

    assert {f"{mount}/admin/{page}" for page in ("export?kind=kubernetes", "shim?name", "settings")} <= seen


def test_exports_and_shims(owner: Browser, inhabited: Installation) -> None:
    """As text, or as a PHP file to be saved."""
    registered(inhabited, "task", expression="0 3 * * *")

    for kind in ("crontab", "systemd", "kubernetes"):
        page = owner.get("export", kind=kind)
        assert page.header("Content-Type") == "text/plain; charset=utf-8"
        assert "task" in page

    inhabited.configure(baseUrl="https://example.org/cron")
    settings = owner.get("settings")

    for kind in ("crontab", "systemd", "kubernetes", "github"):
        assert f"export?kind={kind}&amp;by=url" in settings
        page = owner.get("export", kind=kind, by="url")
        assert "curl" in page
        assert "task" in page

    assert owner.get("export", kind="json").status == owner.get("export").status == 404
    page = owner.get("shim", name="@due")
    assert page.text.startswith("<?php")
    assert page.header("Content-Disposition") == 'attachment; filename="webscheduler.php"'


def test_passwords_in_the_environment_are_for_owners(owner: Browser, inhabited: Installation) -> None:
    """An export holds them; whoever is not an owner gets none, nor a link to it, and no page shows them."""
    registered(inhabited, "task", expression="0 3 * * *", environment={"DB_PASSWORD": "of-the-task"})
    inhabited.edit("task", argv=["/bin/true"], command=None)
    assert "of-the-task" in owner.get("export", kind="systemd")

    for name in ("eve", "victor"):
        browser = Browser(inhabited)
        browser.sign_in(name)

        for kind in ("crontab", "systemd", "kubernetes"):
            assert browser.get("export", kind=kind).status == 403

        for page in ("", "settings", "task?name=task", "edit?name=task", "diagnostics"):
            answer = browser.request(f"/cron/admin/{page}")
            assert "of-the-task" not in answer, page
            assert "admin/export" not in answer, page


@pytest.fixture
def programs(tmp_path: Path, inhabited: Installation, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A crontab and a Python that leave a trace when they are started; the file of the trace."""
    trace, table = tmp_path / "trace", tmp_path / "table"
    folder = tmp_path / "bin"
    folder.mkdir()
    python, crontab = folder / "python3", folder / "crontab"
    python.write_text(f'#!/bin/sh\necho python >> {trace}\nexec {sys.executable} "$@"\n')
    crontab.write_text(f'#!/bin/sh\necho crontab >> {trace}\n[ "$1" = - ] && exec cat > {table}\n'
                       f'[ -e {table} ] && exec cat {table}\necho "no crontab for x" >&2\nexit 1\n')
    python.chmod(0o700)
    crontab.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    inhabited.configure(python=str(python))
    return trace


def test_settings_start_no_process_unless_asked(owner: Browser, programs: Path) -> None:
    """The page itself looks at files; the crontab's page looks at the crontab, where our line is put in and taken out
    again."""
    assert "Show the crontab" in owner.get("settings")
    assert not programs.exists()
    page = owner.get("crontab", every=15)
    assert "crontab" in programs.read_text()
    assert "*/15 * * * *" in page
    assert "The line is installed." in owner.submit("crontab")
    assert "*/15 * * * *" in programs.with_name("table").read_text()
    page = owner.submit("crontab")
    assert "The line is removed." in page
    assert "*/5 * * * *" in page
    assert programs.with_name("table").read_text() == ""


def test_a_crontab_that_cannot_be_used_is_said(owner: Browser, programs: Path) -> None:
    """With what the program itself says."""
    programs.with_name("bin").joinpath("crontab").write_text("#!/bin/sh\necho 'not allowed to use this' >&2\nexit 1\n")
    page = owner.get("crontab")
    assert page.status == 200
    assert "not allowed to use this" in page


def test_an_update_is_finished_by_one_button(owner: Browser, inhabited: Installation) -> None:
    """A home of an older version: its files load as they are; the page says with which version it was brought up to
    date, and the button looks for commands, writes the settings in this format, and leads to the check."""
    home = inhabited.home
    (home / "config.json").write_text('{"baseUrl": "https://example.org/cron", "version": 0, "kept": 1}')
    (home / "state.json").write_text('{"@due": {"enabled": true}, "old": {"enabled": true, "command": "hello"}}')
    assert "last updated with another version" not in owner.get("settings")  # there is nothing that could be of old
    (home / "commands.json").write_text('{"at": "2020-01-01T00:00:00+00:00", "commands": {}, "broken": {}}')
    assert "an earlier version" in owner.get("settings")
    (home / "commands.json").write_text(json.dumps({
        "sync": {"package": "0.0.9", "at": "2020-01-01T00:00:00+00:00"}, "commands": {}, "broken": {}}))
    (home / "commands" / "fresh.sh").write_text("true\n")
    (home / "commands" / "fresh.sh").chmod(0o600)
    page = owner.get("settings")
    assert f"webscheduler {__version__}" in page
    assert "0.0.9, <time" in page

    for name in ("eve", "victor"):
        other = Browser(inhabited)
        other.sign_in(name)
        assert "Finish the update" not in other.get("settings")
        assert other.post("/cron/admin/update", {"token": other.token()}).status == 403

    owner.get("settings")
    page = owner.submit("update")
    assert "The update is finished" in page
    assert "fresh is new" in page
    assert inhabited.row("fresh")["command"] == "fresh"
    assert inhabited.row("old") == {"enabled": True, "command": "hello"}
    raw = read_settings(str(home))
    assert (raw["version"], raw["kept"]) == (FORMAT, 1)
    assert "finished the update" in (home / "audit.jsonl").read_text()
    save_settings(str(home), {"baseUrl": "http://127.0.0.1:9/cron"})
    assert "locks work between processes" in owner.submit("check")
    assert "last updated with another version" not in owner.get("settings")


def test_an_update_that_cannot_be_finished_says_why(owner: Browser, inhabited: Installation) -> None:
    inhabited.configure(python="/nowhere/python3")
    (inhabited.home / "commands.json").write_text('{"commands": {}, "broken": {}}')
    owner.get("settings")
    page = owner.submit("update")
    assert "The update is not finished: /nowhere/python3 cannot be run" in page
    assert "Finish the update" in page


def test_settings_of_a_newer_version_say_what_to_do(owner: Browser, inhabited: Installation) -> None:
    """To whoever may change something, also after signing in anew; to a stranger only that something is wrong."""
    inhabited.configure(version=FORMAT + 1)
    told = f"was written by a newer webscheduler (format {FORMAT + 1}): update this one"
    page = owner.get()
    assert page.status == 503
    assert told in page
    stranger = Browser(inhabited)
    assert told not in stranger.get()
    page = stranger.sign_in()
    assert page.status == 503
    assert told in page
    viewer = Browser(inhabited)
    assert told not in viewer.sign_in("victor")


def test_settings_are_written_all_or_none(inhabited: Installation) -> None:
    """One bad value, or one unknown name, and the file is as it was."""
    home = str(inhabited.home)
    before = Path(home, "config.json").read_bytes()

    for values in ({"name": "x", "defaultTimeout": -1}, {"name": "x", "none such": 1}):
        with pytest.raises(BadInput):
            save_settings(home, values)

        assert Path(home, "config.json").read_bytes() == before

    save_settings(home, {"name": "x", "baseUrl": None})
    assert [load_settings(home)[name] for name in ("name", "baseUrl")] == ["x", None]


def test_secrets_do_not_leave_the_installation(owner: Browser, inhabited: Installation) -> None:
    """Neither form nor backup shows a password or a key; saved as they are shown, they stay, and so they do when the
    backup comes back; elsewhere they are missing, which is said. A server does not get another's password."""
    smtp, key = "smtps://me@example.org:pass-word@mail.example.org?from=me@example.org", "k" * 20
    inhabited.configure(smtp=smtp, notifyKey=key)
    home = str(inhabited.home)
    page = owner.get("settings")
    fields = page.form("settings")["fields"]
    assert fields["smtp"] == smtp.replace("pass-word", "***")
    assert fields["notifyKey"] == "***"
    assert owner.submit("settings", name="Shop").status == 200
    document = backup(owner)
    shown = page.text + owner.page.text + json.dumps(document)
    assert "pass-word" not in shown
    assert key not in shown
    owner.get("settings")
    assert owner.submit("settings", smtp="smtps://me:***@elsewhere.example.org").status == 422
    assert restore(owner, document).text.count("enter these again") == 0
    assert [load_settings(home)[name] for name in ("name", "smtp", "notifyKey")] == ["Shop", smtp, key]
    inhabited.configure(smtp="smtp://me@example.org:other@mail.example.org", notifyKey=None)
    assert "so enter these again: smtp, notifyKey" in restore(owner, document)
    assert load_settings(home)["notifyKey"] is None
    owner.get("settings")
    assert owner.submit("settings", smtp="").status == 200
    assert load_settings(home)["smtp"] is None

    for name in ("eve", "victor"):
        other = Browser(inhabited)
        other.sign_in(name)
        assert "mail.example.org" not in other.get("settings")


def test_a_channel_of_another_version_is_kept(owner: Browser, inhabited: Installation) -> None:
    """The form does not know it, and saves the others."""
    inhabited.configure(notify={"pigeon": 5, "email": "a@example.org"})
    owner.get("settings")
    assert owner.submit("settings", url="https://example.org/hook").status == 200
    assert load_settings(str(inhabited.home))["notify"] == {
        "pigeon": 5, "email": "a@example.org", "url": "https://example.org/hook"}
    assert "knows no channel pigeon" in owner.get("diagnostics")


def test_what_sends_nothing_is_said_beside_another_change(owner: Browser, inhabited: Installation) -> None:
    """An address that an older version took is refused with the form that still has it."""
    inhabited.configure(notify={"email": "foo@"})
    owner.get("settings")
    page = owner.submit("settings", url="https://example.org/hook")
    assert page.status == 422
    assert "is not an address like me@example.org" in page
    assert load_settings(str(inhabited.home))["notify"] == {"email": "foo@"}
    assert "Nothing was changed" in restore(owner, {"format": "webscheduler tasks", "version": 1, "tasks": {},
                                                    "settings": {"name": "a\nb"}})


def test_what_does_not_arrive_is_said(owner: Browser, inhabited: Installation) -> None:
    """On the list of tasks, the settings and the diagnostics, and since when; not to viewers."""
    inhabited.configure(notify={"url": "http://127.0.0.1:9/"})
    owner.get("settings")
    assert "could not be sent: url: [Errno 111] Connection refused" in owner.submit("notify-test")

    for page in ("", "settings"):
        assert re.search(r"Nothing has arrived by url since <time [^>]*>\d{4}-.*?</time>: .*Connection refused",
                         owner.get(page).text)

    owner.environ["HTTP_ACCEPT_LANGUAGE"] = "fr"
    assert re.search(r"Rien n’est arrivé par url depuis le <time [^>]*>\d{4}-", owner.get().text)
    del owner.environ["HTTP_ACCEPT_LANGUAGE"]
    assert "nothing has arrived by url since" in owner.get("diagnostics")
    viewer = Browser(inhabited)
    viewer.sign_in("victor")
    assert "Connection refused" not in viewer.get().text + viewer.get("diagnostics").text

    with listening() as hook:
        inhabited.configure(notify={"url": hook.url})
        inhabited.add("pinged", pingUrl=hook.url)
        owner.get("settings")
        assert "The test was sent: url, ping of pinged." in owner.submit("notify-test")
        assert sorted(method for method, _, _, _ in hook.calls) == ["GET", "POST"]

    assert "Nothing has arrived" not in owner.get()


def test_a_ping_url_is_for_owners(owner: Browser, inhabited: Installation) -> None:
    """Nobody else sees or sets it, or copies it with the task."""
    registered(inhabited, "task", pingUrl="https://hc-ping.com/first")
    owner.get("edit", name="task")
    owner.submit("edit", do="save", pingUrl="https://hc-ping.com/second")
    assert inhabited.row("task")["pingUrl"] == "https://hc-ping.com/second"
    owner.get("edit", name="task")
    assert owner.submit("edit", do="save", pingUrl="http://").status == 422
    editor = Browser(inhabited)
    editor.sign_in("eve")
    assert "hc-ping" not in editor.get("edit", name="task").text + editor.get("task", name="task").text
    editor.get("edit", name="task")
    editor.submit("edit", do="save", title="Other", pingUrl="https://evil.example/")
    assert [inhabited.row("task")[field] for field in ("title", "pingUrl")] == ["Other", "https://hc-ping.com/second"]
    editor.get("edit", copy="task")
    editor.submit("edit", do="save", name="copy")
    assert inhabited.row("copy")["pingUrl"] is None


def test_a_test_notification(owner: Browser, inhabited: Installation) -> None:
    """It says what went wrong, or that it went out; nothing is sent without an address."""
    owner.get("settings")
    page = owner.post("/cron/admin/notify-test", {"token": owner.token()})
    assert "nobody to notify" in page
    inhabited.configure(notify={"url": "http://127.0.0.1:9/"})
    owner.get("settings")
    assert "could not be sent" in owner.submit("notify-test")


def test_diagnostics(owner: Browser, inhabited: Installation) -> None:
    """Strategies with the elected one, refusals in words, broken modules, variables without secrets, who did what, and
    which tasks fail, as the list says."""
    assert "no task is failing or late" in owner.get("diagnostics")
    assert call(inhabited.home, "api-key", "add", "ci", "--role", "viewer").status == 0
    assert "<td>ligne de commande</td>" in owner.request("/cron/admin/diagnostics", HTTP_ACCEPT_LANGUAGE="fr")
    inhabited.add("ill", argv=["/bin/false"], lastRunStatus="failed", consecutiveFailures=1)
    assert "failing: ill; what their last runs printed says why" in owner.get("diagnostics")
    inhabited.wsgi({**inhabited.signed("@due"), "QUERY_STRING": "sig=1"})
    Path(inhabited.home, "commands.json").write_text(json.dumps({"broken": {"shop.jobs": "ImportError: <no>"}}))
    capabilities.store_probe(str(inhabited.home), "wsgi/unknown", {
        "fork": {"at": "2020-01-01T00:00:00+00:00", "package": "0", "seconds": 10, "lived": 10, "ended": "finished"}})
    page = owner.request("/cron/admin/diagnostics", HTTP_AUTHORIZATION="Basic c2VjcmV0", HTTP_X_API_KEY="hidden-key",
                         DB_PASSWORD="hidden-password", SERVER_SOFTWARE="Test/1")
    assert "selected" in page
    assert "the signature is not 64 hexadecimal digits" in page
    assert "shop.jobs" in page
    assert "Test/1" in page
    assert "signed in" in page

    for hidden in ("c2VjcmV0", "hidden-key", "hidden-password", owner.cookies["webscheduler"]):
        assert hidden not in page

    inhabited.configure(baseUrl="http://127.0.0.1:9/cron")
    owner.get("diagnostics")
    page = owner.submit("check")
    assert page.status == 200
    assert "locks work between processes" in page


def test_a_torn_line_hides_no_other(owner: Browser, inhabited: Installation) -> None:
    """Of what was done all lines are shown that are whole."""
    file = inhabited.home / "audit.jsonl"
    file.write_bytes(b'{"at": 1, "who"}\n[1]\n' + file.read_bytes())
    assert "signed in" in owner.get("diagnostics")


def test_the_probe(owner: Browser, inhabited: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has the calls to make; their results are read, kept, and shown with their time; its tasks are gone, and
    were never in the list."""
    from webscheduler.host import probe

    monkeypatch.setattr(probe, "SECONDS", 1)
    owner.get("diagnostics")
    page = owner.submit("probe")
    links = re.findall(r'href="(/cron/run/[^"]+)"', page.text)
    assert len(links) == 3
    form = page.form("probe")
    assert "probe-fork" not in owner.get()
    seen = {}

    for strategy, link in zip(("fork", "close", "sync"), links):
        path, _, query = link.replace("&amp;", "&").partition("?")
        answer = inhabited.wsgi({"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/cron", "PATH_INFO": path[5:], "QUERY_STRING":
                                 query, "REMOTE_ADDR": "192.0.2.1", "SERVER_NAME": "x", "SERVER_PORT": "80",
                                 "SERVER_PROTOCOL": "HTTP/1.1"})
        seen[strategy] = f"{answer.status}:0.100"

    fields = {**form["fields"], **seen}

    def ended() -> bool:
        page = owner.post(form["action"], {**fields, "token": owner.token()})
        return "The probe has ended" in page

    until(ended, "the probe")
    assert " s finished, at " in owner.page
    assert not [name for name in state.read(str(inhabited.home)) if name.startswith("probe")]
    assert capabilities.kinds(str(inhabited.home))


def test_a_probe_whose_calls_do_not_arrive_says_why(inhabited: Installation) -> None:
    """What the browser saw of the first one, with its likely cause, in the visitor's language; nothing is left."""
    browser = Browser(inhabited, HTTP_ACCEPT_LANGUAGE="fr")
    browser.sign_in()
    browser.get("diagnostics")
    browser.submit("probe")
    page = browser.submit("probe", fork="403:0.100")
    assert "L’essai n’a donné aucun résultat. fork\u00a0: l’appel n’est pas arrivé" in page
    assert "HTTP 403" in page and "pare-feu" in page
    assert list(state.read(str(inhabited.home))) == ["@due"]


def test_findings_are_in_the_language_of_the_visitor(inhabited: Installation) -> None:
    """On the page itself what is cheap to find, and all of it after the button."""
    registered(inhabited, "orphan", "gone")
    browser = Browser(inhabited, HTTP_ACCEPT_LANGUAGE="fr")
    browser.sign_in()
    page = browser.get("diagnostics")
    assert "tâche orphan\u00a0: aucune commande n’est enregistrée comme" in page
    inhabited.configure(baseUrl="http://127.0.0.1:9/cron")
    page = browser.submit("check")
    assert "on ne sait pas si un serveur web le montre, car les appels de http://127.0.0.1:9/cron" in page
    assert "tâche orphan\u00a0: aucune commande n’est enregistrée comme" in page
    assert "Mio sont libres" in page


def test_no_trigger_loads_the_panel(installation: Installation) -> None:
    """Neither a run nor a status request, at either door, imports anything of admin."""
    installation.add()
    code = (
        "import sys, json, time\n"
        "from webscheduler import http, trigger\n"
        "environ = json.loads(sys.argv[2])\n"
        "reply = trigger.answer(http.Request(environ), sys.argv[1], False, time.time, print)\n"
        "import webscheduler.wsgi, webscheduler.cgi\n"
        "application = webscheduler.wsgi.create_app(sys.argv[1])\n"
        "import io; environ.update({'wsgi.errors': sys.stderr, 'wsgi.input': io.BytesIO()})\n"
        "list(application(environ, lambda status, headers: None))\n"
        "print(json.dumps([name for name in sys.modules if 'webscheduler.admin' in name]))\n")

    for environ in (installation.signed(), installation.asking_status()):
        found = subprocess.run([sys.executable, "-c", code, str(installation.home), json.dumps(environ)], text=True,
                               capture_output=True, check=True)
        assert json.loads(found.stdout.splitlines()[-1]) == []

    installation.idle()


def test_settings_that_somebody_else_saved_stay(owner: Browser, inhabited: Installation) -> None:
    """Zone and addresses are not reset by an older form, and what differs is shown; no change is no audit line."""
    owner.get("settings")
    inhabited.configure(timezone="Europe/Paris", notify={"email": "a@example.org"})
    page = owner.submit("settings", name="Mine")
    assert page.status == 422
    assert 'id="timezone-error">Somebody else saved this in the meantime: Europe/Paris<' in page
    assert owner.submit("settings").status == 200
    found = json.loads((inhabited.home / "config.json").read_text())
    assert (found["name"], found["timezone"], found["notify"]) == ("Mine", "Europe/Paris", {"email": "a@example.org"})
    before = (inhabited.home / "audit.jsonl").read_bytes()
    owner.get("settings")
    assert "Nothing was changed." in owner.submit("settings")
    assert (inhabited.home / "audit.jsonl").read_bytes() == before
