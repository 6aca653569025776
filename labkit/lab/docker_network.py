"""The network of a lab on the docker engine: a bridge whose subnet Docker has chosen.

Docker gives fixed addresses only where the user named the subnet, so the first lab after a boot makes its network
twice: once to see what Docker chooses, and again with that subnet said. The choice is remembered; later labs take it
as long as nobody else has it by then.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from labkit.errors import StackError
from labkit.lab.record import boot_id, labs_folder

_ROUTES = Path("/proc/net/route")


def make_network(api: Any, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Make a bridge network with a subnet that Docker once chose; returns what `docker network inspect` shows.

    Raises:
        StackError: other labs took the subnet away, again and again.
    """
    last: Exception | None = None
    remembered = _remembered_pool()
    for _ in range(5):
        try:
            if remembered is not None:
                return _create(api, name, labels, remembered)
            chosen = _create(api, name, labels, None)
            api.remove_network(chosen["Id"])
            made = _create(api, name, labels, chosen["IPAM"]["Config"][0])
        except Exception as error:
            if "overlaps" not in str(error):
                raise
            last, remembered = error, None  # somebody else took the subnet: ask again
        else:
            _remember_pool(made["IPAM"]["Config"][0])
            return made
    raise StackError(f"no subnet could be had in five attempts ({last})")


def gateway_of(network: Mapping[str, Any]) -> str:
    """Address of the host on a network; empty when it has none."""
    for pool in network["IPAM"]["Config"] or ():
        return str(pool.get("Gateway") or IPv4Network(pool["Subnet"])[1])
    return ""


def _create(api: Any, name: str, labels: Mapping[str, str], pool: Mapping[str, str] | None) -> dict[str, Any]:
    from docker.types import IPAMConfig, IPAMPool

    pools = [IPAMPool(subnet=pool["Subnet"], gateway=pool.get("Gateway"))] if pool else []
    ipam = IPAMConfig(pool_configs=pools) if pools else None
    made = api.create_network(name, driver="bridge", ipam=ipam, labels=dict(labels))
    found: dict[str, Any] = api.inspect_network(made["Id"])
    return found


# ---- what Docker chose last -----------------------------------------------------------------------------------------
def _memory() -> Path:
    return labs_folder() / ".docker-subnet"


def _remembered_pool() -> dict[str, str] | None:
    """Docker's last choice of this boot, where no route of this host leads into it now; `./lab wipe` forgets it.

    Docker looks at the routes when it chooses, but not when it is told: so we look.
    """
    try:
        noted = json.loads(_memory().read_text(encoding="utf-8"))
        pool: dict[str, str] = noted["pool"]
        subnet = IPv4Network(pool["Subnet"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if noted.get("boot") != boot_id() or any(subnet.overlaps(route) for route in _routes()):
        return None
    return pool


def _remember_pool(pool: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError):  # then the next lab asks Docker again
        _memory().write_text(json.dumps({"boot": boot_id(), "pool": dict(pool)}), encoding="utf-8")


def _routes() -> Iterator[IPv4Network]:
    """Where this host's routes lead, without the default route (proc(5), /proc/net/route)."""
    try:
        lines = _ROUTES.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            yield IPv4Network((address, mask.bit_count()))
