# SPDX-License-Identifier: LGPL-3.0-or-later
"""Searches for inputs that break a rule: each target for some time, guided by coverage, from seeds and from what it
found before. What breaks a rule is written into a folder, and printed with the command that asks the rule again.

atheris has wheels for CPython 3.11 to 3.13 on x86-64 (those for 3.9 and 3.10 are of older versions).
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import CHECKOUT
from tests.fuzz.targets import TARGETS, Ground, ground

SLOWEST = 30  # seconds for one input
LONGEST = 4096  # bytes of one
MEMORY = 1024  # MiB


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all without")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "webscheduler-fuzz"),
                        help="for what is found; outside of the checkout (%(default)s)")  # fmt: skip
    parser.add_argument("--replay", type=Path, metavar="FILE", help="ask the rule of one target about this input alone")
    given = parser.parse_args()
    unknown = set(given.targets) - TARGETS.keys()

    if unknown:
        parser.error(f"no target is named {', '.join(sorted(unknown))}")

    if given.replay and len(given.targets) != 1:
        parser.error("--replay needs the name of one target")

    if CHECKOUT in given.folder.resolve().parents:
        parser.error(f"{given.folder} is in the checkout: name another --folder")

    with tempfile.TemporaryDirectory() as folder, ground(folder) as on:
        if given.replay:
            TARGETS[given.targets[0]].check(on, given.replay.read_bytes())
            print("the rule holds")
            return 0

        if not importlib.util.find_spec("atheris"):
            print("atheris is not here: pip install -e '.[fuzz]' with a CPython 3.11 to 3.13", file=sys.stderr)
            return 2

        return max([search(on, name, given.seconds, given.folder / name) for name in given.targets or TARGETS])


def search(on: Ground, name: str, seconds: int, folder: Path) -> int:
    """Search one target, and print how many inputs were tried; 1 if one broke a rule."""
    target = TARGETS[name]
    seeds, corpus, words = folder / "seeds", folder / "corpus", folder / "words"

    for each in (seeds, corpus):
        each.mkdir(parents=True, exist_ok=True)

    for number, data in enumerate(target.seeds(on)):
        (seeds / str(number)).write_bytes(data)

    quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in target.words if word)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    before = set(folder.glob("*-*"))
    argv = [sys.executable, "-m", "tests.fuzz.guided", name, str(corpus), str(seeds), f"-dict={words}",
            f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-max_len={LONGEST}", f"-rss_limit_mb={MEMORY}",
            f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=1"]  # fmt: skip
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=CHECKOUT, text=True,
                          errors="replace", check=False)  # fmt: skip
    (folder / "log").write_text(done.stdout)
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stdout)
    coverage = re.findall(r"cov: (\d+)", done.stdout)
    found = sorted(set(folder.glob("*-*")) - before)
    print(f"{name}: {tried[1] if tried else '?'} inputs, {coverage[-1] if coverage else '?'} places in the code, "
          f"{len(list(corpus.iterdir()))} kept, {len(found)} broke a rule", flush=True)  # fmt: skip

    if done.returncode:
        print(*done.stdout.splitlines()[-40:], sep="\n")

    for file in found:
        again = f"{shlex.quote(sys.executable)} -m tests.fuzz {name} --replay {shlex.quote(str(file))}"
        print(f"{name}: {file.read_bytes()[:500]!r}\n  again: {again}")

    return int(bool(found or done.returncode))


if __name__ == "__main__":
    raise SystemExit(main())
