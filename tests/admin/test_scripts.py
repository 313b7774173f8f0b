# SPDX-License-Identifier: LGPL-3.0-or-later
"""Scripts that people upload: where, which are refused and why, and the button that corrects permissions."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.admin.client import Browser, Page
from tests.commandline import call
from tests.installation import Installation
from webscheduler.commands import registry
from webscheduler.store import state

BUTTON = "Correct the permissions"


def upload(installation: Installation, name: str, mode: int = 0o644) -> Path:
    path = installation.home / "commands" / name
    path.write_text("echo ours\n")
    path.chmod(mode)
    return path


def listed(page: Page) -> list[str]:
    """The refused files of a page, as text."""
    found = re.search(r"Files that are no commands</h2><ul class=\"findings\">(.*?)</ul>", page.text, re.DOTALL)
    return [re.sub("<[^>]*>", "", row).strip() for row in re.findall("<li>(.*?)</li>", found[1])] if found else []


def buttons(page: Page) -> list[str]:
    """The files that the buttons of a page are for."""
    return re.findall(r'name="file" value="([^"]*)"', page.text)


def signed_in(installation: Installation, name: str) -> Browser:
    browser = Browser(installation)
    browser.sign_in(name)
    return browser


def test_pages_say_where_to_upload(owner: Browser, inhabited: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty list and the form of a task, with the way from where FTP programs begin; viewers can make no task."""
    for account, shown in ((inhabited.home.parent, "~/home/commands"),
                           (Path("/nowhere"), f"{inhabited.home}/commands")):
        monkeypatch.setenv("HOME", str(account))

        for page in (owner.get(), owner.get("edit"), signed_in(inhabited, "eve").get("edit")):
            assert f"upload a .php, .py or .sh file into <code>{shown}</code>" in page

    assert "upload a" not in signed_in(inhabited, "victor").get()


def test_an_uploaded_file_is_a_command_and_no_task(owner: Browser, inhabited: Installation) -> None:
    """Neither at a tick, nor by a look at the form."""
    upload(inhabited, "backup.sh")
    before = set(state.read(str(inhabited.home)))
    assert '<option value="backup">' in owner.get("edit")
    assert call(inhabited.home, "run-due").status == 0
    assert set(state.read(str(inhabited.home))) == before
    owner.get("edit")
    owner.submit("edit", name="nightly", command="backup", kind="none", do="save")
    assert call(inhabited.home, "run", "nightly").out == "ours\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_refused_files_are_listed_with_the_reason(owner: Browser, inhabited: Installation, tmp_path: Path) -> None:
    """On the empty list, in the form and in Diagnostics, without a command of a shell. What begins with a dot, and
    folders, are nobody's scripts."""
    upload(inhabited, "good.php")
    upload(inhabited, "open.php", 0o664)
    upload(inhabited, "notes.txt")
    upload(inhabited, "UPPER.PHP")
    upload(inhabited, "-x.sh")
    upload(inhabited, ".htaccess")
    (inhabited.home / "commands" / "lib").mkdir()
    os.chown(upload(inhabited, "theirs.sh"), 54321, 54321)
    folder = inhabited.home / "commands"

    for page in (owner.get(), owner.get("edit"), owner.get("diagnostics")):
        rows = listed(page)
        assert len(rows) == 4, rows
        assert any(row.startswith("open.php Others can change") and "permissions are 664" in row and "to 644" in row
                   for row in rows)
        assert any(row.startswith("UPPER.PHP, notes.txt Its name must end in .py, .php or .sh") for row in rows)
        assert any(row.startswith("theirs.sh") and "belongs to another user" in row for row in rows)
        assert any(row.startswith("-x.sh") for row in rows)
        assert "chmod" not in page.text.partition('id="main"')[2]
        assert "good.php" not in " ".join(rows)

    folder.chmod(0o775)
    rows = listed(owner.get("edit"))
    assert any(row.startswith("good.php, open.php, theirs.sh Others can change") and "775" in row for row in rows), rows
    assert "commands" in buttons(owner.get("edit"))


def test_a_button_corrects_the_permissions(owner: Browser, inhabited: Installation) -> None:
    """Of a file, of commands/ and of the home; nothing else of the mode changes, and the audit names who did it."""
    path, folder = upload(inhabited, "open.sh", 0o766), inhabited.home / "commands"
    inhabited.home.chmod(0o770)
    folder.chmod(0o777)

    for name in (".", "commands", "commands/open.sh"):
        assert registry.files(str(inhabited.home)) == {}
        assert buttons(owner.get("edit")) == [name]
        page = owner.submit("permissions")
        assert f"Only this account can change {name} now" in page
        assert f'"did": "took from others the right to change", "to": "{name}"' in (
            inhabited.home / "audit.jsonl").read_text()

    assert [place.stat().st_mode & 0o777 for place in (inhabited.home, folder, path)] == [0o750, 0o755, 0o744]
    assert list(registry.files(str(inhabited.home))) == ["open"]
    assert listed(owner.get("edit")) == []
    assert path.read_text() == "echo ours\n"


def test_only_owners_correct_permissions(owner: Browser, inhabited: Installation) -> None:
    """Editors see what is wrong; the form needs its token."""
    path = upload(inhabited, "open.sh", 0o664)
    owner.get("edit")
    fields = owner.page.form("permissions")["fields"]

    for name, sees in (("eve", True), ("victor", False)):
        other = signed_in(inhabited, name)
        page = other.get("edit")
        assert bool(listed(page)) is sees
        assert BUTTON not in page
        assert other.post("/cron/admin/permissions", {**fields, "token": other.token()}).status == 403

    assert owner.post("/cron/admin/permissions", {**fields, "token": "x"}).status == 403
    assert owner.get("permissions").status == 405
    assert path.stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("change", ["content", "another", "link", "gone"])
def test_only_what_the_page_showed_is_corrected(owner: Browser, inhabited: Installation, tmp_path: Path,
                                                change: str) -> None:
    """Not what others have put there, or changed, since; never what a link leads to."""
    path, other = upload(inhabited, "open.sh", 0o664), tmp_path / "other.sh"
    other.write_text("true\n")
    other.chmod(0o666)
    owner.get("edit")

    if change == "content":
        path.write_text("echo theirs\n")
        os.utime(path, (1, 1))
    else:
        path.rename(path.with_name("old.sh.txt"))

        if change == "another":
            upload(inhabited, "open.sh", 0o664)
        elif change == "link":
            path.symlink_to(other)

    page = owner.submit("permissions")
    assert "commands/open.sh was not changed: it is not what this page showed" in page
    assert other.stat().st_mode & 0o777 == 0o666
    assert change in ("link", "gone") or path.stat().st_mode & 0o777 == 0o664
    assert "took from others" not in (inhabited.home / "audit.jsonl").read_text()


@pytest.mark.parametrize("name", ["", "..", "../x", "commands/../config.json", "config.json", "/etc/passwd",
                                  "commands/lib/x.sh", "commands//open.sh", "commands/./open.sh"])
def test_no_other_file_can_be_named(owner: Browser, inhabited: Installation, name: str) -> None:
    upload(inhabited, "open.sh", 0o664)
    (inhabited.home / "config.json").chmod(0o660)
    owner.get("edit")
    assert "was not changed" in owner.submit("permissions", file=name)
    assert (inhabited.home / "config.json").stat().st_mode & 0o777 == 0o660
    assert (inhabited.home / "commands" / "open.sh").stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_gets_no_button(owner: Browser, inhabited: Installation, tmp_path: Path, what: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "x.sh"
    target.write_text("true\n")
    target.chmod(0o664)
    folder = inhabited.home / "commands"

    if what == "file":
        (folder / "x.sh").symlink_to(target)
    else:
        folder.rmdir()
        folder.symlink_to(tmp_path / "elsewhere")

    page = owner.get("edit")
    assert [row.partition(" ")[0] for row in listed(page)] == ["x.sh"]
    assert BUTTON not in page


def test_a_corrected_file_is_no_finding_any_more(owner: Browser, inhabited: Installation) -> None:
    """Although the last search for commands has refused it."""
    path = upload(inhabited, "open.sh", 0o664)
    assert call(inhabited.home, "sync").status == 1
    path.chmod(0o644)
    assert "open.sh" not in call(inhabited.home, "doctor", "--offline").out
    assert "open.sh" not in owner.get("diagnostics")
