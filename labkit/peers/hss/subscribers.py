"""Who exists: test subscribers, read from a TOML file (data/subscribers.toml says what each key means)."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, TopologyError
from labkit.peers.hss.criteria import FilterCriterion, criterion_fields, criterion_from_fields
from labkit.wire.aka import Milenage, opc_from_op


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One subscription: a private identity, its public identities, its secret, and what it may do."""

    name: str
    """Short name, as used in lessons: "alice"."""
    impi: str
    """Private identity (User-Name), for example 001010000000001@realm."""
    impus: tuple[str, ...]
    """Public identities, registered together (one implicit registration set); the first one is the IMSI's."""
    auth: str
    """"aka" or "digest"."""
    k: bytes = b""
    """16 bytes, the secret key of an AKA user."""
    opc: bytes = b""
    """16 bytes."""
    amf: bytes = b"\x80\x00"
    """2 bytes."""
    sqn: int = 0
    """Where the HSS starts counting SQN."""
    password: str = ""
    """The secret of a digest user."""
    visited_networks: tuple[str, ...] | None = None
    """Networks where the user may roam; None is everywhere."""
    barred: bool = False
    """True: none of the public identities may register."""
    barred_impus: tuple[str, ...] = ()
    """Public identities that may not be used for sessions, such as an IMSI-derived one."""
    mandatory_capabilities: tuple[int, ...] = (0,)
    """Capabilities that the S-CSCF must have (AVP 604)."""
    optional_capabilities: tuple[int, ...] = (1,)
    """Capabilities that it should have (AVP 605)."""
    server_names: tuple[str, ...] = ()
    """S-CSCFs that the I-CSCF may take, by SIP URI, as a hint (AVP 602 inside 603)."""
    ifcs: tuple[FilterCriterion, ...] = ()
    """Initial filter criteria of the profile."""
    provisioned: bool = True
    """False: there is a SIM, but the HSS was never told about it."""

    @property
    def unregistered_service(self) -> bool:
        """True when calls to this user get a service while no phone is registered."""
        return any(ifc.unregistered_terminating for ifc in self.ifcs)

    def milenage(self) -> Milenage:
        """Build the AKA functions of this subscriber."""
        return Milenage(self.k, self.opc)


def default_path() -> Path:
    """Return data/subscribers.toml of this checkout."""
    return Path(__file__).resolve().parents[3] / "data" / "subscribers.toml"


def load_subscribers(path: str | Path | None = None, realm: str = "") -> tuple[Subscriber, ...]:
    """Read the test subscribers.

    Args:
        path: a TOML file; data/subscribers.toml by default.
        realm: home realm that completes identities without one; the file's own by default.
    Returns:
        The subscribers in the order of the file, numbered series last.
    Raises:
        TopologyError: the file cannot be read, or an entry is wrong; says which and what to do.
    """
    source = Path(path) if path is not None else default_path()
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise TopologyError(f"{source} cannot be read: {error.strerror}. Name another with --subscribers.") from error
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(f"{source} is no TOML: {error}") from error
    home = realm or str(document.get("realm", ""))
    entries = [dict(entry) for entry in document.get("subscriber", [])]
    for series in document.get("series", []):
        entries.extend(_numbered(series))
    subscribers = tuple(subscriber_from_fields(entry, home, str(source)) for entry in entries)
    _check_unique(subscribers, source)
    return subscribers


def subscriber_from_fields(fields: dict[str, Any], realm: str, where: str) -> Subscriber:
    """Build a subscriber from the keys of its TOML table or of the admin door's JSON.

    Args:
        fields: as in data/subscribers.toml; bytes in hex.
        realm: completes identities that have none.
        where: names the source in an error.
    Raises:
        TopologyError: a key is missing, unknown or has a wrong value.
    """
    rest = dict(fields)
    name = str(rest.pop("name", ""))
    try:
        if not name:
            raise KeyError("name")
        impus = tuple(_complete(impu, realm) for impu in rest.pop("impus"))
        if not impus:
            raise TopologyError("impus is empty; give at least one public identity")
        subscriber = _build(name, impus, rest, realm)
    except KeyError as error:
        raise TopologyError(f"{where}: subscriber {name!r} has no key {error}; add it") from error
    except (ValueError, TypeError, AttributeError, LabkitError) as error:
        raise TopologyError(f"{where}: subscriber {name!r} is wrong: {error}") from error
    if rest:
        raise TopologyError(f"{where}: subscriber {name!r} has unknown keys {', '.join(sorted(rest))}")
    return subscriber


def _build(name: str, impus: tuple[str, ...], rest: dict[str, Any], realm: str) -> Subscriber:
    auth = str(rest.pop("auth", "aka"))
    if auth not in ("aka", "digest"):
        raise TopologyError(f"auth is {auth!r}; use aka or digest")
    k, opc, password = b"", b"", str(rest.pop("password", ""))
    if auth == "aka":
        k = _hex(rest.pop("k"), 16, "k")
        op = rest.pop("op", None)
        opc = opc_from_op(k, _hex(op, 16, "op")) if op is not None else _hex(rest.pop("opc"), 16, "opc")
    elif not password:
        raise KeyError("password")
    visited = rest.pop("visited_networks", None)
    return Subscriber(
        name=name,
        impi=_complete(str(rest.pop("impi")), realm),
        impus=impus,
        auth=auth,
        k=k,
        opc=opc,
        amf=_hex(rest.pop("amf", "8000"), 2, "amf"),
        sqn=int(str(rest.pop("sqn", "0")), 16),
        password=password,
        visited_networks=None if visited is None else tuple(str(network) for network in visited),
        barred=bool(rest.pop("barred", False)),
        barred_impus=tuple(_complete(impu, realm) for impu in rest.pop("barred_impus", ())),
        mandatory_capabilities=tuple(int(number) for number in rest.pop("mandatory_capabilities", (0,))),
        optional_capabilities=tuple(int(number) for number in rest.pop("optional_capabilities", (1,))),
        server_names=tuple(str(name).replace("{realm}", realm) for name in rest.pop("server_names", ())),
        ifcs=tuple(criterion_from_fields(ifc, realm) for ifc in rest.pop("ifc", ())),
        provisioned=bool(rest.pop("provisioned", True)),
    )


def subscriber_fields(subscriber: Subscriber) -> dict[str, Any]:
    """Write a subscriber as the keys of data/subscribers.toml, bytes in hex: JSON can carry it."""
    fields = asdict(replace(subscriber, ifcs=()))
    fields["ifc"] = [criterion_fields(ifc) for ifc in subscriber.ifcs]
    del fields["ifcs"]
    fields["sqn"] = f"{subscriber.sqn:012x}"
    for key in ("k", "opc", "amf"):
        fields[key] = fields[key].hex()
    if subscriber.auth != "aka":
        for key in ("k", "opc"):
            del fields[key]
    if subscriber.visited_networks is None:
        del fields["visited_networks"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def _complete(identity: str, realm: str) -> str:
    """Add the home realm to a SIP or private identity that has none; `{realm}` stands for it anywhere."""
    text = identity.replace("{realm}", realm)
    return text if "@" in text or text.startswith("tel:") else f"{text}@{realm}"


def _hex(text: Any, size_bytes: int, name: str) -> bytes:
    raw = bytes.fromhex(str(text))
    if len(raw) != size_bytes:
        raise TopologyError(f"{name} has {len(raw)} bytes and needs {size_bytes}")
    return raw


def _numbered(series: dict[str, Any]) -> list[dict[str, Any]]:
    """Spell out a series: the same table for each number, `{n}` in texts replaced, K counted up."""
    entries = []
    first_key = int(str(series["k"]), 16)
    for n in range(int(series["first"]), int(series["first"]) + int(series["count"])):
        entry = {key: value for key, value in series.items() if key not in ("first", "count", "k")}
        entry["name"] = str(series["name"]).replace("{n}", str(n))
        entry["impi"] = str(series["impi"]).replace("{n}", str(n))
        entry["impus"] = [str(impu).replace("{n}", str(n)) for impu in series["impus"]]
        entry["k"] = f"{first_key + n:032x}"
        entries.append(entry)
    return entries


def _check_unique(subscribers: tuple[Subscriber, ...], source: Path) -> None:
    seen: dict[str, str] = {}
    for subscriber in subscribers:
        for identity in (f"name {subscriber.name}", f"impi {subscriber.impi}", *subscriber.impus):
            if identity in seen:
                raise TopologyError(
                    f"{source}: {identity} belongs to {seen[identity]} and to {subscriber.name}; change one"
                )
            seen[identity] = subscriber.name
