"""Who exists: test subscribers, read from a TOML file (data/subscribers.toml says what each key means)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, TopologyError
from labkit.wire.aka import Milenage, opc_from_op


@dataclass(frozen=True, slots=True)
class ServicePointTrigger:
    """One condition of an initial filter criterion (TS 29.228 annex B.2.2); exactly one kind of test is set."""

    groups: tuple[int, ...]
    """Numbers of the groups it belongs to."""
    method: str = ""
    """Matches this SIP method."""
    request_uri: str = ""
    """Matches a Request-URI by this regular expression."""
    header: str = ""
    """Matches a header whose name fits this regular expression."""
    header_content: str = ""
    """And whose value fits this one."""
    session_case: int | None = None
    """0 originating, 1 terminating registered, 2 terminating unregistered, 3 originating unregistered."""
    sdp_line: str = ""
    """Matches an SDP line of this type, for example "m"."""
    sdp_content: str = ""
    """And whose content fits this regular expression."""
    negated: bool = False
    """True turns the condition round."""


@dataclass(frozen=True, slots=True)
class FilterCriterion:
    """One initial filter criterion: when to bring which application server into a call (TS 29.228 annex B.2)."""

    priority: int
    """Lower comes first."""
    server: str
    """SIP URI of the application server."""
    triggers: tuple[ServicePointTrigger, ...] = ()
    """Conditions; without any, every initial request matches."""
    cnf: bool = True
    """True: OR inside a group, AND between groups. False: the other way round."""
    default_handling: int = 0
    """When the server does not answer: 0 goes on without it, 1 ends the session."""
    service_info: str = ""
    """Text handed to the application server."""


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
    ifcs: tuple[FilterCriterion, ...] = ()
    """Initial filter criteria of the profile."""
    provisioned: bool = True
    """False: there is a SIM, but the HSS was never told about it."""

    @property
    def unregistered_service(self) -> bool:
        """True when calls to this user get a service while no phone is registered (session case 2)."""
        return any(trigger.session_case == 2 for ifc in self.ifcs for trigger in ifc.triggers)

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
        ifcs=tuple(_criterion(ifc, realm) for ifc in rest.pop("ifc", ())),
        provisioned=bool(rest.pop("provisioned", True)),
    )


def _criterion(fields: dict[str, Any], realm: str) -> FilterCriterion:
    return FilterCriterion(
        priority=int(fields["priority"]),
        server=str(fields["server"]).replace("{realm}", realm),
        triggers=tuple(_trigger(trigger) for trigger in fields.get("triggers", ())),
        cnf=bool(fields.get("cnf", True)),
        default_handling=int(fields.get("default_handling", 0)),
        service_info=str(fields.get("service_info", "")),
    )


def _trigger(fields: dict[str, Any]) -> ServicePointTrigger:
    rest = dict(fields)
    group = rest.pop("group", 0)
    groups = tuple(group) if isinstance(group, list) else (int(group),)
    return ServicePointTrigger(groups=groups, **rest)


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
