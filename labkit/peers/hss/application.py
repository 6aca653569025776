"""What the HSS answers: TS 29.228 section 6, one function a command.

The rule that many explanations have wrong: UAR only reads. MAR writes the name of the S-CSCF that asks for a
challenge, as pending; SAR confirms it, or clears it. So the second UAR of a first registration is answered with
2002 and that name, although nobody is registered yet.

Each function takes what a request holds, and all its Public-Identity AVPs where something about it is unusual; it
gives the outcome and the bytes of the AVPs that go with it. It works on bytes that were made beforehand wherever it
can; the sizes and the order are those of `wire.cx`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from labkit.errors import AkaError
from labkit.peers.hss.checks import missing, read_number, wrong_value
from labkit.peers.hss.state import Store
from labkit.peers.hss.user import NOBODY, NOT_REGISTERED, REGISTERED, UNREGISTERED, Scscf, User
from labkit.wire import cx
from labkit.wire.aka import AuthVector, next_sqn, open_auts
from labkit.wire.cx import Result, ServerAssignmentType, UserAuthorizationType
from labkit.wire.diameter import Avp, avp_key, scan_avps

USER_NAME: Final = avp_key("User-Name")
PUBLIC_IDENTITY: Final = avp_key("Public-Identity")
SERVER_NAME: Final = avp_key("Server-Name")
ORIGIN_HOST: Final = avp_key("Origin-Host")
ORIGIN_REALM: Final = avp_key("Origin-Realm")
_VISITED_NETWORK: Final = avp_key("Visited-Network-Identifier")
_AUTHORIZATION_TYPE: Final = avp_key("User-Authorization-Type")
_UAR_FLAGS: Final = avp_key("UAR-Flags")
_EMERGENCY: Final = 1
"""Bit 0 of UAR-Flags: an emergency registration, which neither barring nor roaming stops."""
_ASSIGNMENT_TYPE: Final = avp_key("Server-Assignment-Type")
_ALREADY_AVAILABLE: Final = avp_key("User-Data-Already-Available")
_NUMBER_ITEMS: Final = avp_key("SIP-Number-Auth-Items")
_AUTH_ITEM: Final = avp_key("SIP-Auth-Data-Item")
_SCHEME: Final = avp_key("SIP-Authentication-Scheme")
_AUTHORIZATION: Final = avp_key("SIP-Authorization")
_ORIGINATING: Final = avp_key("Originating-Request")

_DEREGISTRATIONS: Final = frozenset(
    {
        ServerAssignmentType.TIMEOUT_DEREGISTRATION,
        ServerAssignmentType.USER_DEREGISTRATION,
        ServerAssignmentType.ADMINISTRATIVE_DEREGISTRATION,
        ServerAssignmentType.DEREGISTRATION_TOO_MUCH_DATA,
    }
)
_KEEP_NAME: Final = frozenset(
    {
        ServerAssignmentType.TIMEOUT_DEREGISTRATION_STORE_SERVER_NAME,
        ServerAssignmentType.USER_DEREGISTRATION_STORE_SERVER_NAME,
    }
)
_AUTHENTICATION_ENDED: Final = frozenset(
    {ServerAssignmentType.AUTHENTICATION_FAILURE, ServerAssignmentType.AUTHENTICATION_TIMEOUT}
)

_KINDS: Final = {int(kind).to_bytes(4, "big"): int(kind) for kind in ServerAssignmentType}
"""Server-Assignment-Type by its payload."""
_YES_OR_NO: Final = {bytes(4): False, b"\0\0\0\1": True}
"""User-Data-Already-Available by its payload."""
_REGISTRATION: Final = int(ServerAssignmentType.REGISTRATION)
_RE_REGISTRATION: Final = int(ServerAssignmentType.RE_REGISTRATION)

_AKA: Final = "Digest-AKAv1-MD5"
_AKA_SCHEMES: Final = frozenset({_AKA, "Digest-AKAv2-MD5"})
_RANDS: Final = 64
"""RANDs that are kept in stock."""
_MAX_VECTORS: Final = 5
"""More vectors than this are not given out at once, whatever is asked (TS 29.228 section 6.3 leaves it open)."""

Outcome = tuple[Result, bytes]
"""The result, and the bytes of the AVPs that go with it."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """An S-CSCF that lost a subscriber to another one; it is owed an RTR (TS 29.228 section 8.1.1)."""

    user: User
    """The subscriber."""
    scscf: Scscf
    """The S-CSCF that served before."""


class Application:
    """The Cx application over a store of users."""

    def __init__(self, store: Store, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self.store = store
        self._random_bytes = random_bytes
        self._rands: list[bytes] = []
        self.replaced: list[Replaced] = []
        """S-CSCFs that are owed an RTR; whoever runs the connections empties it."""

    # --- UAR, TS 29.228 section 6.1.1 ---

    def uar(self, found: dict[int, bytes], several: tuple[bytes, ...] = ()) -> Outcome:
        """Say whether a user may register, and at which S-CSCF. Reads only."""
        user, refusal = self._identify(found)
        if user is None:
            return refusal
        kind = read_number(found, _AUTHORIZATION_TYPE, UserAuthorizationType.REGISTRATION)
        if kind > UserAuthorizationType.REGISTRATION_AND_CAPABILITIES:
            raise wrong_value(_AUTHORIZATION_TYPE, found[_AUTHORIZATION_TYPE], f"{kind} is not defined")
        emergency = _UAR_FLAGS in found and read_number(found, _UAR_FLAGS) & _EMERGENCY
        if not user.registrable and not emergency:
            return cx.AUTHORIZATION_REJECTED, b""
        if kind == UserAuthorizationType.DE_REGISTRATION:
            # Where to send the de-registration; a pending name counts, that phone is on its way in.
            if user.scscf is NOBODY or not user.scscf.name:
                return cx.IDENTITY_NOT_REGISTERED, b""
            return cx.SUCCESS, user.server_name_avp
        networks = user.allowed_networks
        if networks is not None and found[_VISITED_NETWORK] not in networks and not emergency:
            return cx.ROAMING_NOT_ALLOWED, b""
        if kind == UserAuthorizationType.REGISTRATION_AND_CAPABILITIES:
            return cx.SUCCESS, user.capabilities_avp
        if user.server_name_avp:
            return cx.SUBSEQUENT_REGISTRATION, user.server_name_avp
        return cx.FIRST_REGISTRATION, user.capabilities_avp

    # --- MAR, TS 29.228 section 6.3 ---

    def mar(self, found: dict[int, bytes], several: tuple[bytes, ...] = ()) -> Outcome:
        """Give out a challenge, and note who asked: the S-CSCF's name is stored as pending."""
        # User-Name and Public-Identity go back in errors too: Kamailio's ims_auth looks for them first.
        user, (result, _) = self._identify(found)
        if user is None:
            return result, self._echo(found)
        items = self._items(user, found)
        if not items:
            return cx.AUTH_SCHEME_NOT_SUPPORTED, self._echo(found)
        self._note_pending(user, found)
        if user.sqn > user.sqn_kept:
            self.store.touch(user)
        identity = user.impu_avps.get(found[PUBLIC_IDENTITY])
        return cx.SUCCESS, (user.user_name_avp + identity if identity else self._echo(found)) + items

    def _items(self, user: User, found: dict[int, bytes]) -> bytes:
        """Make the SIP-Auth-Data-Items that a user's way of authentication allows; empty for a scheme it cannot do."""
        number = 1 if found[_NUMBER_ITEMS] == _ONE else read_number(found, _NUMBER_ITEMS)
        scheme, authorization, hss_chooses = _read_item(found[_AUTH_ITEM])
        if user.milenage is not None and (hss_chooses or scheme in _AKA_SCHEMES):
            if authorization:
                self._resynchronise(user, authorization)
            return self._vectors(user, _AKA if hss_chooses else scheme, min(max(number, 1), _MAX_VECTORS))
        if user.ha1 and (hss_chooses or scheme == "SIP Digest"):
            return _NUMBER_ONE + cx.digest_item(user.home_realm, user.ha1).to_bytes()
        if user.ha1 and scheme == "Digest-MD5":
            return _NUMBER_ONE + _clear_password_item(user, self._rand()).to_bytes()
        return b""

    def _vectors(self, user: User, scheme: str, number: int) -> bytes:
        milenage = user.milenage
        assert milenage is not None
        if number == 1 and scheme == _AKA:
            user.sqn = sqn = next_sqn(user.sqn)
            rand, xres, ck, ik, autn = milenage.vector(self._rand(), sqn, user.subscriber.amf)
            return b"".join((_AKA_0, rand, autn, _AKA_1, xres, _AKA_2, ck, _AKA_3, ik))
        parts = [Avp.of("SIP-Number-Auth-Items", number).to_bytes()]
        for n in range(1, number + 1):
            user.sqn = next_sqn(user.sqn)
            vector = milenage.vector(self._rand(), user.sqn, user.subscriber.amf)
            parts.append(cx.aka_item(vector, scheme, n).to_bytes())
        return b"".join(parts)

    def _rand(self) -> bytes:
        """Give 16 random bytes; the system is asked for many at a time, which is ten times as fast."""
        if not self._rands:
            raw = self._random_bytes(_RANDS * 16)
            self._rands = [raw[at : at + 16] for at in range(0, len(raw), 16)]
        return self._rands.pop()

    def _resynchronise(self, user: User, authorization: bytes) -> None:
        """Count SQN on from the SIM's own when its AUTS is genuine; else leave it (TS 33.102 section 6.3.5)."""
        milenage = user.milenage
        assert milenage is not None
        if len(authorization) != 30:
            raise wrong_value(avp_key("SIP-Authorization"), authorization, "must be RAND and AUTS, 16 and 14 bytes")
        try:
            user.sqn, user.sqn_kept = open_auts(milenage, authorization[:16], authorization[16:]), -1
        except AkaError:
            return

    def _note_pending(self, user: User, found: dict[int, bytes]) -> None:
        if user.scscf.name != found[SERVER_NAME]:
            asking = _asking(found)
            if not user.pending:
                user.previous = user.scscf
            user.assign(asking)
        elif user.state == REGISTERED or user.pending:
            return
        user.pending = True
        self.store.touch(user)

    # --- SAR, TS 29.228 section 6.1.2 ---

    def sar(self, found: dict[int, bytes], several: tuple[bytes, ...] = ()) -> Outcome:
        """Write down which S-CSCF serves a user, or that none does, and hand out the profile."""
        kind = _KINDS.get(found[_ASSIGNMENT_TYPE])
        if kind is None:
            number = read_number(found, _ASSIGNMENT_TYPE)
            raise wrong_value(_ASSIGNMENT_TYPE, found[_ASSIGNMENT_TYPE], f"{number} is not defined")
        available = _YES_OR_NO.get(found[_ALREADY_AVAILABLE])
        if available is None:
            number = read_number(found, _ALREADY_AVAILABLE)
            raise wrong_value(_ALREADY_AVAILABLE, found[_ALREADY_AVAILABLE], f"{number} is not defined")
        identities = several or ((found[PUBLIC_IDENTITY],) if PUBLIC_IDENTITY in found else ())
        user, refusal = self._identify_assigned(found, identities)
        if user is None:
            return refusal
        ending = kind in _DEREGISTRATIONS or kind in _KEEP_NAME
        if len(identities) > 1 and not ending:
            return cx.AVP_OCCURS_TOO_MANY_TIMES, user.user_name_avp
        result = self._assign(user, kind, found)
        profile = user.user_data_avp if result is cx.SUCCESS and kind <= 3 and not available else b""
        return result, user.user_name_avp + profile

    def _assign(self, user: User, kind: int, found: dict[int, bytes]) -> Result:
        if kind in (_REGISTRATION, _RE_REGISTRATION):
            return self._serve(user, REGISTERED, found)
        same = user.scscf.name == found[SERVER_NAME]
        if kind == ServerAssignmentType.UNREGISTERED_USER:
            return self._serve(user, UNREGISTERED, found)
        if kind == ServerAssignmentType.NO_ASSIGNMENT:
            return cx.SUCCESS if same else cx.UNABLE_TO_COMPLY
        if kind in _AUTHENTICATION_ENDED:
            if not same:
                return cx.UNABLE_TO_COMPLY
            self._drop_pending(user)
        elif kind in _DEREGISTRATIONS or kind in _KEEP_NAME:
            if not same and user.scscf.name:
                return cx.UNABLE_TO_COMPLY
            if kind in _KEEP_NAME and same:
                user.state, user.pending = UNREGISTERED, False
            else:
                user.clear()
        else:  # 12 is for a 3GPP AAA server, 13 and 14 for a PGW and a restoration that this HSS does not offer
            return cx.ERROR_IN_ASSIGNMENT_TYPE
        self.store.touch(user)
        return cx.SUCCESS

    def _serve(self, user: User, state: str, found: dict[int, bytes]) -> Result:
        asking = _asking(found)
        if user.scscf is asking and user.state == state and not user.pending:
            return cx.SUCCESS  # a re-registration changes nothing
        if user.scscf.name and user.scscf.name != asking.name:
            return cx.IDENTITY_ALREADY_REGISTERED
        if user.previous.host and user.previous.host != asking.host:
            self.replaced.append(Replaced(user, user.previous))
        user.assign(asking)
        user.state, user.pending, user.previous = state, False, NOBODY
        self.store.touch(user)
        return cx.SUCCESS

    def _drop_pending(self, user: User) -> None:
        """A phone failed its challenge: who served before serves again."""
        if not user.pending:
            return
        user.pending = False
        if user.previous.name or user.state == NOT_REGISTERED:
            user.assign(user.previous)
        user.previous = NOBODY

    # --- LIR, TS 29.228 section 6.1.4 ---

    def lir(self, found: dict[int, bytes], several: tuple[bytes, ...] = ()) -> Outcome:
        """Say which S-CSCF serves a user. Reads only."""
        user = self._find_impu(found[PUBLIC_IDENTITY])
        if user is None:
            return cx.USER_UNKNOWN, b""
        kind = read_number(found, _AUTHORIZATION_TYPE, UserAuthorizationType.REGISTRATION)
        if kind == UserAuthorizationType.REGISTRATION_AND_CAPABILITIES:
            return cx.SUCCESS, user.capabilities_avp
        if user.state != NOT_REGISTERED:
            return cx.SUCCESS, user.server_name_avp
        if not _has_unregistered_service(user, _ORIGINATING in found):
            return cx.IDENTITY_NOT_REGISTERED, b""
        return cx.UNREGISTERED_SERVICE, user.capabilities_avp

    # --- who is meant ---

    def _identify(self, found: dict[int, bytes]) -> tuple[User | None, Outcome]:
        """Find the user of User-Name and Public-Identity; else the refusal (5001 or 5002)."""
        impu = found[PUBLIC_IDENTITY]
        user = self.store.by_impi.get(found[USER_NAME])
        if user is not None and impu in user.impu_avps:
            return user, _NO_REFUSAL
        owner = self._find_impu(impu)
        if user is None:
            _check_text(USER_NAME, found[USER_NAME])
        if user is None or owner is None:
            return None, (cx.USER_UNKNOWN, b"")
        if owner is not user:
            return None, (cx.IDENTITIES_DONT_MATCH, b"")
        return user, _NO_REFUSAL

    def _identify_assigned(self, found: dict[int, bytes], identities: tuple[bytes, ...]) -> tuple[User | None, Outcome]:
        """Find the user of a SAR, where either identity may be absent."""
        user_name = found.get(USER_NAME)
        if user_name is None and not identities:
            raise missing(USER_NAME)
        user = None if user_name is None else self.store.by_impi.get(user_name)
        if user_name is not None and user is None:
            _check_text(USER_NAME, user_name)
            return None, (cx.USER_UNKNOWN, b"")
        for impu in identities:
            owner = user if user is not None and impu in user.impu_avps else self._find_impu(impu)
            if owner is None:
                return None, (cx.USER_UNKNOWN, b"")
            if user is not None and owner is not user:
                return None, (cx.IDENTITIES_DONT_MATCH, b"")
            user = owner
        return user, _NO_REFUSAL

    def _find_impu(self, impu: bytes) -> User | None:
        user = self.store.find_impu(impu)
        if user is None:
            _check_text(PUBLIC_IDENTITY, impu)
        return user

    def _echo(self, found: dict[int, bytes]) -> bytes:
        return (
            Avp.of("User-Name", found[USER_NAME]).to_bytes()
            + Avp.of("Public-Identity", found[PUBLIC_IDENTITY]).to_bytes()
        )


_NO_REFUSAL: Final[Outcome] = (cx.SUCCESS, b"")
_ONE: Final = b"\0\0\0\1"
_NUMBER_ONE: Final = Avp.of("SIP-Number-Auth-Items", 1).to_bytes()


def _aka_template() -> tuple[bytes, bytes, bytes, bytes]:
    """Cut the bytes of an AKA item, all sizes fixed, at the places where the vector's values go."""
    marks = (b"A" * 16, b"B" * 8, b"C" * 16, b"D" * 16, b"E" * 16)
    item = cx.aka_item(AuthVector(*marks)).to_bytes()
    head, rest = item.split(marks[0] + marks[4])
    before_ck, rest = rest.split(marks[1])[1].split(marks[2])
    before_xres = item.split(marks[4])[1].split(marks[1])[0]
    before_ik = rest.split(marks[3])[0]
    return _NUMBER_ONE + head, before_xres, before_ck, before_ik


_AKA_0, _AKA_1, _AKA_2, _AKA_3 = _aka_template()


def _asking(found: dict[int, bytes]) -> Scscf:
    """Name the S-CSCF that sends a request."""
    return _scscf(found[SERVER_NAME], found[ORIGIN_HOST], found[ORIGIN_REALM])


@lru_cache(64)  # the same few ask all the time, and one object each makes comparing them quick
def _scscf(name: bytes, host: bytes, realm: bytes) -> Scscf:
    if not name:
        raise wrong_value(SERVER_NAME, b"", "is empty")
    for key, payload in ((SERVER_NAME, name), (ORIGIN_HOST, host), (ORIGIN_REALM, realm)):
        _check_text(key, payload)
    return Scscf(name, host, realm)


def _check_text(key: int, payload: bytes) -> None:
    """Refuse an identity that is no text; a known identity never comes here."""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise wrong_value(key, payload, "is not UTF-8") from error


@lru_cache(64)  # a CSCF sends the same bytes each time, but for a resynchronisation
def _read_item(payload: bytes) -> tuple[str, bytes, bool]:
    """Read scheme and SIP-Authorization out of a SIP-Auth-Data-Item, and whether the HSS is to choose the scheme."""
    inner, _, _ = scan_avps(payload, 0)
    scheme = inner.get(_SCHEME, b"Unknown")
    try:
        return scheme.decode(), inner.get(_AUTHORIZATION, b""), scheme.lower() == b"unknown"
    except UnicodeDecodeError as error:
        raise wrong_value(_SCHEME, scheme, "is not UTF-8") from error


def _clear_password_item(user: User, nonce: bytes) -> Avp:
    """Build the old FOKUS form of a digest item: a nonce and the password itself, which Kamailio's MD5 wants."""
    return Avp.of(
        "SIP-Auth-Data-Item",
        [
            Avp.of("SIP-Item-Number", 1),
            Avp.of("SIP-Authentication-Scheme", "Digest-MD5"),
            Avp.of("SIP-Authenticate", nonce.hex()),
            Avp.of("SIP-Authorization", user.subscriber.password),
        ],
    )


def _has_unregistered_service(user: User, originating: bool) -> bool:
    criteria = user.subscriber.ifcs
    if originating:
        return any(ifc.unregistered_originating for ifc in criteria)
    return any(ifc.unregistered_terminating for ifc in criteria)
