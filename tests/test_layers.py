# SPDX-License-Identifier: LGPL-3.0-or-later
"""The folders: a module imports from its own and those below, and nothing but the standard library and filelock."""

from __future__ import annotations

import ast
import collections
import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import CHECKOUT, PACKAGE

# Each folder of the package: what it is for, and which folders it may import. A module at the top counts as a folder.
# docs/explanation/structure.md shows this table: `python -m tests.test_layers` writes it.
LEAVES = "errors shapes vocabulary times signing addresses zones http fetching printable body pasted accounts"
DOORS = "__main__ cgi wsgi embedding cli admin http_api bundle_head"
WORK = f"{LEAVES} store schedule commands runs"
FOLDERS: dict[str, tuple[str, str]] = {
    LEAVES: ("words and basics that all others use", LEAVES),
    "store": ("the files of the home directory, and their formats", LEAVES),
    "schedule": ("when a task is due", f"{LEAVES} store"),
    "commands": ("what can be run", f"{LEAVES} store schedule"),
    "runs": ("one run, from the decision to its line of history", f"{LEAVES} store schedule commands"),
    "trigger status": ("a request for /run or /status, from environ to answer", f"{WORK} status"),
    "interchange": ("import from other schedulers, and export to them", f"{LEAVES} store schedule commands"),
    "editing": ("changes of tasks, for command line and panel", WORK),
    "applying": ("tasks as a file says, for command line and panel", f"{WORK} interchange editing"),
    "host": ("what this host can do, and installing on it", f"{WORK} trigger interchange editing"),
    "remote": ("installations elsewhere, by their API", f"{LEAVES} store"),
    DOORS: ("entry points: for servers, programs, the command line, the panel and the API",
            f"{WORK} trigger status interchange editing applying host remote {DOORS}"),
}
ALLOWED = {folder: others.split() for folders, (_, others) in FOLDERS.items() for folder in folders.split()}
FORBIDDEN_ON_THE_WAY = {"dataclasses", "logging", "typing", "contextlib", "pathlib"}
ON_THE_WAY = ("cgi", "wsgi", "errors", "vocabulary", "times", "signing", "addresses", "http", "pasted", "store.",
              "schedule.cron", "schedule.slots", "commands.registry", "runs.", "trigger", "status")
OFF_THE_WAY = ("store.people", "store.keys", "store.rows", "store.history_view", "store.change_lock", "runs.cancel",
               "runs.output")


PICTURE = CHECKOUT / "docs" / "explanation" / "layers.svg"
WIDTH, HEIGHT, STEP = 720, 44, 68  # of the picture, a box, and from one row to the next


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


def folder_of(name: str) -> str:
    """The folder that a module is in, by its name within the package; empty for the package itself."""
    return name.partition(".")[0]


@functools.cache
def arrows() -> dict[tuple[str, str], set[tuple[str, str]]]:
    """(folder, folder) -> the imports between them, as (module, module), wherever in the code they stand."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}

    for name, file in modules().items():
        for full in imports(name, file) if name else ():
            other = full.partition(".")[2] if full.startswith("webscheduler.") else ""

            if other and other != name:
                found.setdefault((folder_of(name), folder_of(other)), set()).add((name, other))

    return found


def table() -> str:
    """The folders as docs show them."""
    lines = ["| folder | what it is for | may import |", "|---|---|---|"]

    for folders, (purpose, allowed) in FOLDERS.items():
        own, others = (" ".join(f"`{folder}`" for folder in names.split()) for names in (folders, allowed))
        below = others.replace(" ".join(f"`{leaf}`" for leaf in LEAVES.split()), "the leaves")
        lines.append(f"| {own} | {purpose} | {below.replace(own, 'each other') if folders == DOORS else below} |")

    return "\n".join(lines) + "\n"


def diagram() -> str:
    """The folders as a picture (SVG): each stands above all that it may import. A line leads to what it may import and
    that nothing else of that reaches already."""
    group = {folder: folders for folders in FOLDERS for folder in folders.split()}
    below = {folders: {group[folder] for folder in allowed.split()} - {folders}
             for folders, (_, allowed) in FOLDERS.items()}
    level: dict[str, int] = {}

    while len(level) < len(below):  # a folder after all that it may import
        level.update({folders: 1 + max([level[each] for each in others], default=-1)
                      for folders, others in below.items() if folders not in level and others <= set(level)})

    rows = [[folders for folders in below if level[folders] == number] for number in range(max(level.values()) + 1)]
    middle = {folders: (WIDTH * (2 * place + 1) // (2 * len(row)), (len(rows) - 1 - number) * STEP + HEIGHT // 2 + 4)
              for number, row in enumerate(rows) for place, folders in enumerate(row)}
    shapes = []

    for folders, others in below.items():
        x, y = middle[folders]

        for other in sorted(others - {far for each in others for far in below[each]}):
            shapes.append(f'<path d="M{x} {y + HEIGHT // 2} L{middle[other][0]} {middle[other][1] - HEIGHT // 2}"/>')

    for folders, (purpose, _) in FOLDERS.items():
        x, y = middle[folders]
        wide = WIDTH // max(len(row) for row in rows if folders in row) - 16
        label = {LEAVES: "the leaves", DOORS: " ".join(sorted(set(DOORS.split()) - {"__main__", "bundle_head"}))}
        purpose = purpose if len(purpose) * 6 < wide else purpose.partition(",")[0]
        shapes += [f'<rect x="{x - wide // 2}" y="{y - HEIGHT // 2}" width="{wide}" height="{HEIGHT}" rx="5"/>',
                   f'<text x="{x}" y="{y - 3}" class="name">{label.get(folders, folders)}</text>',
                   f'<text x="{x}" y="{y + 14}">{purpose}</text>']

    shapes.sort(key=lambda shape: not shape.startswith("<path"))  # boxes cover lines
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {(len(rows) - 1) * STEP + HEIGHT + 8}"',
        'font-family="sans-serif" font-size="12" text-anchor="middle">',
        "<title>What may import what: each folder those below it</title>",
        "<style>rect{fill:#eef6f5;stroke:#4b8f88}text{fill:#1d2b2a}.name{font-weight:bold;font-size:13px}",
        "path{stroke:#4b8f88;stroke-width:1.5}</style>", *shapes, "</svg>\n"))


def test_every_module_has_its_folder() -> None:
    """Whoever adds a folder says what it may import; no name in the table is without a module."""
    assert {folder_of(name) for name in modules()} - {""} == set(ALLOWED)


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_a_module_imports_from_its_folder_and_those_below(name: str) -> None:
    """No module imports from a folder that its own may not, not even within a function."""
    own = folder_of(name)
    wrong = [other for (one, target), pairs in arrows().items() for first, other in pairs
             if first == name and one == own and target != own and target not in ALLOWED[own]]
    assert wrong == []


def test_no_circles() -> None:
    """Within a folder, too, modules import in one direction."""
    needs: dict[str, set[str]] = {}

    for pairs in arrows().values():
        for one, other in pairs:
            needs.setdefault(one, set()).add(other)

    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))

        if name not in done:
            for other in needs.get(name, ()):
                visit(other, (*path, name))

            done.add(name)

    for name in list(needs):
        visit(name, ())


def test_docs_show_the_table() -> None:
    """docs/explanation/structure.md has the table that these tests hold."""
    assert table() in (CHECKOUT / "docs" / "explanation" / "structure.md").read_text()


def test_docs_show_the_diagram() -> None:
    """docs/explanation/layers.svg is a picture of the same."""
    assert diagram() == PICTURE.read_text(), "run python -m tests.test_layers"


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


@pytest.mark.parametrize("name", [n for n in modules() if n.startswith(ON_THE_WAY) and n not in OFF_THE_WAY
                                  and folder_of(n) != "http_api"])
def test_no_dear_imports_on_the_way(name: str) -> None:
    """Nothing that a request may load imports what costs milliseconds and is not needed."""
    assert not FORBIDDEN_ON_THE_WAY & set(imports(name, modules()[name]))


def test_no_module_is_long() -> None:
    """No module of the package is over 500 lines."""
    assert [name for name, file in modules().items() if len(file.read_text().splitlines()) > 500] == []


def test_every_module_says_what_it_is_for() -> None:
    """Each module begins with a sentence on its purpose."""
    assert [name for name, file in modules().items() if not ast.get_docstring(ast.parse(file.read_bytes()))] == []


if __name__ == "__main__":  # writes the table into the docs, and prints figures
    page = CHECKOUT / "docs" / "explanation" / "structure.md"
    before, _, rest = page.read_text().partition("| folder |")
    PICTURE.write_text(diagram())
    page.write_text(before + table() + rest[rest.index("\n\n") + 1:])
    counts = collections.Counter(folder_of(name) for name in modules() if name)
    print(*(f"{folder} {count}" for folder, count in sorted(counts.items())), sep="  ")
    # The leaves count as one folder, and so do the doors.
    group = {folder: folders.split()[0] for folders in FOLDERS for folder in folders.split()}
    between = {(group[one], group[other]) for one, other in arrows()} - {(folder, folder) for folder in group.values()}
    crossing = sum(len(pairs) for (one, other), pairs in arrows().items() if group[one] != group[other])
    print(f"arrows between folders: {len(between)}, upward: 0, circles: 0; imports between folders: {crossing}")
