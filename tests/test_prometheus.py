# SPDX-License-Identifier: LGPL-3.0-or-later
"""What docs/how-to/monitoring.md says to Prometheus, said to Prometheus: its promtool, and a server that scrapes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from tests.commandline import call
from tests.installation import PATIENCE, Installation, until
from tests.servers.server import free_port
from tests.test_docs import DOCS
from tests.test_pages import served

PAGE = (DOCS / "how-to" / "monitoring.md").read_text()
CONFIGURATION, RULES, PARTS, HEADERS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NAMED = "/etc/prometheus/webscheduler.key"


def required(program: str) -> str:
    found = shutil.which(program)

    if found is None:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)(f"{program} is missing")

    return str(found)


@pytest.fixture
def key(installation: Installation, tmp_path: Path) -> Path:
    """The file of the key, made as the page says."""
    file = tmp_path / "webscheduler.key"
    done = call(installation.home, "api-key", "add", "prometheus", "--role", "viewer")
    assert done.status == 0
    file.write_text(done.out)
    return file


def written(key: Path, configuration: str) -> Path:
    """The configuration, which knows where the key is, with the rules beside it."""
    file = key.with_name("prometheus.yml")
    file.write_text(configuration.replace(NAMED, str(key)))
    file.with_name("webscheduler.rules.yml").write_text(RULES)
    return file


def test_promtool_takes_configuration_and_rules(key: Path) -> None:
    """As they stand on the page, but for the folder of the key."""
    program = required("promtool")
    checked = subprocess.run([program, "check", "config", written(key, CONFIGURATION)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "SUCCESS: 4 rules found" in checked.stdout
    parts = subprocess.run([program, "check", "config", written(key, PARTS)], capture_output=True, text=True)
    assert parts.returncode == 0, parts.stderr
    assert [job["params"] for job in yaml.safe_load(PARTS)["scrape_configs"]] == [{"until": ["m"]}, {"after": ["m"]}]
    written(key, CONFIGURATION + "wrong: 1\n")
    assert subprocess.run([program, "check", "config", key.with_name("prometheus.yml")], capture_output=True).returncode


def test_the_other_header_takes_the_place_of_authorization() -> None:
    """With the same indentation, as Prometheus 2.55 knows it; the Debian of the tests has an older one."""
    text = re.sub(r"^    authorization:\n.*\n", lambda _: HEADERS, CONFIGURATION, flags=re.MULTILINE)
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert "authorization" not in job
    assert job["http_headers"] == {"X-Webscheduler-Key": {"files": [NAMED]}}
    assert job["static_configs"] == [{"targets": ["example.org"]}]


def test_prometheus_tells_what_fails(installation: Installation, key: Path) -> None:
    """It scrapes with the key, and alerts of a task that fails, of one that is late, and that nobody calls; then of a
    host that does not answer."""
    program = required("prometheus")
    installation.add("good", ["true"])

    for name in ("bad", "off"):
        installation.add(name, ["false"])
        call(installation.home, "run", name)

    installation.edit("off", enabled=False)
    installation.add("late", intervalSeconds=60)
    installation.edit("late", lastRunAt="2020-01-01T00:00:00.000+00:00")
    own = f"127.0.0.1:{free_port()}"
    words = [program, f"--web.listen-address={own}", f"--storage.tsdb.path={key.with_name('data')}"]

    down = {("WebschedulerDown", "")}

    def asked(path: str) -> Any:
        with urlopen(f"http://{own}/api/v1/{path}", timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def answers() -> bool:
        return [each["value"][1] for each in asked("query?query=webscheduler_up")["result"]] == ["1"]

    def alerts() -> set[tuple[str, str]]:
        try:
            told = asked("alerts")["alerts"]
        except OSError:  # it is starting
            return set()

        assert all(each["annotations"]["summary"] for each in told)
        return {(each["labels"]["alertname"], each["labels"].get("task", "")) for each in told}

    with served(installation.home) as address:
        configuration = CONFIGURATION.replace("example.org", address.partition("//")[2]).replace("https", "http")
        file = written(key, "global: {scrape_interval: 1s, evaluation_interval: 300ms}\n" + configuration)

        with open(key.with_name("log"), "wb") as log:
            running = subprocess.Popen([*words, f"--config.file={file}"], stdout=log, stderr=log)

        try:
            # On a busy machine a scrape may take longer than it may: the host is down for that moment.
            until(lambda: alerts() - down == {("WebschedulerTaskFails", "bad"), ("WebschedulerTaskLate", "late"),
                                              ("WebschedulerNotCalled", "")})
            installation.edit("bad", consecutiveFailures=0)
            call(installation.home, "run-due")
            until(lambda: answers() and alerts() - down == set())
        except BaseException:
            running.kill()
            running.wait()
            raise

    try:
        until(lambda: down <= alerts())
    finally:
        running.terminate()
        running.wait()
