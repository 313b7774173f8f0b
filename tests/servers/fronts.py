# SPDX-License-Identifier: LGPL-3.0-or-later
"""Servers that are no Python and not Apache: lighttpd, nginx with fcgiwrap, nginx as a proxy, Passenger on its own.

It may import `apache`, `wsgi` and `server`.
"""

from __future__ import annotations

import os
import subprocess
from signal import SIGHUP, SIGUSR1

from tests.servers import wsgi
from tests.servers.apache import PASSENGER_AGENT
from tests.servers.server import Plan, Process, Site, free_port

LIGHTTPD = "/usr/sbin/lighttpd"
NGINX = "/usr/sbin/nginx"
FCGIWRAP = "/usr/sbin/fcgiwrap"
PASSENGER = "/usr/bin/passenger"


def lighttpd(site: Site) -> Plan:
    configuration = site.write(
        "lighttpd.conf",
        'server.modules = ("mod_cgi", "mod_alias", "mod_setenv")',
        f'server.document-root = "{site.run}"',
        f"server.port = {site.port}",
        'server.bind = "127.0.0.1"',
        f'server.username = "{site.user}"' if os.geteuid() == 0 else "",
        f'server.errorlog = "{site.log}"',
        f'server.upload-dirs = ("{site.run}")',
        "setenv.add-environment = (",
        *(f'"{name}" => "{value}",' for name, value in site.env.items()),
        ")",
        'cgi.assign = (".cgi" => "")',
        f'alias.url = ("/cgi-bin/" => "{site.file.parent}/")',
        *site.extra,
    )
    process = Process([LIGHTTPD, "-D", "-f", configuration], site.port)
    return Plan([process], "server started", f"/cgi-bin/{site.file.name}", SIGUSR1)


def nginx(site: Site, *location: str) -> Process:
    configuration = site.write(
        "nginx.conf",
        f"user {site.user};" if os.geteuid() == 0 else "",
        "daemon off;",
        "worker_processes 1;",
        f"pid {site.run}/pid;",
        f"error_log {site.log} notice;",
        "events { }",
        "http {",
        "access_log off;",
        *(f"{name}_temp_path {site.run}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")),
        "server {",
        f"listen 127.0.0.1:{site.port};",
        *location,
        *site.extra,
        "}",
        "}",
    )
    return Process([NGINX, "-e", str(site.log), "-c", configuration], site.port)


def fcgiwrap(site: Site) -> Plan:
    socket = site.run / "fcgiwrap"
    name = site.file.name
    front = nginx(
        site,
        f"location /cgi-bin/{name} {{",
        r"fastcgi_split_path_info ^(/cgi-bin/[^/]+)(/.*)?$;",
        f"fastcgi_pass unix:{socket};",
        "include /etc/nginx/fastcgi_params;",
        f"fastcgi_param SCRIPT_FILENAME {site.file};",
        "fastcgi_param PATH_INFO $fastcgi_path_info;",
        *(f'fastcgi_param {name} "{value}";' for name, value in site.env.items()),
        "}",
    )
    back = Process([FCGIWRAP, "-c", "8", "-s", f"unix:{socket}"], socket, site.user, whole_group=True)
    return Plan([back, front], "start worker process ", f"/cgi-bin/{name}", SIGHUP)


def proxy(site: Site) -> Plan:
    """http and https in front of gunicorn, which hears of the client through X-Forwarded-For and -Proto."""
    behind = wsgi.gunicorn(site._replace(port=free_port(), extra=()), workers=4)
    secure = free_port()
    key, certificate = site.run / "key.pem", site.run / "certificate.pem"
    argv = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    argv += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*argv, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    front = nginx(
        site,
        f"listen 127.0.0.1:{secure} ssl;",
        f"ssl_certificate {certificate};",
        f"ssl_certificate_key {key};",
        "location / {",
        f"proxy_pass http://127.0.0.1:{behind.processes[0].address};",
        "proxy_set_header Host $http_host;",
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "}",
    )
    return Plan([*behind.processes, front], "start worker process ", site.prefix, SIGHUP, secure, certificate)


def passenger(site: Site) -> Plan:
    """Passenger Standalone with the engine of its own; the one with nginx would have to be compiled."""
    if site.prefix:
        raise ValueError("Passenger Standalone mounts an application at / only")
    site.file.with_name("public").mkdir(exist_ok=True)
    argv = [PASSENGER, "start", str(site.file.parent), "--engine", "builtin", "--address", "127.0.0.1"]
    argv += ["--port", str(site.port), "--app-type", "wsgi", "--startup-file", str(site.file), "--python", site.python]
    argv += ["--environment", "production", "--max-pool-size", "4"]
    argv += ["--disable-security-update-check", "--disable-anonymous-telemetry"]
    argv += ["--pid-file", f"{site.run}/pid", "--log-file", f"{site.run}/log", "--instance-registry-dir", str(site.run)]
    env = {**site.env, "HOME": str(site.directory), "TMPDIR": str(site.run)}
    process = Process([*argv, *site.extra], site.port, site.user, env, whole_group=True)
    return Plan([process], "You can stop Phusion Passenger", agent=PASSENGER_AGENT)
