from __future__ import annotations

from ipaddress import ip_address

import pytest
from django.core.exceptions import ImproperlyConfigured

from mailhub.lib import envvars


@pytest.mark.parametrize(
    ("value", "servers"),
    [
        ("", []),
        ("192.0.2.1", [("192.0.2.1", 53)]),
        (" 192.0.2.1:5353 , 2001:db8::1,", [("192.0.2.1", 5353), ("2001:db8::1", 53)]),
        ("[2001:db8::1]:5353,[::1]", [("2001:db8::1", 5353), ("::1", 53)]),
    ],
)
def test_name_servers_are_read(monkeypatch: pytest.MonkeyPatch, value: str, servers: list[tuple[str, int]]) -> None:
    monkeypatch.setenv("SERVERS", value)
    assert envvars.servers("SERVERS", 53) == servers


@pytest.mark.parametrize("value", ["ns.example.com", "192.0.2.1:x", "192.0.2.1:99999", "192.0.2", "[::1", "192.0.2.1;192.0.2.2"])
def test_nonsense_is_no_name_server(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SERVERS", value)
    with pytest.raises(ImproperlyConfigured, match="SERVERS must be IP addresses"):
        envvars.servers("SERVERS", 53)


@pytest.mark.parametrize(
    ("value", "inside", "outside"),
    [
        ("", [], ["10.0.0.1", "::1"]),
        ("false", [], ["10.0.0.1", "::1"]),
        ("True", ["10.0.0.1", "::1"], []),
        ("10.0.5.0/24, ::1", ["10.0.5.9", "::1"], ["10.0.6.9", "::2", "127.0.0.1"]),
    ],
)
def test_networks_are_read(monkeypatch: pytest.MonkeyPatch, value: str, inside: list[str], outside: list[str]) -> None:
    monkeypatch.setenv("NETWORKS", value)
    networks = envvars.networks("NETWORKS")
    assert all(any(ip_address(address) in network for network in networks) for address in inside)
    assert not any(ip_address(address) in network for network in networks for address in outside)


@pytest.mark.parametrize("value", ["maybe", "10.0.5.1/24", "10.0.0.0/33", "localhost"])
def test_nonsense_is_no_network(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NETWORKS", value)
    with pytest.raises(ImproperlyConfigured, match="NETWORKS must be"):
        envvars.networks("NETWORKS")
