"""The structure: who may import whom, what may be imported at all, and how large it may become."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "webscheduler"

# A module imports only from lines below its own.
LINES = (
    ("__init__", "__main__", "onefile"),
    ("cgi", "wsgi", "cli", "api"),
    ("admin",),
    ("trigger", "probe", "transfer", "systemd", "doctor", "bundle"),
    ("editing", "functions", "export"),
    ("access", "decision", "due", "runner", "housekeeping", "installation", "crontab", "cancel", "hosting", "shim"),
    ("record",),
    ("commands", "config", "history", "locks", "schedule", "store", "notify", "capabilities"),
    ("task", "signing", "request"),
    ("errors", "cron", "words", "strategies", "atomic", "addresses", "builtin"),
)
LINE_OF = {name: number for number, names in enumerate(LINES) for name in names}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The module's name in LINES: a package counts as one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[tuple[str, int]]:
    """(what is imported, as a dotted name; how many packages up it starts, 0: absolute), wherever in the file but for
    what only a type checker reads."""
    found = []
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body
                 if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is None:
            found += [(alias.name, node.level) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level))

    return found


def own(path: Path) -> set[str]:
    """The rooms of this package that the module imports."""
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()

    for name, level in imported(path):
        if level == depth:
            found.add(name.split(".")[0])
        elif name.startswith("webscheduler."):
            found.add(name.split(".")[1])

    return found - {room(path)}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(path):
    """The layers hold, for imports inside functions too, and every module has its place in them."""
    assert room(path) in LINE_OF, f"give {room(path)} a line in LINES"
    wrong = [name for name in own(path) if LINE_OF.get(name, -1) <= LINE_OF[room(path)]
             and ((PACKAGE / name).with_suffix(".py").exists() or (PACKAGE / name).is_dir())]
    assert not wrong, f"{room(path)} must not import {wrong}"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="sys.stdlib_module_names came with 3.10")
@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_run_time_needs_the_standard_library_and_filelock(path):
    """Nothing else is imported anywhere, and of the standard library only public modules."""
    names = {name.split(".")[0] for name, level in imported(path) if not level}
    assert names - sys.stdlib_module_names <= {"filelock", "webscheduler"}
    assert {name for name in names if name.startswith("_")} <= {"__future__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path):
    """Each begins with a docstring of more than a title."""
    assert len(ast.get_docstring(ast.parse(path.read_text())) or "") > 30


def test_no_module_is_long():
    """500 lines are the most that can be read at a sitting."""
    assert {path.name: lines for path in modules() if (lines := len(path.read_text().splitlines())) > 500} == {}


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    source = path.read_text()
    documented = set()

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False):
            documented |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))

    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines = {number for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in silent
             for number in range(token.start[0], token.end[0] + 1)}
    return len(lines - documented)


TRIGGER_WAY = ("cgi", "wsgi", "trigger", "access", "decision", "runner", "record", "config", "history", "locks",
               "store", "task", "signing", "request", "errors", "strategies", "atomic", "addresses", "commands")


def test_the_way_of_a_trigger_stays_small():
    """What must be read to trust a trigger."""
    assert sum(code_lines(PACKAGE / f"{name}.py") for name in TRIGGER_WAY) < 2200
