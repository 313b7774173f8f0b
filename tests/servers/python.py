"""The servers that are Python programs: gunicorn, waitress, cheroot, wsgiref; and uWSGI.

All run as the user, as a host's do. It may import `server`.
"""

from __future__ import annotations

import signal
from pathlib import Path

from tests.servers.server import Plan, Process, Site

SERVE = str(Path(__file__).with_name("serve.py"))


def gunicorn(site: Site, *options: str) -> Plan:
    argv = [site.python, "-m", "gunicorn", "--bind", f"127.0.0.1:{site.port}", "--no-control-socket", *options]
    # gunicorn cuts the SCRIPT_NAME of its environment off each path: its way to be mounted below a prefix.
    env = {**site.env, **({"SCRIPT_NAME": site.prefix} if site.prefix else {})}
    process = Process([*argv, *site.extra, f"{site.file.stem}:application"], site.user, env=env, cwd=site.file.parent)
    return Plan([process], "Booting worker", site.prefix, signal.SIGHUP)


def gunicorn_sync(site: Site) -> Plan:
    return gunicorn(site, "--workers", "4")


def gunicorn_gthread(site: Site) -> Plan:
    return gunicorn(site, "--worker-class", "gthread", "--threads", "8")


def served(site: Site, server: str) -> Plan:
    argv = [site.python, site.write("serve.py", Path(SERVE).read_text())]
    argv += [server, str(site.port), site.prefix, str(site.file), *site.extra]
    return Plan([Process(argv, site.user, env=site.env, cwd=site.file.parent)], "the server is ready", site.prefix)


def waitress(site: Site) -> Plan:
    return served(site, "waitress")


def cheroot(site: Site) -> Plan:
    return served(site, "cheroot")


def wsgiref(site: Site) -> Plan:
    return served(site, "wsgiref")
