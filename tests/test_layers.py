"""The layers: a module imports only from lines below its own; and nothing but the standard library and filelock."""

from __future__ import annotations

import ast
import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import CHECKOUT

PACKAGE = CHECKOUT / "webscheduler"

# Each line imports from lines below it alone. `cli` and `admin` are one each, whatever they consist of.
LINES = """
    __main__ onefile
    cli
    cgi wsgi api
    admin
    trigger
    probe
    arrival
    doctor
    editing due
    access decision runner housekeeping cancel functions transfer export hosting
    record installation crontab past
    capabilities config locks store history commands schedule notify bundle
    task signing request words
    errors cron strategies atomic addresses builtin
"""
DEPTH = {name: depth for depth, line in enumerate(LINES.split("\n")) for name in line.split()}
FORBIDDEN_ON_THE_WAY = {"dataclasses", "logging", "typing", "contextlib", "pathlib"}
ON_THE_WAY = {"trigger", "access", "decision", "runner", "record", "housekeeping", "capabilities", "config", "locks",
              "store", "history", "commands", "schedule", "task", "signing", "request", "errors", "cron", "strategies",
              "atomic", "addresses", "cgi", "wsgi", "due", "notify"}  # fmt: skip


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its name within it."""
    found = {}

    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = file

    return found


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield other
                yield from at_run_time(other)
        else:
            yield node
            yield from at_run_time(node)


@functools.cache
def imports(name: str, file: Path) -> list[str]:
    """Full names of what a module imports when it runs, wherever in its code."""
    return list(_imports(name, file))


def _imports(name: str, file: Path) -> Iterator[str]:
    known = modules()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]

    for node in at_run_time(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            base = ".".join([*parts[: len(parts) - node.level + 1], *(node.module or "").split(".")]).strip(".")

            for alias in node.names:
                full = f"{base}.{alias.name}".strip(".")
                yield "webscheduler." + (full if full in known else base) if full in known or base else "webscheduler"


def line_of(full: str) -> str:
    """The name in LINES that a module of the package belongs to; empty for the package itself."""
    return full.partition(".")[2].partition(".")[0]


def test_every_module_has_its_line() -> None:
    """Whoever adds a module says where it belongs; no name in the table is without a module."""
    found = {name.partition(".")[0] for name in modules()} - {""}
    assert found == set(DEPTH)


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_a_module_imports_from_below(name: str) -> None:
    """No module imports from its own line or one above it, not even within a function."""
    own = name.partition(".")[0]
    wrong = []

    for full in imports(name, modules()[name]):
        if full.partition(".")[0] == "webscheduler":
            other = line_of(full)

            if other and other != own and DEPTH.get(other, -1) <= DEPTH[own]:
                wrong.append(other)

    assert wrong == []


def test_the_table_is_as_flat_as_it_can_be() -> None:
    """No module stands higher than it must, so the table shows how deep things really are."""
    needed: dict[str, set[str]] = {name: set() for name in DEPTH}

    for name, file in modules().items():
        if name:
            others = {line_of(full) for full in imports(name, file) if full.startswith("webscheduler.")}
            needed[name.partition(".")[0]] |= others - {name.partition(".")[0], ""}

    assert all(other in DEPTH for others in needed.values() for other in others)
    leaves = {name for name, others in needed.items() if not others}
    assert leaves >= set(LINES.split("\n")[-2].split())


@pytest.mark.parametrize("name", modules())
def test_the_standard_library_and_filelock(name: str) -> None:
    """At run time the package needs filelock and nothing else that Python does not bring, and no private module."""
    names = getattr(sys, "stdlib_module_names", None)

    if names is None:  # Python 3.9
        place = sysconfig.get_paths()["stdlib"]
        places = [place, os.path.join(place, "lib-dynload")]
        names = {entry.partition(".")[0] for place in places for entry in os.listdir(place)}
        names |= set(sys.builtin_module_names)

    tops = {full.partition(".")[0] for full in imports(name, modules()[name])}
    assert tops <= {*names, "filelock", "webscheduler"}
    assert not [top for top in tops if top.startswith("_") and top != "__future__"]


@pytest.mark.parametrize("name", sorted(ON_THE_WAY))
def test_no_dear_imports_on_the_way(name: str) -> None:
    """Nothing that a request may load imports what costs milliseconds and is not needed."""
    assert not FORBIDDEN_ON_THE_WAY & set(imports(name, modules()[name]))


def test_no_module_is_long() -> None:
    """No module of the package is over 500 lines."""
    assert [name for name, file in modules().items() if len(file.read_text().splitlines()) > 500] == []


def test_every_module_says_what_it_is_for() -> None:
    """Each module begins with a sentence on its purpose."""
    assert [name for name, file in modules().items() if not ast.get_docstring(ast.parse(file.read_bytes()))] == []
