# SPDX-License-Identifier: LGPL-3.0-or-later
"""One target, searched by atheris: python -m tests.fuzz.guided TARGET [options of libFuzzer]; `tests.fuzz` does it."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile

import atheris

import webscheduler


def main(name: str, options: list[str]) -> None:
    # To instrument a module is much work, which no rule is to count: all of them are imported before.
    with atheris.instrument_imports(include=["webscheduler"]):
        for found in pkgutil.walk_packages(webscheduler.__path__, "webscheduler."):
            if not found.name.endswith(("__main__", "bundle_head")):
                importlib.import_module(found.name)

        from tests.fuzz.targets import TARGETS, ground

    with tempfile.TemporaryDirectory() as folder, ground(folder) as on:
        check = TARGETS[name].check
        atheris.Setup([name, *options], lambda data: check(on, data))
        atheris.Fuzz()  # does not return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
