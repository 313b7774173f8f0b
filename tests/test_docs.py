# SPDX-License-Identifier: LGPL-3.0-or-later
"""The documentation against the program: links lead somewhere, commands parse, nothing that exists is left unnamed.

Rule: pages are read as their readers see them, and commands are given to the real parser; nothing is executed.
"""

from __future__ import annotations

import ast
import datetime
import functools
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests import CHECKOUT
from tests.benchmarks import page, table
from tests.embedding import EXAMPLES, shown
from tests.installation import Installation
from tests.pages import DOCS, FENCE, blocks, name, prose
from webscheduler.cli import parse
from webscheduler.cli.parser import MODULES
from webscheduler.cli.tasks import given_fields
from webscheduler.errors import BadInput
from webscheduler.host.entry_files import entry
from webscheduler.schedule import slots
from webscheduler.store.fields import from_text
from webscheduler.store.settings import SETTINGS
from webscheduler.store.task import FIELDS
from webscheduler.vocabulary import ENTRY, FINISHED, REASONS

PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md")])
FRENCH = [page for page in PAGES if page.name.endswith(".fr.md")]
GENERATED = DOCS / "reference" / "cli.md"  # usage lines, not commands

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?<!install )(?:^|(?<=[\s(`]))(?:[~/$.\w-]*/)?webscheduler ([^\n]*)")




def commands(page: Path) -> Iterator[str]:
    """The words after `webscheduler` wherever a page tells to call it, in blocks and in spans of code."""
    text = page.read_text()
    code = [*blocks(text), *re.findall(r"`([^`]+)`", prose(text).replace("\n", " "))]

    for piece in code:
        for line in piece.replace("\\\n", " ").split("\n"):
            if line.lstrip().startswith(("#", "from ", "import ", "location ")):
                continue

            for found in COMMAND.finditer(line):
                words = re.split(r"\)|`|(?<!\S)#|\s+(?:\||;|&&|>|2>|\()", found[1])[0].strip().rstrip(";")

                if words and "…" not in words and re.match(r"[a-z-]", words):
                    yield re.sub(r"\s+", " ", re.sub(r"\s*>.*", "", words))


def check(words: str) -> None:
    """Raises BadInput or ValueError for what the command line would refuse, but for names that only a home knows."""
    try:
        args = parse(shlex.split(words))
    except SystemExit:  # --help and --version, which were printed
        return

    if args.verb in ("add", "edit") and (expression := given_fields(args).get("expression")):
        slots.check_expression(expression)

    if args.verb == "config":
        given = (args.key is not None) + (args.value is not None)

        if given != {"list": 0, "get": 1, "set": 2, "unset": 1}.get(args.action):
            raise ValueError("config takes another number of words")

    if args.verb == "config" and args.key and not args.key.isupper():
        row = SETTINGS.get(args.key)

        if row is None:
            raise ValueError(f"there is no setting {args.key}")

        if args.action == "set":
            from_text(args.key, row, args.value)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"`|\*|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(found[1]) for found in re.finditer(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file of the repository, and each anchor a heading of it."""
    wrong = []

    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue

        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page

        known = anchors(file) if anchor and file.suffix == ".md" and file.exists() else {""}

        if not file.exists() or CHECKOUT not in file.parents or anchor not in known | {""}:
            wrong.append(target)

    assert not wrong


@pytest.mark.parametrize("page", [page for page in PAGES if page != GENERATED], ids=name)
def test_commands_are_commands(page: Path) -> None:
    """Each `webscheduler …` that a page tells to type is taken by the parser as it stands."""
    wrong = {}

    for words in commands(page):
        try:
            check(words)
        except (BadInput, ValueError) as error:
            wrong[words] = str(error)

    assert not wrong


def test_commands_are_found() -> None:
    """The search finds commands of blocks, of lists, of spans, behind a path and inside other commands."""
    found = [words for page in PAGES if page != GENERATED for words in commands(page)]
    assert len(found) > 100
    assert "url backup" in found
    assert any(words.startswith("init --cgi-bin") for words in found)
    assert "run-due" in found
    assert "add backup --cron '15 3 * * *' -- /usr/bin/php /home/me/app/backup.php" in found


@pytest.mark.parametrize("wrong", [
    "install", "init --cgibin x", "url", "add backup --corn x -- true", "add backup --cron '99 * * * *' -- true",
    "run 'x", "config set baseURL x", "config set defaultTimeout soon", "config get",
])
def test_a_wrong_command_would_be_noticed(wrong: str) -> None:
    """What is no command is refused by the same check."""
    with pytest.raises((BadInput, ValueError)):
        check(wrong)


@pytest.mark.parametrize("kind, names", [("verb", MODULES), ("setting", SETTINGS), ("field", FIELDS)])
def test_all_there_is_is_named(kind: str, names: dict[str, object]) -> None:
    """The reference names every verb, every setting and every field of a task, as code."""
    reference = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    assert not [each for each in names if not re.search(rf"`(?:webscheduler )?{each}`", reference)], kind


@functools.cache
def tables() -> ModuleType:
    """docs/reference/tables.py, which writes pages."""
    spec = importlib.util.spec_from_file_location("reference_tables", DOCS / "reference" / "tables.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)

    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before

    return module


@pytest.mark.parametrize("page", ["api.md", "settings.md", "fields.md", "history.md", "python.md",
                                  "../how-to/faults.md", "../how-to/callers.md"])
def test_the_reference_of_tables_is_fresh(page: str) -> None:
    """settings.md, fields.md, history.md, python.md, the causes in faults.md and callers.md are what their generator
    makes of the tables and docstrings."""
    assert (DOCS / "reference" / page).read_text() == tables().render()[page], "run python docs/reference/tables.py"


def test_the_page_of_costs_has_the_rows_that_are_measured() -> None:
    """And their bars and aims, and the words around them. Its numbers are of the machine that measured."""
    text = (CHECKOUT / page.PAGE).read_text()
    rows = [f"| {row.work} | {row.against} | {page.number(row.bar, row.unit)} | {page.number(row.aim, row.unit)} |"
            for row in table.ROWS]
    frame = re.split(r"\{\w+\}", page.INTRODUCTION + page.GROWTH + page.PEERS)
    parts = rows + frame[:3] + frame[-1:]
    assert not [each for each in parts if each not in text], "run python -m tests.benchmarks --write-docs"


def test_what_is_said_of_a_caller_has_a_source() -> None:
    """Each fact is "not known", or has sources, each an address and the day when it was read; none is left over."""
    data = tables().facts()
    known = [caller[key] for caller in data["callers"] for key in tables().FACTS if caller[key] != tables().UNKNOWN]
    assert len(known) > 20
    assert all(sorted(fact) == ["sources", "text"] and fact["text"] and fact["sources"] for fact in known)
    assert {source for fact in known for source in fact["sources"]} == set(data["sources"])
    today = datetime.date.today().isoformat()
    assert not [source for source in data["sources"].values() if not source["address"].startswith("https://")
                or not datetime.date.fromisoformat(source["read"]).isoformat() <= today]


def test_what_is_pasted_for_a_caller_can_be_read() -> None:
    """YAML is YAML, a curl line ends in time and shows errors, and nothing prints what it gets."""
    for caller in tables().facts()["callers"]:
        assert caller["lines"], caller["name"]

        for lines in caller["lines"]:
            text = "\n".join(lines["text"])
            assert lines["language"] != "yaml" or isinstance(yaml.safe_load(text), dict)
            assert "curl" not in text or re.search(r"curl\W+-fsS\W+-m\W+60\W+-o\W+/dev/null|image: curl", text), text


def test_history_is_explained_whole(installation: Installation) -> None:
    """Each key of a line of history has its row, and so has each status and each reason that the program gives."""
    installation.add(argv=["true"], strategy="sync")
    installation.trigger()
    line, = installation.history()
    text = (DOCS / "reference" / "history.md").read_text()
    assert list(line) == list(ENTRY)
    wanted = {*line, *REASONS, *FINISHED}
    assert not [each for each in wanted if f"`{each}`" not in text]


def test_each_threat_names_a_test_that_exists() -> None:
    """The last column of the table in security.md."""
    text = (DOCS / "explanation" / "security.md").read_text().partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[-1] for line in text.splitlines() if line.startswith("| ")][1:]
    tests = {found for file in (CHECKOUT / "tests").rglob("test_*.py")
             for found in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)}
    named = [re.findall(r"`(\w+)`", row) for row in rows]
    assert rows
    assert all(named)
    assert not {each for row in named for each in row} - tests


def test_each_promise_names_tests_that_exist() -> None:
    """Each promise of guarantees.md names at least one, by its file; there and in hosts.md none is named in vain."""
    text = (DOCS / "explanation" / "guarantees.md").read_text()
    tests = {f"{file.name}::{found.name}" for file in (CHECKOUT / "tests").glob("test_*.py")
             for found in ast.parse(file.read_text()).body if isinstance(found, ast.FunctionDef)}
    promises = re.findall(r"^\* .*?(?=^\* |^#|^$)", text.partition("## How it is tried")[0], re.MULTILINE | re.DOTALL)
    hosts = (DOCS / "explanation" / "hosts.md").read_text()
    assert len(promises) > 20
    assert not [promise for promise in promises if "::test_" not in promise]
    assert not set(re.findall(r"`(test_\w+\.py::\w+)`", text + hosts)) - tests
    assert text.count("::test_") == len(re.findall(r"`test_\w+\.py::\w+`", text))


def test_every_page_can_be_found() -> None:
    """The index of the documentation leads to each of its pages, and the README to the index's three parts."""
    index = DOCS / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())}
    assert not [name(page) for page in DOCS.rglob("*.md") if page not in linked and page != index]


def test_every_page_is_in_the_navigation() -> None:
    """The site's navigation has each page of docs/ once, and those that its hooks bring from the top."""
    text = (DOCS / "site" / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- (?:[^\n]*: )?([\w/.-]+\.md)$", text.partition("\nnav:")[2], re.MULTILINE)
    assert sorted(listed) == sorted([
        *(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")),
        *(f"project/{page}.md" for page in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY"))])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_begins_with_what_it_is_about(page: Path) -> None:
    """One title, and then a sentence: no list, table, code or further title, and no word on how the page is made."""
    title, first, *_ = re.sub(r"(?m)^\[(En français|In English)\]\(.*\)\n\n", "", page.read_text()).split("\n\n", 2)
    assert re.fullmatch("# .+", title)
    assert re.match(r"[\w`\[]", first)
    assert re.search(r"[.:?](?!\w)", first)
    assert "generated" not in first.partition(". ")[0]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_of_this_machine(page: Path) -> None:
    """No page names a path of the machine that it was written on."""
    text = page.read_text()
    here = {str(CHECKOUT), sys.prefix, sys.base_prefix, str(Path.home())} - {"/", "/usr", "/home/me"}
    assert not [path for path in here if re.search(rf"{re.escape(path)}\b", text)]


@pytest.mark.parametrize("page", FRENCH, ids=name)
def test_french_pages_are_french_and_whole(page: Path) -> None:
    """A French page has its accents and spaces, and the same commands, blocks of code, sections, rows, items, pictures
    and links as the English one, to which it leads and which leads to it."""
    english = page.with_name(page.name.replace(".fr.md", ".md"))
    text = prose(page.read_text())
    words = re.findall(r"[^\W\d_]+", re.sub(r"`[^`]*`|\]\([^)]*\)|«[^»]*»", "", text).lower())
    accented = [word for word in words if set(word) & set("àâçéèêëîïôùûœ")]
    assert len(accented) > len(words) / 20
    assert not {"the", "and", "with", "which", "your"} & set(words)
    assert not re.search(r"[^\s\u202f\u00a0][;!?](?=\s)", re.sub(r"`[^`]*`", "", text)), "a space before ; ! ?"

    assert list(commands(page)) == list(commands(english))
    assert list(blocks(page.read_text())) == list(blocks(english.read_text()))
    assert [len(found) for found in re.findall(r"^(#+) ", text, re.MULTILINE)] == [
        len(found) for found in re.findall(r"^(#+) ", prose(english.read_text()), re.MULTILINE)]

    def shape(there: Path) -> tuple[int, int, int, set[str]]:
        words = prose(there.read_text())
        links = {target.replace(".fr.md", ".md") for target in LINK.findall(words)}
        rows, items = (len(re.findall(begins, words, re.MULTILINE)) for begins in (r"^ *\|", r"^ *(?:[-*]|\d+\.) "))
        return rows, items, words.count("!["), {target.partition("#")[0] for target in links}

    assert shape(page) == shape(english)
    assert f"]({english.name})" in text
    assert f"]({page.name})" in english.read_text()


def test_there_are_french_pages() -> None:
    """The tutorial, the panel and the hosts of French-speaking countries have a page in French."""
    assert [page.name for page in FRENCH] == ["cpanel.fr.md", "infomaniak.fr.md", "o2switch.fr.md", "ovh.fr.md",
                                              "panel.fr.md", "first-task.fr.md"]


def test_the_examples_are_those_that_are_tested() -> None:
    """What is Python in a page, but for imports alone and the signatures of the reference, stands between the lines of
    dashes of a tested file, word for word, and the other way round."""
    pages = [page for page in DOCS.rglob("*.md") if page.name != "python.md"]
    fences = [code for page in pages for code in re.findall(r"(?ms)^```python\n(.*?)^```$", page.read_text())]
    assert {code.strip() for code in fences if not re.fullmatch(r"(from .*\s*)+", code)} == {
        shown(example.name) for example in EXAMPLES}


@pytest.mark.parametrize("page", ["ovh.md", "ovh.fr.md"])
def test_the_shim_says_what_the_page_says(page: str) -> None:
    """The words that the PHP file prints are those that the page explains, and its patience is the one it names."""
    text = (DOCS / "how-to" / page).read_text()
    assert "'accepted' : 'not accepted: '" in entry("shim.php")
    assert "$seconds = 120;" in entry("shim.php")
    assert "`accepted`" in text
    assert "`not accepted:" in text
    assert "120" in text
