"""Phones and the short message centre, over a network in miniature: what each answers to what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from labkit.errors import CallFailed, SmsError, StackError
from labkit.peers.sms_centre import SmsCentre
from labkit.peers.ue import UE
from labkit.wire import sms
from labkit.wire.sip import SipMessage
from tests.in_loop import in_loop
from tests.sms_network import SmsNetwork
from tests.ue_parts import REALM, Owner

NOON = "2026-11-28T12:30:00+01:00"
ALICE, BOB = "+15550001", "+15550002"


def owner(name: str, number: str) -> Owner:
    """A subscriber with a number."""
    return Owner(f"{name}@{REALM}", (f"sip:{name}@{REALM}", f"sip:{number}@{REALM}", f"tel:{number}"))


@asynccontextmanager
async def world(**of_bob: Any) -> AsyncIterator[tuple[SmsNetwork, SmsCentre, UE, UE]]:
    """A network, a centre and two phones in which nothing may go wrong unseen."""
    network = SmsNetwork()
    entry = await network.open()
    plain: dict[str, Any] = {"address": "127.0.0.1", "port": 0}
    centre = SmsCentre("smsc", entry=entry, realm=REALM, clock=NOON, report_timeout_s=0.5, **plain)
    alice = UE(owner("alice", ALICE), pcscf=entry, sms="strict", **plain)
    bob = UE(owner("bob", BOB), pcscf=entry, **{"sms": "strict", **of_bob}, **plain)
    async with centre, alice, bob:
        network.centre = ("127.0.0.1", int(centre.uri.rpartition(":")[2]))
        network.phones = {ALICE: alice.address, BOB: bob.address}
        yield network, centre, alice, bob
    network.close()
    assert (centre.faults, alice.faults, bob.faults) == (0, 0, 0)


@in_loop
async def test_a_message_goes_from_phone_to_phone_and_each_step_is_reported() -> None:
    """SUBMIT, its RP-ACK, DELIVER, its RP-ACK; In-Reply-To names what is answered; 202 and 200 are not delivery."""
    async with world() as (network, centre, alice, bob):
        sent = await alice.send_sms(BOB, "Hello")
        got = await bob.wait_sms()
        await centre.idle()
        assert (sent.outcome, sent.parts, sent.statuses) == ("accepted", 1, (202,))
        assert (got.text, got.sender, got.centre, got.sent_at) == ("Hello", ALICE, "+15559000", NOON)
        assert network.labels == ["RP-DATA SMS-SUBMIT", "RP-ACK", "RP-DATA SMS-DELIVER", "RP-ACK"]
        asked, ack, delivered, taken = network.passed
        assert ack.header("In-Reply-To") == asked.call_id
        assert taken.header("In-Reply-To") == delivered.call_id
        assert taken.request_uri == f"sip:+15559000@{REALM}"
        submit, deliver = sms.parse_rp(asked.body), sms.parse_rp(delivered.body)
        assert isinstance(submit, sms.RpData)
        assert isinstance(deliver, sms.RpData)
        assert (submit.originator, str(submit.destination)) == (None, "+15559000")
        assert (str(deliver.originator), deliver.destination) == ("+15559000", None)
        (held,) = centre.messages
        assert (held.to, held.sender, held.state, held.report) == (BOB, ALICE, "delivered", "RP-ACK")


@pytest.mark.parametrize(
    ("habit", "report", "state", "shown"),
    [
        ("lenient", "RP-ACK", "delivered", 1),
        ("strict", "RP-ERROR 96 invalid mandatory information", "refused", 0),
        ("silent", "nothing", "waiting", 0),
    ],
)
@pytest.mark.parametrize("destination", ["own", "0"])
def test_a_destination_towards_a_phone(habit: str, report: str, state: str, shown: int, destination: str) -> None:
    """Each kind of phone answers 200 to the MESSAGE; only one shows what is in it (TS 24.011 section 8.2.5.2)."""

    @in_loop
    async def run() -> None:
        async with world(sms=habit) as (_, centre, _alice, bob):
            await centre.behave(rp_destination=destination)
            (held,) = await centre.send(BOB, "Filled in")
            assert (held.sip_status, held.report, held.state) == (200, report, state)
            assert len(bob.sms_shown) == shown
            await centre.behave()
            again = await centre.retry(BOB)
            assert [one.state for one in again] == (["delivered"] if habit == "silent" else [])

    run()


@in_loop
async def test_a_message_for_who_is_away_is_kept_until_the_s_cscf_tells() -> None:
    """One attempt, then none until a third-party REGISTER; a status report only when the phone has taken it."""
    async with world() as (network, centre, alice, bob):
        here = network.phones.pop(BOB)
        for words in ("one", "two"):
            assert (await alice.send_sms(BOB, words, status_report=words == "two")).outcome == "accepted"
        await centre.idle()
        assert [(one.state, one.attempts, one.sip_status) for one in centre.messages] == [
            ("waiting", 1, 480),
            ("waiting", 0, 0),
        ]
        with pytest.raises(CallFailed, match="No status report came"):
            await alice.wait_status_report(0.1)
        network.phones[BOB] = here
        await register_at(centre, BOB, 600)
        assert [(await bob.wait_sms()).text for _ in range(2)] == ["one", "two"]
        report = await alice.wait_status_report()
        assert (report.reference, report.recipient, report.code) == (2, BOB, 0)
        await centre.idle()
        assert {one.state for one in centre.messages} == {"delivered"}
        delivers = [
            sms.parse_rp(one.body).tpdu
            for one, name in zip(network.passed, network.labels, strict=True)
            if "DELIVER" in name
        ]
        assert [tpdu.more_messages for tpdu in delivers if isinstance(tpdu, sms.Deliver)] == [True, False]
        await register_at(centre, BOB, 0)
        assert centre.present == {BOB: False}


async def register_at(centre: SmsCentre, number: str, expires_s: int) -> None:
    """A third-party REGISTER as the S-CSCF sends it: the number stands in the ServiceInfo of the criterion."""
    body = f'<ims-3gpp version="1"><service-info>{number}</service-info></ims-3gpp>'.encode()
    done = asyncio.get_running_loop().create_future()

    class Scscf(asyncio.DatagramProtocol):
        def datagram_received(self, raw: bytes, source: Any) -> None:
            done.set_result(raw)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Scscf, local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    headers = (
        ("Via", f"SIP/2.0/UDP {host}:{port};branch=z9hG4bKreg{expires_s}"),
        ("From", "<sip:scscf.example>;tag=s"),
        ("To", "<sip:bob@example>"),
        ("Call-ID", f"reg-{expires_s}"),
        ("CSeq", "1 REGISTER"),
        ("Max-Forwards", "70"),
        ("Expires", str(expires_s)),
        ("Content-Type", "application/3gpp-ims+xml"),
    )
    request = SipMessage.request("REGISTER", centre.uri, headers, body)
    transport.sendto(request.to_bytes(), ("127.0.0.1", int(centre.uri.rpartition(":")[2])))
    assert (await done).startswith(b"SIP/2.0 200")
    transport.close()


@in_loop
async def test_a_full_phone_refuses_until_it_says_that_it_has_room() -> None:
    """RP-ERROR 22 keeps the message at the centre; RP-SMMA brings it. Class 0 needs no room."""
    async with world(sms_room=1) as (network, centre, _alice, bob):
        states = [(await centre.send(BOB, words))[0].state for words in ("one", "two")]
        assert states == ["delivered", "waiting"]
        assert centre.messages[1].report == "RP-ERROR 22 memory capacity exceeded"
        tpdu = sms.parse_rp(network.passed[-1].body).tpdu
        assert tpdu == sms.DeliverReport(0xD3)
        assert await bob.make_sms_room() == "accepted"
        await centre.idle()
        assert [one.text for one in bob.sms_shown] == ["one", "two"]
        assert "RP-SMMA" in network.labels
        (flash,) = await centre.send(BOB, "three", message_class=0)
        assert (flash.state, bob.sms_shown[-1].kept) == ("delivered", False)
        await bob.make_sms_room()
        assert await bob.make_sms_room() == "nothing to tell"


@in_loop
async def test_long_texts_come_together_in_any_order_and_only_when_they_are_whole() -> None:
    """8 and 16 bit references, parts the wrong way round, an emoji cut in two, a part that comes twice."""
    async with world() as (_, centre, _alice, bob):
        long_text = "The quick brown fox. " * 10
        await centre.send(BOB, long_text, reference=1, order=[2])
        assert bob.sms_shown == []
        await centre.send(BOB, long_text, reference=1, order=[2, 1])
        smile = "x" * 66 + "\N{GRINNING FACE}" + "y" * 9
        await centre.send(BOB, smile, reference=0x101, reference_bits=16, careless=True)
        assert [(one.text, one.parts) for one in bob.sms_shown] == [(long_text, 2), (smile, 2)]


@in_loop
async def test_a_phone_writes_long_and_national_texts() -> None:
    """Several SUBMITs, one after another, each with its own TP-MR; Turkish tables."""
    async with world() as (_, centre, alice, bob):
        sent = await alice.send_sms(BOB, "ğ" * 300, locking=1, single=1)
        assert (sent.outcome, sent.parts, sent.references) == ("accepted", 3, (1, 2, 3))
        got = await bob.wait_sms()
        await centre.idle()
        assert (got.text, got.parts) == ("ğ" * 300, 3)


@in_loop
async def test_a_centre_refuses_and_a_centre_is_silent() -> None:
    """RP-ERROR with a cause ends the sending; without any report the phone gives up by its timer."""
    async with world() as (_, centre, alice, _bob):
        await centre.behave(refuse_with=38)
        assert (await alice.send_sms(BOB, "a" * 200)).outcome == "38 network out of order"
        assert centre.messages == []
        await centre.behave(silent=True)
        with pytest.raises(CallFailed, match="neither RP-ACK nor RP-ERROR"):
            await alice.send_sms(BOB, "Hello", timeout_s=0.2)


@in_loop
async def test_a_command_is_not_implemented_and_says_so() -> None:
    """RP-ERROR 69 with TP-FCS A1."""
    async with world() as (network, _centre, alice, _bob):
        command = sms.Command(9, 2, 1, sms.Address.of(BOB)).to_bytes()
        assert await alice.send_tpdu(command) == "69 requested facility not implemented"
        report = sms.parse_rp(network.passed[-1].body).tpdu
        assert isinstance(report, sms.SubmitReport)
        assert report.failure == 0xA1


@in_loop
async def test_a_deaf_centre_tries_again_and_the_phone_shows_it_twice() -> None:
    """A report that gets lost: the centre cannot know that the phone has the message."""
    async with world() as (_, centre, _alice, bob):
        await centre.behave(deaf=True)
        (held,) = await centre.send(BOB, "Hello")
        assert (held.state, held.report) == ("waiting", "nothing")
        await centre.behave()
        (held,) = await centre.retry(BOB)
        assert (held.state, held.attempts, len(bob.sms_shown)) == ("delivered", 2, 2)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("0105", "RP-ERROR 96"),
        ("0105059151550900000104", "RP-ERROR 111"),
        ("01", ""),
        ("0305", ""),
    ],
)
def test_a_damaged_message_is_refused_where_it_can_be(body: str, answer: str) -> None:
    """Damage in the relay layer is cause 96, in the TPDU 111; what cannot be answered is not."""

    @in_loop
    async def run() -> None:
        async with world() as (network, _centre, _alice, bob):
            raw = bytes.fromhex(body)
            bob._sms.receive(SipMessage.request("MESSAGE", "sip:bob", (("Call-ID", "x"),), raw))
            await asyncio.sleep(0.1)
            assert network.labels == ([answer] if answer else [])

    run()


@in_loop
async def test_type_0_is_acknowledged_and_thrown_away() -> None:
    """TP-PID 0x40 (TS 23.040 section 9.2.3.9); a TPDU that is no DELIVER is not sent at all."""
    async with world() as (_, centre, _alice, bob):
        ping = sms.Deliver(sms.Address.of(ALICE), sms.user_data("ping")[0], None, pid=0x40).to_bytes()
        held = await centre.send_tpdu(BOB, ping)
        assert (held.state, bob.sms_shown) == ("delivered", [])
        report = sms.StatusReport(1, sms.Address.of(ALICE), None, None, 0).to_bytes()
        with pytest.raises(SmsError, match="a centre sends an SMS-DELIVER"):
            await centre.send_tpdu(BOB, report)


@in_loop
async def test_a_phone_without_short_messages_says_what_is_missing() -> None:
    """It refuses the body type, and does not send."""
    async with world(sms="") as (_, centre, _alice, bob):
        (held,) = await centre.send(BOB, "Hello")
        assert (held.state, held.sip_status) == ("failed", 415)
        with pytest.raises(CallFailed, match='make it with sms="strict"'):
            await bob.send_sms(ALICE, "Hello")
    with pytest.raises(StackError, match="not 'rude' about short messages"):
        UE(owner("bob", BOB), address="127.0.0.1", port=0, sms="rude")
    with pytest.raises(StackError, match="is no time"):
        SmsCentre("smsc", address="127.0.0.1", port=0, entry=("127.0.0.1", 1), realm=REALM, clock="noon")
