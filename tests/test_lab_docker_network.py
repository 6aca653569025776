"""The subnet of a lab on the docker engine: Docker's choice, made once a boot and then remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.errors import StackError
from labkit.lab import docker_network
from labkit.lab.docker_network import make_network
from labkit.lab.record import labs_folder

ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
"""A host in 192.168.1.0/24 with a default route."""


class Networks:
    """The daemon's networks: it chooses 172.18.0.0/16, 172.19.0.0/16 and so on, and refuses what overlaps."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, Any]] = {}
        self.taken: set[str] = set()
        self.made = 0

    def create_network(self, name: str, driver: str, ipam: Any, labels: dict[str, str]) -> dict[str, str]:
        self.made += 1
        used = {network["IPAM"]["Config"][0]["Subnet"] for network in self.there.values()} | self.taken
        if ipam is None:
            number = next(n for n in range(18, 32) if f"172.{n}.0.0/16" not in used)
            pool = {"Subnet": f"172.{number}.0.0/16", "Gateway": f"172.{number}.0.1"}
        else:
            pool = ipam["Config"][0]
            if pool["Subnet"] in used:
                raise RuntimeError("Pool overlaps with other one on this address space")
        self.there[name] = {"Id": name, "IPAM": {"Config": [pool]}}
        return {"Id": name}

    def inspect_network(self, key: str) -> dict[str, Any]:
        return self.there[key]

    def remove_network(self, key: str) -> None:
        del self.there[key]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Networks:
    """A daemon, and a host whose routes and boot are known."""
    routes = tmp_path / "route"
    routes.write_text(ROUTES)
    monkeypatch.setattr(docker_network, "_ROUTES", routes)
    monkeypatch.setattr(docker_network, "boot_id", lambda: "this boot")
    labs_folder().mkdir(parents=True, exist_ok=True)
    return Networks()


def subnet_of(network: dict[str, Any]) -> str:
    return str(network["IPAM"]["Config"][0]["Subnet"])


def test_the_first_lab_asks_docker_the_next_one_remembers(api: Networks) -> None:
    """Two requests to create, then one: the subnet is Docker's choice all the same."""
    assert subnet_of(make_network(api, "one", {})) == "172.18.0.0/16"
    assert api.made == 2
    api.remove_network("one")
    assert subnet_of(make_network(api, "two", {})) == "172.18.0.0/16"
    assert api.made == 3


def test_a_subnet_that_somebody_took_is_chosen_anew(api: Networks) -> None:
    """Another network has it by now: Docker is asked again, and that is what is remembered."""
    make_network(api, "one", {})
    assert subnet_of(make_network(api, "two", {})) == "172.19.0.0/16"
    assert len(api.there) == 2


def test_a_subnet_that_a_route_leads_into_is_not_taken(api: Networks, tmp_path: Path) -> None:
    """A VPN that came up meanwhile: Docker looks at routes only when it chooses."""
    make_network(api, "one", {})
    api.remove_network("one")
    api.taken.add("172.18.0.0/16")
    (tmp_path / "route").write_text(ROUTES + "tun0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n")
    made = api.made
    assert subnet_of(make_network(api, "two", {})) == "172.19.0.0/16"
    assert api.made == made + 2, "the remembered one was not even tried"


def test_a_choice_of_an_earlier_boot_is_forgotten(api: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker may be configured otherwise by now; and rubbish in the file is no choice either."""
    make_network(api, "one", {})
    api.remove_network("one")
    monkeypatch.setattr(docker_network, "boot_id", lambda: "another boot")
    make_network(api, "two", {})
    assert api.made == 4
    api.remove_network("two")
    (labs_folder() / ".docker-subnet").write_text('{"boot": "another boot", "pool": {"Subnet": "no subnet"}}')
    make_network(api, "three", {})
    assert api.made == 6


def test_one_that_is_always_taken_is_an_error(api: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other labs may be faster, but not for ever."""

    def overlaps(*_: object) -> None:
        raise RuntimeError("Pool overlaps with other one on this address space")

    monkeypatch.setattr(docker_network, "_create", overlaps)
    with pytest.raises(StackError, match="five attempts"):
        make_network(api, "one", {})
