# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands that tasks may name: where they come from, which win, and how each becomes a program to run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.commandline import call
from tests.installation import Installation, until
from webscheduler.commands import registry
from webscheduler.errors import BadInput
from webscheduler.store import state
from webscheduler.store.settings import Settings, load_settings
from webscheduler.store.task import load_task


def settings_of(installation: Installation) -> Settings:
    return load_settings(str(installation.home))


def write(installation: Installation, name: str, text: str = "exit 0\n", mode: int = 0o600) -> Path:
    path = installation.home / "commands" / name
    path.write_text(text)
    path.chmod(mode)
    return path


def argv(installation: Installation, **fields: object) -> list[str]:
    return registry.argv(settings_of(installation), load_task("task", fields))[0]


# Where they come from

def test_what_is_built_in(installation: Installation) -> None:
    assert {name: command.source for name, command in registry.registered(settings_of(installation)).items()} == {
        "hello": "builtin", "http": "builtin"}


def test_files_are_commands_by_their_names(installation: Installation) -> None:
    """Whatever its suffix a file needs no x bit; what has no known suffix is none."""
    for name in ("backup.sh", "report.py", "site.php", "notes.txt", "README", "backup.py"):
        write(installation, name)

    found = {name: command.argv for name, command in registry.registered(settings_of(installation)).items()
             if command.source == "file"}
    directory = str(installation.home / "commands")
    assert found == {
        "backup": [sys.executable, f"{directory}/backup.py"],
        "backup.sh": ["/bin/sh", f"{directory}/backup.sh"],  # where two would share a name, the second keeps its suffix
        "report": [sys.executable, f"{directory}/report.py"],
        "site": ["php", f"{directory}/site.php"],
    }


@pytest.mark.parametrize(("setting", "name", "program"), [("php", "x.php", "/opt/php8/bin/php"),
                                                          ("python", "x.py", "/opt/python/bin/python3")])
def test_the_settings_name_the_interpreters(installation: Installation, setting: str, name: str, program: str) -> None:
    write(installation, name)
    installation.configure(**{setting: program})
    assert argv(installation, command="x")[0] == program


@pytest.mark.parametrize(("name", "text"), [
    ("x.sh", 'echo "$1 $#"\n'),
    ("x.py", "import sys; print(sys.argv[1], len(sys.argv) - 1)\n"),
    ("x.php", '<?php echo $argv[1] . " " . ($argc - 1) . "\\n";'),
])  # fmt: skip
def test_a_file_runs_with_its_arguments(installation: Installation, name: str, text: str) -> None:
    if name.endswith(".php") and not shutil.which("php"):
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("php is missing (Debian: php-cli)")

    write(installation, name, text)
    call(installation.home, "add", "task", "--command", "x", "--arguments", "'a b' c")
    assert call(installation.home, "run", "task").out == "a b 2\n"


@pytest.mark.parametrize(
    ("name", "mode", "directory_mode", "why"),
    [
        ("x.sh", 0o620, 0o700, "x.sh can be changed by others: chmod go-w it"),
        ("x.sh", 0o602, 0o700, "x.sh can be changed by others: chmod go-w it"),
        ("x.sh", 0o777, 0o700, "x.sh can be changed by others: chmod go-w it"),
        ("x.sh", 0o600, 0o770, "commands can be changed by others: chmod go-w it"),
        ("x.sh", 0o600, 0o777, "commands can be changed by others: chmod go-w it"),
        ("@x.sh", 0o600, 0o700, "name: '@x' must be"),
        (".#x.sh", 0o600, 0o700, "name: '.#x' must be"),
        ("-x.py", 0o600, 0o700, "name: '-x' must be"),
    ],
)
def test_a_file_that_others_may_write_is_no_command(
    installation: Installation, name: str, mode: int, directory_mode: int, why: str
) -> None:
    """Nor one whose name no task may have; `sync` says why, and makes no task of it."""
    path = write(installation, name, mode=mode)
    path.parent.chmod(directory_mode)
    assert registry.files(str(installation.home)) == {}
    done = call(installation.home, "sync")
    assert done.status == 1
    assert done.out.startswith(f"{path} is skipped: ")
    assert why in done.out
    assert list(state.read(str(installation.home))) == ["@due"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_no_command(installation: Installation) -> None:
    os.chown(write(installation, "x.sh"), 54321, 54321)
    assert registry.files(str(installation.home)) == {}
    assert "belongs to another user" in call(installation.home, "sync").out


def test_a_link_into_a_folder_of_others_is_no_command(installation: Installation, tmp_path: Path) -> None:
    """A file that is ours, but which others could replace: in a folder that they may write, or below one; also where
    commands/ itself is such a link."""
    shared = tmp_path / "shared"
    (shared / "ours").mkdir(parents=True)
    (shared / "x.sh").write_text("echo ours\n")
    (shared / "ours" / "y.sh").write_text("echo ours\n")
    commands = installation.home / "commands"
    (commands / "x.sh").symlink_to(shared / "x.sh")
    (commands / "y.sh").symlink_to(shared / "ours" / "y.sh")
    assert set(registry.files(str(installation.home))) == {"x", "y"}

    for mode in (0o777, 0o775, 0o757):
        shared.chmod(mode)
        assert registry.files(str(installation.home)) == {}
        assert call(installation.home, "sync").out.count(f"{shared} can be changed by others: chmod go-w it") == 2

    call(installation.home, "add", "task", "--command", "hello")
    installation.edit(command="x")
    assert call(installation.home, "run", "task").status == 1
    shared.chmod(0o755)
    assert call(installation.home, "run", "task").out == "ours\n"
    shared.chmod(0o777)
    commands.rename(shared / "commands")
    commands.symlink_to(shared / "commands")
    assert registry.files(str(installation.home)) == {}


def test_a_link_in_a_folder_of_others_leads_nowhere(installation: Installation, tmp_path: Path) -> None:
    """It could lead to a file that is ours, and none of theirs, but which holds what they sent: a log of our server.
    Also where it is one of several links, for a directory, or in a folder where each can touch only what is his."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "access.log").write_text("GET /$(echo theirs)\n")
    (shared := tmp_path / "shared").mkdir(0o755)
    (shared / "x.sh").symlink_to(tmp_path / "logs" / "access.log")
    (shared / "logs").symlink_to("../logs")
    (tmp_path / "second").symlink_to(shared / "x.sh")
    commands = installation.home / "commands"
    (commands / "x.sh").symlink_to(shared / "x.sh")
    (commands / "y.sh").symlink_to("../../second" if commands.parent.parent == tmp_path else tmp_path / "second")
    (commands / "z.sh").symlink_to(shared / "logs" / "access.log")
    (commands / "loop.sh").symlink_to("loop.sh")
    assert set(registry.files(str(installation.home))) == {"x", "y", "z"}
    shared.chmod(0o777)
    assert registry.files(str(installation.home)) == {}
    shared.chmod(0o1777)
    assert set(registry.files(str(installation.home))) == {"x", "y", "z"}

    if os.geteuid() == 0:
        for each in ("x.sh", "logs"):
            os.lchown(shared / each, 54321, 54321)

        assert registry.files(str(installation.home)) == {}


def test_what_was_looked_at_is_executed(installation: Installation, tmp_path: Path) -> None:
    """Not the link, which might lead elsewhere by then; its suffix says what runs it."""
    (tmp_path / "tool").write_text('echo "$0"\n')
    link = installation.home / "commands" / "x.sh"
    link.symlink_to(tmp_path / "tool")
    installation.add("task")
    installation.edit(argv=None, command="x")
    assert call(installation.home, "run", "task").out == f"{tmp_path}/tool\n"


def test_a_linked_home_has_its_commands(installation: Installation, tmp_path: Path) -> None:
    """As where /home is a link to /home2."""
    write(installation, "x.sh", 'echo "$0"\n')
    (tmp_path / "link").symlink_to(tmp_path)
    call(installation.home, "add", "task", "--command", "x")
    assert call(tmp_path / "link" / installation.home.name, "run", "task").out == (
        f"{installation.home}/commands/x.sh\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_above_is_not_trusted(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "theirs" / "ours").mkdir(parents=True)
    (tmp_path / "theirs" / "ours" / "x.sh").write_text("true\n")
    os.chown(tmp_path / "theirs", 54321, 54321)
    (installation.home / "commands" / "x.sh").symlink_to(tmp_path / "theirs" / "ours" / "x.sh")
    assert registry.files(str(installation.home)) == {}
    assert f"{tmp_path}/theirs belongs to another user" in call(installation.home, "sync").out


@pytest.mark.parametrize("kind", ["directory", "dangling"])
def test_what_is_no_file_is_no_command(installation: Installation, kind: str) -> None:
    path = installation.home / "commands" / "x.sh"

    if kind == "directory":
        path.mkdir(mode=0o700)
    else:
        path.symlink_to("nowhere")

    assert registry.files(str(installation.home)) == {}
    assert call(installation.home, "sync").status == 1


def test_a_file_makes_no_task_by_itself(installation: Installation) -> None:
    """Whoever can upload a file may not mean it to run: a tick makes none. Who asks for it gets one that waits."""
    write(installation, "backup.sh")
    (installation.home / "commands.json").unlink(missing_ok=True)  # so that the tick looks for commands

    for _ in range(2):
        assert call(installation.home, "run-due").status == 0
        until(lambda: (installation.home / "commands.json").exists())
        assert "backup" not in state.read(str(installation.home))

    assert call(installation.home, "sync").out == "backup is new, without a schedule and disabled\n"
    assert installation.row("backup")["command"] == "backup"
    assert installation.row("backup")["enabled"] is False


def test_settings_win_over_files_and_files_over_what_is_built_in(installation: Installation) -> None:
    write(installation, "hello.sh")
    assert registry.registered(settings_of(installation))["hello"].source == "file"
    installation.configure(commands={"hello": {"argv": ["/bin/echo"], "description": "Mine.", "cwd": "/tmp"}})
    command = registry.registered(settings_of(installation))["hello"]
    assert (command.source, command.argv, command.arguments, command.description, command.cwd) == (
        "setting", ["/bin/echo"], False, "Mine.", "/tmp")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"commands": []}', '{"commands": {"x": 1}}'])
def test_a_damaged_commands_json_hides_no_other_command(installation: Installation, text: str) -> None:
    (installation.home / "commands.json").write_text(text)
    assert list(registry.registered(settings_of(installation))) == ["hello", "http"]


# What they become

def test_a_registered_argv_is_run_as_it_is(installation: Installation) -> None:
    """In its own directory; what looks like a shell's is a word like any."""
    installation.configure(commands={"list": {"argv": ["printf", "%s|", "$HOME", "*", ";"], "cwd": "/usr"},
                                     "where": {"argv": ["pwd"], "cwd": "/usr"}})
    call(installation.home, "add", "a", "--command", "list")
    call(installation.home, "add", "b", "--command", "where")
    call(installation.home, "add", "c", "--command", "where", "--cwd", "/etc")
    assert [call(installation.home, "run", name).out for name in "abc"] == ["$HOME|*|;|", "/usr\n", "/etc\n"]


def test_arguments_reach_only_a_command_that_is_registered_to_take_them(installation: Installation) -> None:
    """Refused where they are entered, and, should they be in the file, where they would be used."""
    installation.configure(commands={"no": {"argv": ["echo"]}, "yes": {"argv": ["echo"], "arguments": True}})
    refused = call(installation.home, "add", "task", "--command", "no", "--arguments", "x")
    assert (refused.status, refused.complaint) == (2, "--arguments: no is not registered to take arguments")
    assert argv(installation, command="yes", arguments="a 'b c'") == ["echo", "a", "b c"]

    with pytest.raises(BadInput, match="not registered to take arguments"):
        argv(installation, command="no", arguments="x")

    assert argv(installation, command="no", arguments=" ") == ["echo"]


@pytest.mark.parametrize(("text", "rule"), [("'a", "no closing quotation"), ("a\\", "no escaped character"),
                                            ('"', "no closing quotation")])
def test_arguments_that_no_shell_could_split_are_refused(installation: Installation, text: str, rule: str) -> None:
    with pytest.raises(BadInput, match=f"arguments: {rule}"):
        argv(installation, command="hello", arguments=text)


@pytest.mark.parametrize(("fields", "rule"), [({}, "no command is registered as"),
                                              ({"command": "gone"}, "no command is registered as 'gone'")])
def test_a_task_that_has_nothing_to_run(installation: Installation, fields: dict[str, object], rule: str) -> None:
    with pytest.raises(BadInput, match=rule):
        argv(installation, **fields)


def test_a_tasks_own_argv_wins_over_a_command(installation: Installation) -> None:
    assert argv(installation, argv=["true"], command="hello") == ["true"]


def test_an_interpreter_is_found_where_the_server_is_no_python(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uWSGI's sys.executable is uWSGI, mod_wsgi's is empty."""
    for executable in ("/usr/bin/uwsgi", "", None):
        monkeypatch.setattr(sys, "executable", executable)
        found = registry.interpreter(settings_of(installation))
        assert os.path.basename(found).startswith("python")
        assert os.access(found, os.X_OK)
