# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a run cost: `cpuSeconds` and `maxRssBytes` of its line, where they are shown, and what `doctor` makes of them.

The witness is getrusage(2), asked by the command itself. Nothing is said of how long anything takes.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser
from tests.commandline import call, environment
from tests.installation import DOORS, Installation, ended, until
from tests.outside import installed
from tests.released import unpack
from webscheduler.host import limits
from webscheduler.vocabulary import DUE

MIB = 2**20
# Takes memory and processor time, and prints what of both the kernel says that it took.
BURNS = """
import resource, time
kept = b"x" * (%d << 20)
while time.process_time() < %f:
    sum(range(10000))
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


def burning(mib: int = 150, seconds: float = 0.5) -> list[str]:
    return [sys.executable, "-c", BURNS % (mib, seconds)]


def last(installation: Installation, name: str = "task") -> dict[str, Any]:
    until(lambda: installation.runs(name))
    installation.idle()
    return dict(installation.runs(name)[-1])


@pytest.mark.parametrize("door", DOORS)
def test_a_line_tells_what_the_child_of_a_command_took(installation: Installation, door: str) -> None:
    """A shell waits for it; the shell's own share is small."""
    installation.add(argv=["sh", "-c", '"$@"; exit 3', "sh", *burning()])
    installation.trigger(door)
    line = last(installation)
    seconds, memory = map(float, line["output"].split())
    assert line["exitCode"] == 3
    assert seconds <= line["cpuSeconds"] + 0.01 <= seconds * 2 + 2
    assert memory <= line["maxRssBytes"] <= memory * 1.2 + 20 * MIB
    assert isinstance(line["maxRssBytes"], int)


def test_what_a_command_does_not_wait_for_is_not_counted(installation: Installation) -> None:
    """It comes to the supervisor, which reaps it, too."""
    installation.add(argv=["sh", "-c", '"$@" >/dev/null 2>&1 & sleep 0.3; exit 0', "sh", *burning()])
    installation.trigger()
    line = last(installation)
    assert line["maxRssBytes"] < 100 * MIB
    assert line["cpuSeconds"] < 0.4


def test_a_run_that_lasts_and_is_ended_tells_it_too(installation: Installation) -> None:
    installation.add(argv=["sh", "-c", '"$@"; sleep 60', "sh", *burning(100, 0.2)], timeout=2)
    assert call(installation.home, "run", "task").status == 1
    line = last(installation)
    assert line["status"] == "timeout"
    assert line["maxRssBytes"] > 100 * MIB or not line["output"]  # on a machine that is slower than its time limit
    assert line["cpuSeconds"] >= 0.2 or not line["output"]


def test_nothing_is_told_of_what_nobody_saw(installation: Installation) -> None:
    """Of a program that is not there, of a tick, which has no command, and of a run whose supervisor was killed."""
    installation.add(argv=["/not/there"])
    installation.add("killed", argv=["sleep", "60"])
    installation.trigger()
    found = [last(installation)]
    installation.trigger(name=DUE)
    found.append(last(installation, DUE))
    installation.trigger(name="killed")
    facts = until(lambda: [each for each in installation.facts() if "command" in each])[0]

    for who in ("supervisor", "command"):
        os.kill(facts[who][0], signal.SIGKILL)

    until(lambda: all(map(ended, (facts["supervisor"], facts["command"]))))
    installation.trigger(name=DUE)
    found.append(last(installation, "killed"))
    assert [(line["cpuSeconds"], line["maxRssBytes"]) for line in found] == [(None, None)] * 3


def test_the_version_before_reads_the_line(tmp_path: Path) -> None:
    """It passes over what it does not know; and lines that it wrote are as good as ever."""
    folder = unpack("0.1.0", tmp_path / "0.1.0")

    with installed(tmp_path / "home", folder, folder / "cgi-bin/webscheduler.cgi") as home:
        assert home.cli("add", "task", "--", "echo", "hi").status == 0
        assert home.cli("run", "task").status == 0
        assert call(home.home, "run", "task").status == 0
        lines = call(home.home, "logs", "task", "--json").document
        assert [line.get("maxRssBytes", 0) and line["maxRssBytes"] > 0 for line in lines] == [True, 0]
        assert [line["output"] for line in home.json("logs", "task")] == ["hi\n", "hi\n"]

        for line in lines:
            shown = call(home.home, "logs", "--run", line["run"])
            assert shown.status == 0
            assert ("of processor time" in shown.out) == ("maxRssBytes" in line)


def write(installation: Installation, lines: list[dict[str, Any]]) -> None:
    """Lines of history of one run a minute, the last one now."""
    now = time.time()
    text = ""

    for number, line in enumerate(lines):
        at = time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime(now - 60 * (len(lines) - number)))
        run = f"20260101000000-{number:08x}"
        text += json.dumps({"command": "task", "startedAt": at, "finishedAt": at, "duration": 1.0, "status": "success",
                            "exitCode": 0, "output": "", "errorOutput": "", "run": run, **line}) + "\n"

    (installation.home / "logs" / "task.jsonl").write_text(text)


def test_pages_show_it(installation: Installation) -> None:
    """A run's page in words, a task's as a curve with a text that says the same; nothing where nothing is known, as in
    old lines, or where a hand wrote nonsense."""
    installation.add()
    known = [{"cpuSeconds": number / 2, "maxRssBytes": number * 10 * MIB} for number in range(1, 6)]
    write(installation, [{}, *known, {"cpuSeconds": "odd", "maxRssBytes": -1}])
    browser = Browser(installation, user=lambda environ: {"name": "viewer", "role": "viewer"})
    page = browser.get("task", name="task")
    assert ('<p id="cpuSeconds">Processor time of the last 5 runs: 0.5 s to 2.5 s, half of them at most 1.5 s.</p>\n'
            '<svg role="img" aria-labelledby="cpuSeconds"') in page
    assert ("Memory at most of the last 5 runs: 10.0 MiB to 50.0 MiB, half of them at most 30.0 MiB.") in page
    curves = re.findall(r'<path class="curve" d="M([^"]*)"/>', page.text)
    assert [len(curve.split("L")) for curve in curves] == [5, 5]
    assert curves[0].startswith("9 ")  # the first of 7 is unknown
    page = browser.get("run", name="task", run="20260101000000-00000003")
    assert "Processor time" in page and "1.5 s" in page and "30.0 MiB" in page
    assert "Processor time" not in browser.get("run", name="task", run="20260101000000-00000000")
    assert "Memory at most" not in browser.get("run", name="task", run="20260101000000-00000006")


def said(home: Path, **popen: Any) -> list[tuple[str, str]]:
    """What `doctor` says of limits."""
    return [(each["state"], each["text"]) for each in call(home, "doctor", "--json", **popen).document
            if each["about"] == "limits"]


def test_doctor_warns_before_a_limit_is_met(installation: Installation) -> None:
    """Of the process that looks: here one that may have little more than a run took, and less."""
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (800 * MIB, 800 * MIB))
        resource.setrlimit(resource.RLIMIT_CPU, (600, 600))

    installation.add()
    write(installation, [{"cpuSeconds": 470.0, "maxRssBytes": 630 * MIB}])
    (state, text), = said(installation.home, preexec_fn=little)
    assert state == "ok" and "no run came near" in text and "800 MiB of memory (RLIMIT_AS), 600 s" in text
    write(installation, [{"cpuSeconds": 490.0, "maxRssBytes": 650 * MIB}, {"cpuSeconds": 1.0, "maxRssBytes": MIB}])
    found = said(installation.home, preexec_fn=little)
    assert [state for state, _ in found] == ["note", "note"]
    assert "80% or more of the 800 MiB" in found[0][1] and "1, like task with 650 MiB" in found[0][1]
    assert "80% or more of the 600 s" in found[1][1] and "1, like task with 490 s" in found[1][1]


@pytest.mark.parametrize(("files", "expected"), [
    ({"proc/self/cgroup": "0::/user/me\n", "sys/fs/cgroup/user/me/memory.max": "max\n",
      "sys/fs/cgroup/user/memory.max": "536870912\n"}, "512 MiB of memory (cgroup)"),
    ({"proc/self/cgroup": "4:memory:/lxc/me\n3:cpu:/\n", "sys/fs/cgroup/memory/lxc/me/memory.limit_in_bytes":
      "9223372036854771712\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, "1024 MiB of memory (cg"),
    ({"proc/self/cgroup": "0::/../outside\n", "sys/fs/cgroup/memory.max": "268435456\n"}, "256 MiB of memory (cgroup)"),
    ({"proc/lve/list": "9:LVE\tEP\tlCPU\tlMEM\tlMEMPHY\n0,654321\t0\t100\t0\t1\n0,{uid}\t1\t100\t0\t262144\n"},
     "1024 MiB of memory (LVE)"),
    ({"proc/lve/list": "9:LVE\tlMEMPHY\n0,{uid}\t0\n"}, "no limit of memory"),
    ({"proc/lve/list": "", "proc/self/cgroup": "no such thing"}, "no limit of memory"),
    ({}, "no limit of memory"),
])
def test_limits_of_hosts(tmp_path: Path, installation: Installation, files: dict[str, str], expected: str) -> None:
    """As cgroups(7) and CloudLinux have them, in files of the same form."""
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text.replace("{uid}", str(os.getuid())))

    code = ("import sys; from webscheduler.host import limits; "
            "print(*(each.text() for each in limits.of_costs(*sys.argv[1:2], [], sys.argv[2])))")
    done = subprocess.run([sys.executable, "-c", code, str(installation.home), str(tmp_path / "root")], check=True,
                          capture_output=True, text=True, env=environment(installation.home))
    assert expected in done.stdout


def test_the_limits_of_this_host_can_be_asked_for(installation: Installation) -> None:
    assert all(finding.about == "limits" for finding in limits.of_costs(str(installation.home), ["task"]))
