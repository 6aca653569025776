"""Cx, the interface between CSCFs and HSS: its numbers, and a builder for each of its messages (TS 29.229).

Every Cx exchange stands alone (Auth-Session-State says so), so UAR, MAR and SAR of one registration share no
Session-Id. The outcome stands either in Result-Code or in Experimental-Result, never in both: 2001 is
DIAMETER_SUCCESS in the one and DIAMETER_FIRST_REGISTRATION in the other. `Result` keeps the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from labkit.errors import DiameterError
from labkit.wire.aka import AuthVector
from labkit.wire.diameter import FLAG_PROXIABLE, FLAG_REQUEST, Avp, Message
from labkit.wire.diameter_names import TGPP_VENDOR

CX_APPLICATION_ID: Final = 16777216
"""Application-Id of Cx and Dx (TS 29.229 section 6)."""

NO_STATE_MAINTAINED: Final = 1
"""Auth-Session-State of every Cx message (TS 29.229 section 5.3)."""


class Command(IntEnum):
    """Command codes (TS 29.229 section 6.1, RFC 6733 section 3.1)."""

    CAPABILITIES_EXCHANGE = 257
    DEVICE_WATCHDOG = 280
    DISCONNECT_PEER = 282
    USER_AUTHORIZATION = 300
    SERVER_ASSIGNMENT = 301
    LOCATION_INFO = 302
    MULTIMEDIA_AUTH = 303
    REGISTRATION_TERMINATION = 304
    PUSH_PROFILE = 305


class UserAuthorizationType(IntEnum):
    """What the I-CSCF asks for (TS 29.229 section 6.3.24)."""

    REGISTRATION = 0
    DE_REGISTRATION = 1
    REGISTRATION_AND_CAPABILITIES = 2


class ServerAssignmentType(IntEnum):
    """Why the S-CSCF writes to the HSS (TS 29.229 section 6.3.15)."""

    NO_ASSIGNMENT = 0
    REGISTRATION = 1
    RE_REGISTRATION = 2
    UNREGISTERED_USER = 3
    TIMEOUT_DEREGISTRATION = 4
    USER_DEREGISTRATION = 5
    TIMEOUT_DEREGISTRATION_STORE_SERVER_NAME = 6
    USER_DEREGISTRATION_STORE_SERVER_NAME = 7
    ADMINISTRATIVE_DEREGISTRATION = 8
    AUTHENTICATION_FAILURE = 9
    AUTHENTICATION_TIMEOUT = 10
    DEREGISTRATION_TOO_MUCH_DATA = 11
    AAA_USER_DATA_REQUEST = 12
    PGW_UPDATE = 13
    RESTORATION = 14


class DeregistrationReason(IntEnum):
    """Why the HSS throws a subscriber out: Reason-Code (TS 29.229 section 6.3.17)."""

    PERMANENT_TERMINATION = 0
    NEW_SERVER_ASSIGNED = 1
    SERVER_CHANGE = 2
    REMOVE_SCSCF = 3


class UserDataAlreadyAvailable(IntEnum):
    """Whether the S-CSCF has the profile already (TS 29.229 section 6.3.26)."""

    USER_DATA_NOT_AVAILABLE = 0
    USER_DATA_ALREADY_AVAILABLE = 1


class Result(NamedTuple):
    """The outcome of an exchange, and where it is carried."""

    code: int
    """The number."""
    experimental: bool = False
    """True: in Experimental-Result, with 3GPP's vendor id."""

    def avp(self) -> Avp:
        """Build the AVP that carries it."""
        if not self.experimental:
            return Avp.of("Result-Code", self.code)
        return Avp.of(
            "Experimental-Result",
            [Avp.of("Vendor-Id", TGPP_VENDOR), Avp.of("Experimental-Result-Code", self.code)],
        )


SUCCESS: Final = Result(2001)
AUTHORIZATION_REJECTED: Final = Result(5003)
AVP_OCCURS_TOO_MANY_TIMES: Final = Result(5009)
UNABLE_TO_COMPLY: Final = Result(5012)
FIRST_REGISTRATION: Final = Result(2001, True)
SUBSEQUENT_REGISTRATION: Final = Result(2002, True)
UNREGISTERED_SERVICE: Final = Result(2003, True)
SERVER_NAME_NOT_STORED: Final = Result(2004, True)
USER_UNKNOWN: Final = Result(5001, True)
IDENTITIES_DONT_MATCH: Final = Result(5002, True)
IDENTITY_NOT_REGISTERED: Final = Result(5003, True)
ROAMING_NOT_ALLOWED: Final = Result(5004, True)
IDENTITY_ALREADY_REGISTERED: Final = Result(5005, True)
AUTH_SCHEME_NOT_SUPPORTED: Final = Result(5006, True)
ERROR_IN_ASSIGNMENT_TYPE: Final = Result(5007, True)
FEATURE_UNSUPPORTED: Final = Result(5011, True)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every Cx request carries beside its own AVPs (TS 29.229 section 6.1)."""

    session_id: str
    """Unique for ever, it begins with the sender's name."""
    origin_host: str
    """Diameter name of the sender."""
    origin_realm: str
    """Realm of the sender."""
    destination_realm: str
    """Realm that should answer."""
    destination_host: str = ""
    """Node that should answer; empty lets the realm choose."""
    hop_by_hop_id: int = 0
    """Ties the answer to this request."""
    end_to_end_id: int = 0
    """Finds a repeated request."""


def application_avp(application_id: int = CX_APPLICATION_ID) -> Avp:
    """Build Vendor-Specific-Application-Id: 3GPP's Cx."""
    return Avp.of(
        "Vendor-Specific-Application-Id",
        [Avp.of("Vendor-Id", TGPP_VENDOR), Avp.of("Auth-Application-Id", application_id)],
    )


def _request(command: Command, envelope: Envelope, avps: Iterable[Avp | None]) -> Message:
    head = [
        Avp.of("Session-Id", envelope.session_id),
        application_avp(),
        Avp.of("Auth-Session-State", NO_STATE_MAINTAINED),
        Avp.of("Origin-Host", envelope.origin_host),
        Avp.of("Origin-Realm", envelope.origin_realm),
        Avp.of("Destination-Realm", envelope.destination_realm),
    ]
    if envelope.destination_host:
        head.append(Avp.of("Destination-Host", envelope.destination_host))
    return Message(
        command,
        CX_APPLICATION_ID,
        FLAG_REQUEST | FLAG_PROXIABLE,
        envelope.hop_by_hop_id,
        envelope.end_to_end_id,
        (*head, *(avp for avp in avps if avp is not None)),
    )


def _optional(name: str, value: str | int | bytes | None) -> Avp | None:
    return None if value is None or value == "" else Avp.of(name, value)


def _identities(public_identities: Iterable[str]) -> list[Avp]:
    return [Avp.of("Public-Identity", identity) for identity in public_identities]


def uar(
    envelope: Envelope,
    *,
    user_name: str,
    public_identity: str,
    visited_network: str,
    user_authorization_type: int | None = None,
) -> Message:
    """Build a User-Authorization-Request, I-CSCF to HSS: may this user register, and where? (section 6.1.1)."""
    return _request(
        Command.USER_AUTHORIZATION,
        envelope,
        [
            Avp.of("User-Name", user_name),
            Avp.of("Public-Identity", public_identity),
            Avp.of("Visited-Network-Identifier", visited_network),
            _optional("User-Authorization-Type", user_authorization_type),
        ],
    )


def mar(
    envelope: Envelope,
    *,
    user_name: str,
    public_identity: str,
    server_name: str,
    scheme: str = "Digest-AKAv1-MD5",
    authorization: bytes | None = None,
    number_items: int = 1,
) -> Message:
    """Build a Multimedia-Auth-Request, S-CSCF to HSS: give me a challenge (section 6.1.7).

    Args:
        envelope: what every request carries.
        user_name: private identity.
        public_identity: public identity that registers.
        server_name: SIP URI of the S-CSCF.
        scheme: SIP-Authentication-Scheme, for example "Digest-AKAv1-MD5", "SIP Digest", "Unknown".
        authorization: RAND || AUTS, 30 bytes, when the SIM asked for resynchronisation.
        number_items: how many vectors are wanted.
    """
    item = [Avp.of("SIP-Authentication-Scheme", scheme)]
    if authorization is not None:
        item.append(Avp.of("SIP-Authorization", authorization))
    return _request(
        Command.MULTIMEDIA_AUTH,
        envelope,
        [
            Avp.of("User-Name", user_name),
            Avp.of("Public-Identity", public_identity),
            Avp.of("SIP-Number-Auth-Items", number_items),
            Avp.of("SIP-Auth-Data-Item", item),
            Avp.of("Server-Name", server_name),
        ],
    )


def sar(
    envelope: Envelope,
    *,
    server_name: str,
    server_assignment_type: int,
    user_name: str = "",
    public_identities: Sequence[str] = (),
    user_data_already_available: int = UserDataAlreadyAvailable.USER_DATA_NOT_AVAILABLE,
) -> Message:
    """Build a Server-Assignment-Request, S-CSCF to HSS: I serve this user now, or no longer (section 6.1.3)."""
    return _request(
        Command.SERVER_ASSIGNMENT,
        envelope,
        [
            _optional("User-Name", user_name),
            *_identities(public_identities),
            Avp.of("Server-Name", server_name),
            Avp.of("Server-Assignment-Type", server_assignment_type),
            Avp.of("User-Data-Already-Available", user_data_already_available),
        ],
    )


def lir(
    envelope: Envelope,
    *,
    public_identity: str,
    originating: bool = False,
    user_authorization_type: int | None = None,
) -> Message:
    """Build a Location-Info-Request, I-CSCF to HSS: who serves this user? (section 6.1.5)."""
    return _request(
        Command.LOCATION_INFO,
        envelope,
        [
            Avp.of("Originating-Request", 0) if originating else None,
            Avp.of("Public-Identity", public_identity),
            _optional("User-Authorization-Type", user_authorization_type),
        ],
    )


def rtr(
    envelope: Envelope,
    *,
    user_name: str,
    public_identities: Sequence[str],
    reason: int = DeregistrationReason.PERMANENT_TERMINATION,
    reason_text: str = "",
) -> Message:
    """Build a Registration-Termination-Request, HSS to S-CSCF: throw this user out (section 6.1.9)."""
    parts = [Avp.of("Reason-Code", reason)]
    if reason_text:
        parts.append(Avp.of("Reason-Info", reason_text))
    return _request(
        Command.REGISTRATION_TERMINATION,
        envelope,
        [
            Avp.of("User-Name", user_name),
            *_identities(public_identities),
            Avp.of("Deregistration-Reason", parts),
        ],
    )


def ppr(envelope: Envelope, *, user_name: str, user_data: bytes = b"") -> Message:
    """Build a Push-Profile-Request, HSS to S-CSCF: the profile has changed (section 6.1.11)."""
    return _request(
        Command.PUSH_PROFILE,
        envelope,
        [Avp.of("User-Name", user_name), Avp.of("User-Data", user_data) if user_data else None],
    )


# --- Answers --------------------------------------------------------------------------------------


def answer(request: Message, origin_host: str, origin_realm: str, result: Result, *avps: Avp | None) -> Message:
    """Build the answer to a Cx request, with all that every answer carries.

    Args:
        request: the request; its Session-Id, ids and command are taken over.
        origin_host: Diameter name of the node that answers.
        origin_realm: its realm.
        result: the outcome.
        avps: the AVPs of this command; None is left out.
    Raises:
        DiameterError: the request has no Session-Id.
    """
    session_id = request.find("Session-Id")
    if session_id is None:
        raise DiameterError("the request has no Session-Id", field="Session-Id", result_code=5005)
    return request.answer(
        session_id,
        application_avp(),
        result.avp(),
        Avp.of("Auth-Session-State", NO_STATE_MAINTAINED),
        Avp.of("Origin-Host", origin_host),
        Avp.of("Origin-Realm", origin_realm),
        *(avp for avp in avps if avp is not None),
        error=not result.experimental and 3000 <= result.code < 4000,
    )


def capabilities_avp(mandatory: Iterable[int], optional: Iterable[int], names: Iterable[str] = ()) -> Avp:
    """Build Server-Capabilities, by which the I-CSCF chooses an S-CSCF (section 6.3.4)."""
    return Avp.of(
        "Server-Capabilities",
        [
            *(Avp.of("Mandatory-Capability", number) for number in mandatory),
            *(Avp.of("Optional-Capability", number) for number in optional),
            *(Avp.of("Server-Name", name) for name in names),
        ],
    )


def uaa(
    request: Message,
    origin_host: str,
    origin_realm: str,
    result: Result,
    *,
    server_name: str = "",
    capabilities: Avp | None = None,
) -> Message:
    """Build a User-Authorization-Answer: Server-Name or Server-Capabilities, as the result wants (6.1.2)."""
    return answer(request, origin_host, origin_realm, result, _optional("Server-Name", server_name), capabilities)


def lia(
    request: Message,
    origin_host: str,
    origin_realm: str,
    result: Result,
    *,
    server_name: str = "",
    capabilities: Avp | None = None,
) -> Message:
    """Build a Location-Info-Answer (section 6.1.6)."""
    return answer(request, origin_host, origin_realm, result, _optional("Server-Name", server_name), capabilities)


def aka_item(vector: AuthVector, scheme: str = "Digest-AKAv1-MD5", number: int = 1) -> Avp:
    """Build SIP-Auth-Data-Item of an AKA vector (TS 29.228 table 6.3.4)."""
    return Avp.of(
        "SIP-Auth-Data-Item",
        [
            Avp.of("SIP-Item-Number", number),
            Avp.of("SIP-Authentication-Scheme", scheme),
            Avp.of("SIP-Authenticate", vector.rand + vector.autn),
            Avp.of("SIP-Authorization", vector.xres),
            Avp.of("Confidentiality-Key", vector.ck),
            Avp.of("Integrity-Key", vector.ik),
        ],
    )


def digest_item(realm: str, ha1: str, number: int = 1) -> Avp:
    """Build SIP-Auth-Data-Item of a SIP digest user: HA1 instead of a vector (TS 29.228 table 6.3.7)."""
    digest = Avp.of(
        "SIP-Digest-Authenticate",
        [
            Avp.of("Digest-Realm", realm),
            Avp.of("Digest-Algorithm", "MD5"),
            Avp.of("Digest-Qop", "auth"),
            Avp.of("Digest-HA1", ha1),
        ],
    )
    scheme = Avp.of("SIP-Authentication-Scheme", "SIP Digest")
    return Avp.of("SIP-Auth-Data-Item", [Avp.of("SIP-Item-Number", number), scheme, digest])


def maa(request: Message, origin_host: str, origin_realm: str, result: Result, items: Sequence[Avp] = ()) -> Message:
    """Build a Multimedia-Auth-Answer (section 6.1.8).

    User-Name and Public-Identity are repeated from the request even in errors: Kamailio's ims_auth looks for them
    first, and without them tells the phone that its private identity was not found.
    """
    return answer(
        request,
        origin_host,
        origin_realm,
        result,
        request.find("User-Name"),
        request.find("Public-Identity"),
        Avp.of("SIP-Number-Auth-Items", len(items)) if items else None,
        *items,
    )


def saa(
    request: Message,
    origin_host: str,
    origin_realm: str,
    result: Result,
    *,
    user_name: str = "",
    user_data: bytes = b"",
) -> Message:
    """Build a Server-Assignment-Answer, with the profile where the S-CSCF needs it (section 6.1.4)."""
    profile = Avp.of("User-Data", user_data) if user_data else None
    return answer(request, origin_host, origin_realm, result, _optional("User-Name", user_name), profile)


def rta(request: Message, origin_host: str, origin_realm: str, result: Result = SUCCESS) -> Message:
    """Build a Registration-Termination-Answer, S-CSCF to HSS (section 6.1.10)."""
    return answer(request, origin_host, origin_realm, result)


def ppa(request: Message, origin_host: str, origin_realm: str, result: Result = SUCCESS) -> Message:
    """Build a Push-Profile-Answer, S-CSCF to HSS (section 6.1.12)."""
    return answer(request, origin_host, origin_realm, result)


# --- Base messages of a connection (RFC 6733 section 5) -------------------------------------------


def cer(
    origin_host: str,
    origin_realm: str,
    host_address: str,
    *,
    product: str = "labkit",
    application_id: int = CX_APPLICATION_ID,
    hop_by_hop_id: int = 1,
    end_to_end_id: int = 1,
) -> Message:
    """Build a Capabilities-Exchange-Request that offers Cx (RFC 6733 section 5.3.1)."""
    avps = (
        Avp.of("Origin-Host", origin_host),
        Avp.of("Origin-Realm", origin_realm),
        Avp.of("Host-IP-Address", host_address),
        Avp.of("Vendor-Id", TGPP_VENDOR),
        Avp.of("Product-Name", product),
        Avp.of("Supported-Vendor-Id", TGPP_VENDOR),
        application_avp(application_id),
    )
    return Message(Command.CAPABILITIES_EXCHANGE, 0, FLAG_REQUEST, hop_by_hop_id, end_to_end_id, avps)


def dwr(origin_host: str, origin_realm: str, *, hop_by_hop_id: int, end_to_end_id: int) -> Message:
    """Build a Device-Watchdog-Request: are you still there? (RFC 6733 section 5.5.1)."""
    avps = (Avp.of("Origin-Host", origin_host), Avp.of("Origin-Realm", origin_realm))
    return Message(Command.DEVICE_WATCHDOG, 0, FLAG_REQUEST, hop_by_hop_id, end_to_end_id, avps)


def dpr(origin_host: str, origin_realm: str, *, hop_by_hop_id: int, end_to_end_id: int, cause: int = 0) -> Message:
    """Build a Disconnect-Peer-Request; cause 0 is REBOOTING, 1 BUSY, 2 DO_NOT_WANT_TO_TALK_TO_YOU (5.4.1)."""
    avps = (
        Avp.of("Origin-Host", origin_host),
        Avp.of("Origin-Realm", origin_realm),
        Avp.of("Disconnect-Cause", cause),
    )
    return Message(Command.DISCONNECT_PEER, 0, FLAG_REQUEST, hop_by_hop_id, end_to_end_id, avps)
