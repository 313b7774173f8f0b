# SPDX-License-Identifier: LGPL-3.0-or-later
"""Completion in real shells: bash, zsh, fish."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commandline import environment
from tests.installation import PATIENCE, Installation
from webscheduler.cli import completion, parser

HOSTILE = "x$(touch harmed)"


@pytest.fixture
def place(installation: Installation) -> Installation:
    """Tasks with an ordinary name, one with colons, and one that a shell would expand; `webscheduler` on the PATH."""
    for name in ("backup", "app:mail:send", HOSTILE):
        installation.add(name, argv=["true"])

    program = installation.home.parent / "bin" / "webscheduler"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m webscheduler "$@"\n')
    program.chmod(0o755)
    return installation


def required(shell: str) -> str:
    found = shutil.which(shell)

    if found is None:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)(f"{shell} is missing")

    return str(found)


def around(place: Installation) -> dict[str, str]:
    found = environment(place.home)
    return {**found, "PATH": f"{place.home.parent / 'bin'}:{found['PATH']}", "TERM": "dumb"}


def said(place: Installation, *words: str) -> list[str]:
    done = subprocess.run(words, env=around(place), cwd=place.home.parent, capture_output=True, text=True,
                          timeout=PATIENCE, check=True)
    assert done.stderr == ""
    return done.stdout.split("\n")


def in_bash(place: Installation, line: str) -> set[str]:
    script = 'eval "$(webscheduler completion bash)"; COMP_LINE=$1 COMP_POINT=${#1}; _webscheduler 2>/dev/null; '
    found = said(place, required("bash"), "-c", script + 'printf "%s\\n" "${COMPREPLY[@]}"', "bash", line)
    return set(filter(None, found))


def in_fish(place: Installation, line: str) -> set[str]:
    script = "webscheduler completion fish | source; complete -C $argv[1]"
    found = said(place, required("fish"), "--no-config", "-c", script, line)
    return {each.partition("\t")[0] for each in found if each}


@pytest.mark.parametrize("ask", [in_bash, in_fish])
def test_commands_options_choices_and_tasks_are_completed(ask: object, place: Installation) -> None:
    """What begins like the word that is typed, and nothing else."""
    assert callable(ask)
    assert ask(place, "webscheduler ren") == {"rename"}
    assert ask(place, "webscheduler run") == {"run", "run-due"}
    assert ask(place, "webscheduler show ba") == {"backup"}
    assert ask(place, "webscheduler logs --fol") == {"--follow"}
    assert ask(place, "webscheduler add new --strategy sy") == {"sync"}
    assert ask(place, "webscheduler crontab un") == {"uninstall"}
    assert ask(place, "webscheduler logs --status time") == {"timeout"}
    assert "backup" not in ask(place, "webscheduler config ")


@pytest.mark.parametrize("ask", [in_bash, in_fish])
def test_sites_are_completed(ask: object, place: Installation) -> None:
    """After --at come the names of sites, before the command or after it; then no task of this machine is offered."""
    assert callable(ask)
    folder = place.home.parent / ".config" / "webscheduler"
    folder.mkdir(parents=True)
    (folder / "sites.json").write_text('{"shop": {"url": "https://example.org", "key": "wsk_x"}}')
    (folder / "sites.json").chmod(0o600)
    assert ask(place, "webscheduler --a") == {"--at"}
    assert ask(place, "webscheduler --at sh") == {"shop"}
    assert ask(place, "webscheduler show --at a") == {"all"}
    assert "backup" not in ask(place, "webscheduler --at shop show ba")


@pytest.mark.parametrize("ask", [in_bash, in_fish])
def test_no_name_of_a_task_is_expanded(ask: object, place: Installation) -> None:
    """A name that a shell would run is not offered, and not run."""
    assert callable(ask)
    assert HOSTILE not in ask(place, "webscheduler show ")
    assert not (place.home.parent / "harmed").exists()


def test_bash_replaces_what_follows_the_last_colon(place: Installation) -> None:
    """readline takes a colon for the beginning of a word."""
    assert in_bash(place, "webscheduler show app:ma") == {"mail:send"}


@pytest.mark.parametrize("ask", [in_bash, in_fish])
def test_home_and_site_count_as_no_command(ask: object, place: Installation) -> None:
    """The values of --home and --at before the command are not taken for it, not even if they are called like one."""
    assert callable(ask)
    assert ask(place, "webscheduler --at shop ren") == {"rename"}
    assert ask(place, "webscheduler --at list sho") == {"show"}
    assert ask(place, f"webscheduler --home {place.home} ren") == {"rename"}
    assert ask(place, f"webscheduler --home {place.home} show ba") == {"backup"}
    assert ask(place, "webscheduler --at=shop crontab un") == {"uninstall"}


def test_fish_completes_a_directory_after_home(place: Installation) -> None:
    assert in_fish(place, f"webscheduler --home {place.home.parent}/b") == {f"{place.home.parent}/bin/"}
    assert in_fish(place, "webscheduler --ho") == {"--home"}


def test_zsh_completes_at_its_prompt(place: Installation) -> None:
    """An interactive zsh, at a real terminal, completes a command and a task when Tab is pressed."""
    program = required("zsh")
    pid, terminal = pty.fork()

    if pid == 0:
        os.chdir(place.home.parent)
        os.execve(program, ["zsh", "-f", "-i"], {**around(place), "PS1": "ready> "})

    def until(wanted: str, typed: str) -> str:
        os.write(terminal, typed.encode())
        seen, end = "", time.monotonic() + PATIENCE

        while wanted not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.5)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")

        assert wanted in seen, seen
        return seen

    try:
        until("ready> ", "")
        until("loaded", "autoload -Uz compinit; compinit -u -D\n"
                        "eval \"$(webscheduler completion zsh)\"; echo load''ed\n")
        until("webscheduler rename ", "webscheduler ren\t")
        until("backup", "ba\t")
        until("uninstall", "\x15webscheduler crontab un\t")
        until("rename ", "\x15webscheduler --at show ren\t")
        assert not (place.home.parent / "harmed").exists()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


@pytest.mark.parametrize("shell", sorted(completion.SHELLS))
def test_each_command_and_option_is_in_the_script(shell: str, tmp_path: Path) -> None:
    """The script is made from the parser; the shell itself finds no error in it."""
    text = completion.SHELLS[shell]()
    file = tmp_path / "script"
    file.write_text(text)

    for verb in parser.MODULES:
        assert verb in text

        for notation, *_ in parser.verb(verb)[2:]:
            assert all(name.lstrip("-") in text for name in parser.split_notation(notation)[0])

    subprocess.run([required(shell), "-n", str(file)], check=True)
