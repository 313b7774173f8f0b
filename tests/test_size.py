# SPDX-License-Identifier: LGPL-3.0-or-later
"""The size of the package: small enough to read in an afternoon. `python -m tests.test_size` prints it."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

from tests import PACKAGE

MOST = 16010
MOST_ON_THE_WAY = 1974
# What a plain request for /run goes through under CGI, from the environ to the line of history. What only unusual
# requests need (a timed signature, a list of addresses, no index), and what comes after the record, is not on it.
WAY = """
    cgi errors vocabulary times http trigger
    store/files store/index store/locks store/state store/history store/refusals
    runs/admission runs/strategies runs/detach runs/supervisor runs/process runs/recorder
"""
NOTHING = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(file: Path) -> int:
    """Lines that hold code: without blank ones, comments and docstrings."""
    text = file.read_text()
    found = set()

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOTHING:
            found.update(range(token.start[0], token.end[0] + 1))

    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))

        if documented and ast.get_docstring(node):
            docstring = node.body[0]
            found -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))

    return len(found)


def test_the_package_is_small() -> None:
    """All of it, and what a trigger goes through."""
    assert sum(map(lines_of_code, PACKAGE.rglob("*.py"))) < MOST
    assert sum(lines_of_code(PACKAGE / f"{name}.py") for name in WAY.split()) < MOST_ON_THE_WAY


if __name__ == "__main__":
    print(sum(map(lines_of_code, PACKAGE.rglob("*.py"))), "lines of code, of which",
          sum(lines_of_code(PACKAGE / f"{name}.py") for name in WAY.split()), "on the way of a trigger")
