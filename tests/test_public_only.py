# SPDX-License-Identifier: LGPL-3.0-or-later
"""What `http` calls for a task that was saved in the panel: the internet, not what is behind the firewall."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import network
from tests.commandline import call
from tests.installation import Installation
from tests.listeners import listening, make_certificate
from webscheduler.addresses import is_public
from webscheduler.fetching import NotPublic, check_public, fetch
from webscheduler.host import doctor
from webscheduler.store.settings import load_settings, private_hosts

REFUSAL = "leads to what is not a public address: the setting privateHosts can allow this host"


@pytest.fixture
def inside() -> Iterator[str]:
    """The URL of a server on loopback that is not to be called; it waits for nobody, so a call would find it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"

        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("address", [
    "93.184.216.34", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0",
    "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2001:200::1", "3ffe::1", "3fff:1000::",
    "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"])
def test_public_addresses(address: str) -> None:
    """The neighbours of what is not public, too."""
    assert is_public(address)


@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "nonsense",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::1", "2002:a00:1::1", "::ffff:0:7f00:1", "2001:0:101:101::1",
    # These are not the same in the ipaddress of each Python.
    "192.0.0.9", "192.0.0.255", "192.88.99.1", "2001:1::1", "2001:3::1", "2001:20::1", "64:ff9b:1::101:101",
    "3fff::1", "5f00::1", "100::1", "100:0:0:1::1", "4000::1", "2001:db8::1", "198.19.255.255", "203.0.113.1"])
def test_addresses_that_are_not_public(address: str) -> None:
    """Of each kind, and as IPv6 writes IPv4 addresses; the same under each version of Python."""
    assert not is_public(address)


@pytest.mark.parametrize("host", [
    "127.0.0.1", "localhost", "LOCALHOST", "127.1", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "2130706433",
    "0", "0.0.0.0", "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"])
def test_no_spelling_of_loopback_is_called(inside: str, host: str) -> None:
    """No connection is even begun: its failure would tell which ports are open."""
    url = inside.replace("127.0.0.1", host)
    found = fetch(url, 10, private=set())
    assert (found.status, found.problem[-len(REFUSAL):]) == (0, REFUSAL)

    with pytest.raises(NotPublic):
        check_public(url, set())


@pytest.mark.parametrize("host", ["[fe80::1%lo]", "[::1%251]", "[::1%@127.0.0.1]", "127.0.0.1%00.example.org",
                                  "example.org@127.0.0.1%23", "a[::1]@[64:f1]"])
def test_what_is_no_host_is_not_called(inside: str, host: str) -> None:
    """A zone of IPv6, or what the parser of one library takes for a host and that of another does not."""
    assert "makes no sense" in fetch(inside.replace("127.0.0.1", host), 10, private=set()).problem


def test_a_name_is_proven_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that was looked at is called under the name that was asked for, and its certificate is for that."""
    certificate = make_certificate(tmp_path)

    with listening(certificate) as site:
        url = site.url
        assert "certificate" in fetch(url, 10, private={"127.0.0.1"}).problem
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(url, 10, private={"127.0.0.1"}).status == 204
        assert "certificate" in fetch(url.replace("127.0.0.1", "localhost"), 10, private={"localhost"}).problem
        assert fetch(url, 10, private=set()).problem.endswith(REFUSAL)


def test_no_redirect_leads_inside(inside: str) -> None:
    """The own site may redirect, or be made to."""
    with listening() as site:
        site.leads["/hook"] = 302, inside
        own = site.url.replace("127.0.0.1", "localhost")
        found = fetch(own, 10, follow=True, private={"localhost"})
        assert found.problem == f"127.0.0.1 {REFUSAL}"
        assert fetch(own, 10, private={"localhost"}).status == 302


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_proxy_is_asked(inside: str, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """It would look names up itself, and call what it finds."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, inside)

    for private in (set[str](), {"127.0.0.1"}):  # the proxy's own address is not what is refused
        assert fetch(f"{scheme}://10.1.2.3/", 5, private=private).problem == f"10.1.2.3 {REFUSAL}"


@pytest.mark.skipif(not network.able() and not os.environ.get("WEBSCHEDULER_REQUIRE_ALL"),
                    reason="network namespaces need root, iproute2 and mount(8)")
def test_names() -> None:
    """What counts is the address that is connected to: a name that has another at its second look-up is not called
    there, and of several addresses only the public ones are."""
    answers, calls = network.call(
        "http://public.example/", "http://private.example/", "http://loop.example/", "http://both.example/",
        "http://own.example/", "http://public.example/to/http://private.example/x",
        "http://public.example/to/http://own.example/", "http://public.example/to/http://localhost/",
        "http://changes.example/")
    assert calls == [f"{network.PUBLIC} public.example/", f"{network.PUBLIC} both.example/",
                     f"{network.PRIVATE} own.example/",
                     f"{network.PUBLIC} public.example/to/http://private.example/x",
                     f"{network.PUBLIC} public.example/to/http://own.example/", f"{network.PRIVATE} own.example/",
                     f"{network.PUBLIC} public.example/to/http://localhost/"]
    assert [status for status, _, _ in answers] == [200, 0, 0, 200, 200, 0, 200, 0, 0]
    assert answers[1][1] == f"private.example {REFUSAL}"
    assert answers[8][1]
    assert REFUSAL not in answers[8][1]


@pytest.mark.parametrize(("typed", "host"), [
    ("intranet.example.org", "intranet.example.org"), ("Intranet.Example.ORG", "intranet.example.org"),
    ("10.0.0.7", "10.0.0.7"), ("fd00::7", "fd00::7"), ("[fd00::7]", "fd00::7"),
    ("bücher.example", "xn--bcher-kva.example")])
def test_the_setting(installation: Installation, typed: str, host: str) -> None:
    """A host as people write it, alone."""
    given = typed if "[" not in typed else json.dumps([typed])
    assert call(installation.home, "config", "set", "privateHosts", given).status == 0
    call(installation.home, "config", "set", "baseUrl", "https://Example.org:8443/cron")
    assert private_hosts(load_settings(str(installation.home))) == {host, "example.org"}


@pytest.mark.parametrize("typed", ["http://x.example/", "x.example/path", "x.example:80", "me@x.example", "",
                                   "a b", "*", "[fd00::1]:80"])
def test_what_is_no_host(installation: Installation, typed: str) -> None:
    done = call(installation.home, "config", "set", "privateHosts", f'["{typed}"]')
    assert done.status == 2
    assert "is not a host like" in done.complaint


def test_doctor_names_tasks_that_call_inside(installation: Installation, inside: str) -> None:
    """Those made with a shell, or before there was a limit: they go on, and doctor says so, until the host is
    allowed."""
    call(installation.home, "add", "old", "--command", "http", "--arguments", inside)
    call(installation.home, "add", "fine", "--command", "http", "--arguments", "http://93.184.216.34/")

    def said() -> list[str]:
        found = doctor.examine(str(installation.home), 1e9)
        return [each.text() for each in found if "a task saved in the panel could not" in each.message]

    assert said() == ["old calls a host that a task saved in the panel could not: 127.0.0.1 " + REFUSAL]
    installation.configure(privateHosts=["127.0.0.1"])
    assert said() == []
