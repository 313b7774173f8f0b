# SPDX-License-Identifier: LGPL-3.0-or-later
"""Apache: mod_cgi, mod_cgid, suexec, mod_wsgi in three ways, Passenger.

Each starts from a configuration of its own, nothing of /etc/apache2 is read. As root Apache keeps its privileged
parent and gives the work to the user, as on a host; otherwise all of it is the caller's. It may import `server`.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from signal import SIGUSR1

from tests.servers.server import Plan, Process, Site

APACHE = "/usr/sbin/apache2"
SUEXEC = "/usr/lib/apache2/suexec"
MODULES = "/usr/lib/apache2/modules"
WSGI = f"{MODULES}/mod_wsgi.so"
PASSENGER_AGENT = "/usr/lib/passenger/support-binaries/PassengerAgent"
PASSENGER = f"{MODULES}/mod_passenger.so"
SUEXEC_HTTPD = "www-data"  # the only user whose server Debian's suexec obeys


def modules(*names: str) -> list[str]:
    return [f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in names]


def apache(site: Site, *lines: str, below: Sequence[str] = (), user: str | None = None, path: str = "") -> Plan:
    user = user or site.user
    account = []
    if os.geteuid() == 0:
        account = [f"User {user}", f"Group {grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name}"]
    configuration = site.write(
        "apache.conf",
        f"ServerRoot {site.run}",
        f"DefaultRuntimeDir {site.run}",
        f"PidFile {site.run}/pid",
        f"Mutex file:{site.run} default",
        f"Listen 127.0.0.1:{site.port}",
        "ServerName localhost",
        *account,
        f"ErrorLog {site.log}",
        "LogLevel info",
        *modules("authz_core", "mime", "alias", "env", "setenvif", "rewrite", "dir"),
        "TypesConfig /dev/null",
        "Timeout 60",
        f"DocumentRoot {site.run}",
        f"<Directory {site.directory}>\nRequire all granted\nAllowOverride All\nOptions +FollowSymLinks\n</Directory>",
        *lines,
        *site.extra,
    )
    # mod_wsgi offers no setting for the environment of its processes but the server's own.
    process = Process([*below, APACHE, "-f", configuration, "-DFOREGROUND"], site.port, env=site.env)
    return Plan([process], "resuming normal operations", path, SIGUSR1)


def cgi_lines(site: Site) -> list[str]:
    return [
        *(f'SetEnv {name} "{value}"' for name, value in site.env.items()),
        f"ScriptAlias /cgi-bin/ {site.file.parent}/",
    ]


def cgi(site: Site) -> Plan:
    lines = modules("mpm_prefork", "cgi") + cgi_lines(site)
    return apache(site, *lines, path=f"/cgi-bin/{site.file.name}")


def cgid(site: Site) -> Plan:
    lines = modules("mpm_event", "cgid") + cgi_lines(site)
    return apache(site, *lines, f"ScriptSock {site.run}/cgisock", path=f"/cgi-bin/{site.file.name}")


def suexec(site: Site) -> Plan:
    """Scripts run as the account whose home they lie in. That account is one the system has, and a changed copy of
    /etc/passwd, seen by this Apache only, makes the workplace its home."""
    accounts = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    for fields in accounts:
        if fields[0] == site.user:
            fields[5] = str(site.directory)
    passwd = site.write("passwd", *(":".join(fields) for fields in accounts))
    below = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', passwd]

    if site.env:  # suexec lets no variable of the server through
        first, _, rest = site.file.read_text().partition("\n")
        settings = " ".join(f"{name}={value}" for name, value in site.env.items())
        first = re.sub(r"#!(\S*/env (-S )?)?", f"#!/usr/bin/env -S {settings} ", first)
        if len(first) > 255:
            raise ValueError(f"the kernel takes no #! line of {len(first)} characters")
        site.file.write_text(f"{first}\n{rest}")

    return apache(
        site,
        *modules("mpm_prefork", "cgi", "suexec", "userdir"),
        "UserDir public_html",
        f"<Directory {site.file.parent}>\nSetHandler cgi-script\nOptions +ExecCGI\n</Directory>",
        below=below,
        user=SUEXEC_HTTPD,
        path=f"/~{site.user}/cgi-bin/{site.file.name}",
    )


def suexec_check() -> str | None:
    """suexec has to become another user, and we have to show it another /etc/passwd."""
    if os.geteuid() != 0:
        return "apache-suexec: needs root"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        return "apache-suexec: needs the right to make a mount namespace"
    return None


def mod_wsgi(site: Site, *lines: str) -> Plan:
    lines = (*modules("wsgi"), *lines, f"WSGIScriptAlias {site.prefix or '/'} {site.file}")
    return apache(site, *lines, path=site.prefix)


def mod_wsgi_embedded(site: Site) -> Plan:
    return mod_wsgi(site, *modules("mpm_prefork"), f"WSGIPythonHome {Path(site.python).parents[1]}")


def mod_wsgi_subinterpreter(site: Site, *lines: str) -> Plan:
    """The daemon as it is when nobody asks for more: the application gets an interpreter of its own."""
    return mod_wsgi(
        site,
        *modules("mpm_event"),
        f"WSGISocketPrefix {site.run}/wsgi",
        f"WSGIDaemonProcess w processes=1 threads=8 python-home={Path(site.python).parents[1]} home={site.directory}",
        "WSGIProcessGroup w",
        *lines,
    )


def mod_wsgi_daemon(site: Site) -> Plan:
    return mod_wsgi_subinterpreter(site, "WSGIApplicationGroup %{GLOBAL}")


def passenger(site: Site) -> Plan:
    public = site.file.with_name("public")
    public.mkdir(exist_ok=True)
    mount = f"Alias {site.prefix} {public}\nPassengerBaseURI {site.prefix}" if site.prefix else f"DocumentRoot {public}"
    plan = apache(
        site,
        *modules("mpm_event", "passenger"),
        "PassengerRoot /usr/lib/ruby/vendor_ruby/phusion_passenger/locations.ini",
        "PassengerDefaultRuby /usr/bin/ruby",
        f"PassengerPython {site.python}",
        "PassengerDisableSecurityUpdateCheck on",
        "PassengerDisableAnonymousTelemetry on",
        f"PassengerInstanceRegistryDir {site.run}",
        "PassengerMaxPoolSize 4",
        f"PassengerAppRoot {site.file.parent}",
        mount,
        path=site.prefix,
    )
    return plan._replace(agent=PASSENGER_AGENT)
