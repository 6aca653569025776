"""A phone registers: AKA with the vectors of TS 35.208, resynchronisation, SIP digest, and what can go wrong."""

from __future__ import annotations

import base64
import hashlib

import pytest
from in_loop import in_loop
from ue_parts import AUTN, OPC, QUICK, RAND, REALM, RES, SQN, K, owner, peer, say, silent

from labkit.errors import CallFailed, PortBusy, StackError
from labkit.peers.ue import UE
from labkit.wire.aka import Milenage, open_auts, parse_auth
from labkit.wire.sip import SipMessage, parse_message

NONCE = base64.b64encode(RAND + AUTN).decode()
CHALLENGE = ("WWW-Authenticate", f'Digest realm="{REALM}", nonce="{NONCE}", algorithm=AKAv1-MD5, qop="auth"')
GRANTED = (
    ("Contact", "<sip:alice-imsi@127.0.0.1:1>;expires=540"),
    ("Path", "<sip:term@pcscf;lr>"),
    ("P-Associated-URI", f"<sip:alice@{REALM}>, <tel:+15550001>"),
    ("Service-Route", f"<sip:orig@scscf.{REALM}:6060;lr>"),
)


def phone_of(address: tuple[str, int], sqn_ms: int = SQN - 32, **options: object) -> UE:
    """Alice's phone with the SIM of the test set, before a P-CSCF at `address`."""
    settings: dict[str, object] = {"k": K, "opc": OPC}
    secret = {key: options.pop(key, value) for key, value in settings.items()}
    password = options.pop("password", "")
    return UE(
        owner("alice", **secret, password=password),
        address="127.0.0.1",
        port=0,
        pcscf=address,
        sqn_ms=sqn_ms,
        **options,  # type: ignore[arg-type]
    )


def expected_response(params: dict[str, str], password: bytes) -> str:
    """The digest of RFC 2617 section 3.2.2 with qop=auth, worked out here step by step."""

    def md5(raw: bytes) -> str:
        return hashlib.md5(raw).hexdigest()

    ha1 = md5(params["username"].encode() + b":" + params["realm"].encode() + b":" + password)
    ha2 = md5(f"REGISTER:{params['uri']}".encode())
    return md5(f"{ha1}:{params['nonce']}:{params['nc']}:{params['cnonce']}:auth:{ha2}".encode())


def authorization(request: SipMessage) -> dict[str, str]:
    """The parameters of Authorization without their quotes."""
    params = parse_auth(request.header("authorization") or "")
    return {name: value.strip('"') for name, value in params.params}


@in_loop
async def test_aka_registration() -> None:
    """Two REGISTERs: the first says who we are, the second answers the challenge with RES as password (RFC 3310)."""
    async with peer(say(401, CHALLENGE), say(200, *GRANTED)) as core, phone_of(core.address) as phone:
        response = await phone.register(600)
        first, second = core.requests
        assert response.status == 200
        assert authorization(first) == {
            "username": f"alice-imsi@{REALM}",
            "realm": REALM,
            "nonce": "",
            "uri": f"sip:{REALM}",
            "response": "",
        }
        params = authorization(second)
        assert params["response"] == expected_response(params, RES)
        assert (params["nc"], params["algorithm"], params["qop"]) == ("00000001", "AKAv1-MD5", "auth")
        assert (first.call_id, first.cseq, second.cseq) == (second.call_id, 1, 2)
        assert first.from_tag == second.from_tag
        assert first.branch != second.branch
        assert first.request_uri == f"sip:{REALM}"
        assert first.header("contact") == f"<sip:alice-imsi@127.0.0.1:{phone.address[1]}>;expires=600"
        assert (first.header("expires"), first.header("supported")) == ("600", "path")
        assert first.header("from") == f"<sip:alice-imsi@{REALM}>;tag={first.from_tag}"
        assert phone.sqn_ms == SQN


@in_loop
async def test_what_the_200_gives_is_kept() -> None:
    """Service-Route, P-Associated-URI, Path and the granted time are kept, and the route is used for a MESSAGE."""
    async with peer(say(200, *GRANTED)) as core, phone_of(core.address) as phone:
        await phone.register()
        assert phone.registered
        assert phone.registration.service_route == (f"<sip:orig@scscf.{REALM}:6060;lr>",)
        assert phone.registration.associated_uris == (f"sip:alice@{REALM}", "tel:+15550001")
        assert phone.registration.path == ("<sip:term@pcscf;lr>",)
        await phone.message("bob", "hallo")
        message = core.requests[-1]
        assert message.request_uri == f"sip:bob@{REALM}"
        assert message.all("route") == (
            f"<sip:127.0.0.1:{core.address[1]};lr>",
            f"<sip:orig@scscf.{REALM}:6060;lr>",
        )
        assert message.header("p-preferred-identity") == f"<sip:alice@{REALM}>"
        assert message.header("p-access-network-info")
        assert (message.content_type, message.body) == ("text/plain", b"hallo")


@in_loop
async def test_own_contact_says_how_long() -> None:
    """Of several bindings in the 200 the phone takes the time of its own one."""

    def grant(request: SipMessage) -> SipMessage | None:
        own = (request.header("contact") or "").replace("expires=600", "expires=77")
        return say(200, ("Contact", f"<sip:alice@other>;expires=3600, {own}"))(request)

    async with peer(grant) as core, phone_of(core.address) as phone:
        await phone.register()
        assert phone.registration.expires_s == 77


@in_loop
async def test_reregister_counts_the_nonce_on_and_deregister_forgets_it() -> None:
    """The last nonce is used once more (nc=2), and after a de-registration the phone starts anew."""
    async with (
        peer(say(401, CHALLENGE), say(200), say(200), say(200), silent) as core,
        phone_of(core.address) as phone,
    ):
        await phone.register()
        await phone.reregister()
        params = authorization(core.requests[2])
        assert params["nc"] == "00000002"
        assert params["response"] == expected_response(params, RES)
        await phone.deregister()
        assert not phone.registered
        assert core.requests[3].header("expires") == "0"
        assert (core.requests[3].header("contact") or "").endswith(";expires=0")
        assert [request.cseq for request in core.requests] == [1, 2, 3, 4]
        assert len({request.call_id for request in core.requests}) == 1
        for again in (phone.reregister, phone.deregister):
            with pytest.raises(CallFailed, match="not registered"):
                await again()


@in_loop
async def test_old_sqn_ends_in_a_resynchronisation() -> None:
    """A challenge that is not fresh is answered with AUTS and an empty password; the next challenge counts."""
    ahead = SQN + 4096
    vector = Milenage(K, OPC).vector(bytes(16), ahead + 33, b"\x80\x00")
    fresh = base64.b64encode(bytes(16) + vector.autn).decode()
    steps = (
        say(401, CHALLENGE),
        say(401, (CHALLENGE[0], CHALLENGE[1].replace(NONCE, fresh))),
        say(200),
    )
    async with peer(*steps) as core, phone_of(core.address, sqn_ms=ahead) as phone:
        await phone.register()
        params = authorization(core.requests[1])
        assert open_auts(Milenage(K, OPC), RAND, base64.b64decode(params["auts"])) == ahead
        assert params["response"] == expected_response(params, b"")
        last = authorization(core.requests[2])
        assert last["response"] == expected_response(last, vector.xres)
        assert "auts" not in last
        assert phone.sqn_ms == ahead + 33


@in_loop
async def test_network_that_cannot_prove_itself() -> None:
    """A wrong MAC is answered with neither response nor AUTS (TS 24.229 5.1.1.5.3), and the error says why."""
    async with peer(say(401, CHALLENGE), say(403)) as core, phone_of(core.address, k=bytes(16)) as phone:
        with pytest.raises(CallFailed, match="MAC in AUTN is wrong") as caught:
            await phone.register()
        params = authorization(core.requests[1])
        assert params["response"] == ""
        assert "auts" not in params
        assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
        assert parse_message(caught.value.raw).status == 403


@in_loop
async def test_only_two_invalid_challenges_are_answered() -> None:
    """A network that proves itself wrongly again and again is left after two answers (TS 24.229 5.1.1.5.3)."""
    for secret in ({"k": bytes(16)}, {"sqn_ms": SQN}):
        async with peer(say(401, CHALLENGE)) as core, phone_of(core.address, **secret) as phone:
            with pytest.raises(CallFailed) as caught:
                await phone.register()
            assert caught.value.status == 401
            assert len(core.requests) == 3


@in_loop
async def test_second_challenge_after_a_right_answer() -> None:
    """A SIM answers a new challenge too: an S-CSCF under load may not remember the first one yet."""
    fresh = Milenage(K, OPC).vector(bytes(16), SQN + 32, b"\x80\x00")
    nonce = base64.b64encode(bytes(16) + fresh.autn).decode()
    steps = say(401, CHALLENGE), say(401, (CHALLENGE[0], CHALLENGE[1].replace(NONCE, nonce))), say(200)
    async with peer(*steps) as core, phone_of(core.address) as phone:
        await phone.register()
        assert authorization(core.requests[2])["nonce"] == nonce


@in_loop
async def test_wrong_password_is_not_given_for_ever() -> None:
    """A registrar that challenges again after an answer with a password has refused it."""
    challenge = ("WWW-Authenticate", f'Digest realm="{REALM}", nonce="abc", qop="auth"')
    async with peer(say(401, challenge)) as core, phone_of(core.address, k=b"", opc=b"", password="no") as phone:
        with pytest.raises(CallFailed, match="is its secret"):
            await phone.register()
        assert len(core.requests) == 2


@in_loop
async def test_sip_digest() -> None:
    """A phone without a SIM answers an MD5 challenge with its password (TS 24.229 section 5.1.1.2.3)."""
    challenge = ("WWW-Authenticate", f'Digest realm="{REALM}", nonce="abc", opaque="o", qop="auth,auth-int"')
    async with (
        peer(say(401, challenge), say(200)) as core,
        phone_of(core.address, k=b"", opc=b"", password="secret") as phone,
    ):
        await phone.register()
        params = authorization(core.requests[1])
        assert params["response"] == expected_response(params, b"secret")
        assert params["opaque"] == "o"
        assert "algorithm" not in params


@in_loop
async def test_stale_nonce_is_answered_again() -> None:
    """stale=true means that only the nonce was too old: the phone answers the new one."""
    old = ("WWW-Authenticate", f'Digest realm="{REALM}", nonce="1", qop="auth"')
    new = ("WWW-Authenticate", f'Digest realm="{REALM}", nonce="2", stale=TRUE, qop="auth"')
    async with (
        peer(say(401, old), say(401, new), say(200)) as core,
        phone_of(core.address, k=b"", opc=b"", password="secret") as phone,
    ):
        assert (await phone.register()).status == 200
        assert authorization(core.requests[2])["nonce"] == "2"


@in_loop
async def test_too_short_a_time_is_asked_again() -> None:
    """423 names the shortest time that is granted, and the phone asks for that (RFC 3261 section 10.2.8)."""
    async with peer(say(423, ("Min-Expires", "900")), say(200)) as core, phone_of(core.address) as phone:
        await phone.register(10)
        assert core.requests[1].header("expires") == "900"


@in_loop
async def test_refusal_says_what_sip_said() -> None:
    """The error names the message, status, reason and Warning, and carries the whole response."""
    refusal = say(403, ("Warning", '399 scscf "HSS User Unknown"'), reason="Forbidden - HSS User Unknown")
    async with peer(refusal) as core, phone_of(core.address) as phone:
        with pytest.raises(CallFailed) as caught:
            await phone.register()
        assert str(caught.value) == (
            f"REGISTER sip:{REALM} (CSeq 1) was answered 403 Forbidden - HSS User Unknown. "
            'Warning: 399 scscf "HSS User Unknown".'
        )
        assert caught.value.warning == '399 scscf "HSS User Unknown"'
        assert caught.value.raw.startswith(b"SIP/2.0 403 ")
        assert not phone.registered


@in_loop
async def test_challenges_that_cannot_be_answered() -> None:
    """A challenge for a SIM to a phone with a password, one of nonsense, and a 401 without any, are said in words."""
    wrong = {
        "has a password": (CHALLENGE,),
        "cannot answer": (("WWW-Authenticate", "Basic realm=x"),),
        "nothing to answer": (),
    }
    for text, headers in wrong.items():
        async with (
            peer(say(401, *headers)) as core,
            phone_of(core.address, k=b"", opc=b"", password="x") as phone,
        ):
            with pytest.raises(CallFailed, match=text):
                await phone.register()


@in_loop
async def test_silence_is_said_after_64_t1() -> None:
    """A P-CSCF that says nothing: the REGISTER goes out again and again (timer E), then the error says so (F)."""
    async with peer(silent) as core, phone_of(core.address, timers=QUICK) as phone:
        with pytest.raises(CallFailed, match=r"no answer in 2.56 s: sent \d+ times to 127.0.0.1") as caught:
            await phone.register()
        assert caught.value.status == 0
        # T1 doubles to T2 = 4*T1 (as in the RFC 8*T1): 0, 1, 3, 7, 11, ... 63
        assert 15 <= len(core.requests) <= 18
        assert len({request.branch for request in core.requests}) == 1


@in_loop
async def test_lost_answer_is_asked_for_again() -> None:
    """When the answer to a REGISTER gets lost, the same REGISTER goes out again and one answer suffices."""
    async with peer(silent, silent, say(200)) as core, phone_of(core.address, timers=QUICK) as phone:
        assert (await phone.register()).status == 200
        assert len({request.to_bytes() for request in core.requests}) == 1
        assert len(core.requests) == 3


@in_loop
async def test_taken_ports_and_foreign_addresses() -> None:
    """A port that is taken and an address of another host are errors of ours, with words."""
    async with peer() as other:
        for transport in ("udp",):
            phone = UE(owner("alice"), address=other.address[0], port=other.address[1], transport=transport)
            with pytest.raises(PortBusy, match="taken"):
                await phone.start()
    with pytest.raises(StackError, match="one of this host"):
        await UE(owner("alice"), address="192.0.2.1", port=0).start()
    with pytest.raises(StackError, match="udp"):
        UE(owner("alice"), address="127.0.0.1", transport="sctp")


@in_loop
async def test_phone_that_is_off() -> None:
    """A phone that was never started, or was stopped, says so."""
    phone = UE(owner("alice"), address="127.0.0.1", port=0, pcscf=("127.0.0.1", 9))
    with pytest.raises(CallFailed, match="off"):
        await phone.register()
    await phone.start()
    await phone.stop()
    with pytest.raises(CallFailed, match="off"):
        await phone.register()
