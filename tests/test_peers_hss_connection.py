"""The HSS's Diameter port as RFC 6733 wants it: the right error, or a closed connection, and never a crash."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from cx_client import HSS, REALM, USERS, CxClient, outcome, running_hss
from ims_bytes import diameter_messages, one_of_each, recordings
from in_loop import in_loop

from labkit.peers.hss import connection as connection_module
from labkit.wire import cx
from labkit.wire.diameter import Avp, Message, parse_avps, parse_message

ALICE = USERS["alice"]
RECORDED = one_of_each()


def _uar(client: CxClient) -> Message:
    return cx.uar(client.envelope(), user_name=ALICE.impi, public_identity=ALICE.impus[0], visited_network=REALM)


def _with(message: Message, *extra: Avp, without: str = "", **changes: int) -> Message:
    fields = {
        "command_code": message.command_code,
        "application_id": message.application_id,
        "flags": message.flags,
        "hop_by_hop_id": message.hop_by_hop_id,
        "end_to_end_id": message.end_to_end_id,
    }
    avps = (*(avp for avp in message.avps if avp.name != without), *extra)
    return Message(**(fields | changes), avps=avps)


async def _closed(client: CxClient) -> bytes:
    """Wait until the HSS has hung up; return what it said before."""
    await client.hush()
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(client.reader.read(), 5)
    return b""


@contextlib.asynccontextmanager
async def _unidentified(hss):
    client = CxClient(hss.diameter_port)
    await client.connect()
    try:
        yield client
    finally:
        await client.close()


@in_loop
async def test_capabilities():
    """CEA names Cx once, inside Vendor-Specific-Application-Id, and nothing at the top level."""
    async with running_hss() as hss, _unidentified(hss) as client:
        cea = await client.ask(parse_message(RECORDED["257R"]))
        assert cea.find("Result-Code").value == 2001
        (group,) = cea.find_all("Vendor-Specific-Application-Id")
        assert [(avp.name, avp.value) for avp in group.children] == [
            ("Vendor-Id", 10415),
            ("Auth-Application-Id", 16777216),
        ]
        assert cea.find("Auth-Application-Id") is None
        assert cea.find("Acct-Application-Id") is None
        assert cea.find("Host-IP-Address").value == "127.0.0.1"
        assert (cea.find("Origin-Host").value, cea.find("Origin-Realm").value) == (HSS, REALM)
        assert cea.find("Product-Name") is not None


@in_loop
async def test_recorded_kamailio_is_answered():
    """Every request that Kamailio sent in the recordings gets an answer that is no protocol error."""
    async with running_hss() as hss:
        for name in recordings():
            async with CxClient(hss.diameter_port) as client:
                for _, raw in diameter_messages(name):
                    request = parse_message(raw)
                    if not request.request or request.command_code == 304:
                        continue
                    answer = await client.ask(request)
                    code, experimental = outcome(answer)
                    assert experimental or code in (2001, 5012), (name, answer)


@in_loop
async def test_no_common_application():
    """A peer without Cx gets 5010 and is let go; a relay is welcome."""
    async with running_hss() as hss:
        async with _unidentified(hss) as client:
            cea = await client.ask(cx.cer(client.host, REALM, "127.0.0.1", application_id=4))
            assert cea.find("Result-Code").value == 5010
            await _closed(client)
        async with _unidentified(hss) as client:
            request = cx.cer(client.host, REALM, "127.0.0.1", application_id=0xFFFFFFFF)
            assert (await client.ask(request)).find("Result-Code").value == 2001


@in_loop
async def test_cer_that_lacks_something():
    """A CER without Origin-Realm gets 5005 with that AVP as example, and the connection ends."""
    async with running_hss() as hss, _unidentified(hss) as client:
        cea = await client.ask(_with(cx.cer(client.host, REALM, "127.0.0.1"), without="Origin-Realm"))
        assert cea.find("Result-Code").value == 5005
        assert cea.find("Failed-AVP").children[0].name == "Origin-Realm"
        await _closed(client)


@in_loop
async def test_request_before_cer():
    """Nothing is answered before CER: the connection is closed."""
    async with running_hss() as hss, _unidentified(hss) as client:
        client.writer.write(_uar(client).to_bytes())
        assert await _closed(client) == b""


@in_loop
async def test_watchdog_and_disconnect():
    """DWR gets DWA; DPR gets DPA, and the connection ends."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        dwa = await client.ask(cx.dwr(client.host, REALM, hop_by_hop_id=71, end_to_end_id=72))
        assert (dwa.name, dwa.find("Result-Code").value, dwa.end_to_end_id) == ("DWA", 2001, 72)
        assert dwa.flags == 0
        dpa = await client.ask(cx.dpr(client.host, REALM, hop_by_hop_id=73, end_to_end_id=74))
        assert (dpa.name, dpa.find("Result-Code").value) == ("DPA", 2001)
        await _closed(client)
        assert client.host not in hss.peers


@in_loop
async def test_peer_that_comes_again():
    """A peer that connects anew replaces its dead connection."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as old, CxClient(hss.diameter_port) as new:
        await _closed(old)
        assert outcome(await new.uar(ALICE)) == (2001, True)
        assert len(hss.peers) == 1


@in_loop
@pytest.mark.parametrize(
    ("changes", "result_code"),
    [
        ({"command_code": 999}, 3001),
        ({"command_code": 304}, 3001),
        ({"command_code": 306, "application_id": 16777217}, 3007),
        ({"application_id": 4}, 3007),
        ({"application_id": 0, "command_code": 275}, 3001),
        ({"application_id": 0}, 3001),
        ({"flags": 0xE0}, 3008),
    ],
)
async def test_protocol_errors(changes, result_code):
    """What the header makes impossible is answered with the E flag, ids and Session-Id kept."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        request = _with(_uar(client), **changes)
        answer = await client.ask(request)
        assert answer.find("Result-Code").value == result_code
        assert answer.flags & 0x20
        assert not answer.flags & 0x80
        assert answer.command_code == request.command_code
        assert answer.end_to_end_id == request.end_to_end_id
        assert answer.avps[0] == request.avps[0]
        assert answer.find("Origin-Host").value == HSS
        assert outcome(await client.uar(ALICE)) == (2001, True), "the connection goes on"


@in_loop
async def test_wrong_destination():
    """Another realm is 3003, another host 3002; the case of a name does not matter."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        fields = {"user_name": ALICE.impi, "public_identity": ALICE.impus[0], "visited_network": REALM}
        for changes, result in (
            ({"destination_realm": "elsewhere"}, (3003, False)),
            ({"destination_host": "other.host"}, (3002, False)),
            ({"destination_realm": REALM.upper(), "destination_host": HSS.upper()}, (2001, True)),
        ):
            assert outcome(await client.ask(cx.uar(client.envelope(**changes), **fields))) == result


@in_loop
@pytest.mark.parametrize(
    "name",
    [
        "Session-Id",
        "Vendor-Specific-Application-Id",
        "Auth-Session-State",
        "Origin-Host",
        "Origin-Realm",
        "Destination-Realm",
        "User-Name",
        "Public-Identity",
        "Visited-Network-Identifier",
    ],
)
async def test_missing_avp(name):
    """A missing AVP is 5005, and Failed-AVP shows an example of it."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        answer = await client.ask(_with(_uar(client), without=name))
        assert answer.find("Result-Code").value == 5005
        (example,) = answer.find("Failed-AVP").children
        assert example.name == name
        assert answer.flags == 0x40


@in_loop
@pytest.mark.parametrize(
    ("extra", "result_code"),
    [
        (Avp(9999, b"x", 0, 0x40), 5001),
        (Avp(9999, b"x", 999, 0xC0), 5001),
        (Avp.of("User-Name", "somebody"), 5009),
        (Avp.of("Public-Identity", "sip:somebody@else"), 5009),
        (Avp(264, b"x", 0, 0x41), 3009),
        (Avp(623, b"\0\0", 10415, 0xC0), 5014),
        (Avp(623, b"\0\0\0\x09", 10415, 0xC0), 5004),
    ],
)
async def test_bad_avps(extra, result_code):
    """Unknown mandatory, repeated, wrongly flagged, too short, and senseless AVPs are each named."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        answer = await client.ask(_with(_uar(client), extra))
        assert answer.find("Result-Code").value == result_code
        (failed,) = answer.find("Failed-AVP").children
        assert (failed.code, failed.vendor) == (extra.code, extra.vendor)
        assert answer.find("Error-Message").value


@in_loop
async def test_harmless_additions():
    """Unknown AVPs without M, Route-Record and Supported-Features change nothing; Proxy-Info comes back in order."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        proxies = [Avp.of("Proxy-Info", [Avp.of("Proxy-Host", name)]) for name in ("b", "a")]
        extra = [
            Avp(9999, b"x"),
            Avp(4711, b"yz", 999, 0x80),
            Avp.of("Route-Record", "relay"),
            Avp.of("Route-Record", "relay2"),
            Avp.of("Supported-Features", [Avp.of("Feature-List-ID", 1)]),
            *proxies,
        ]
        answer = await client.ask(_with(_uar(client), *extra))
        assert outcome(answer) == (2001, True)
        assert list(answer.find_all("Proxy-Info")) == proxies
        refused = await client.ask(_with(_uar(client), *proxies, without="User-Name"))
        assert list(refused.find_all("Proxy-Info")) == proxies


@in_loop
async def test_identity_that_is_no_text():
    """An identity that is not UTF-8 is a wrong value, not an unknown user."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        for name in ("User-Name", "Public-Identity"):
            code, vendor = (1, 0) if name == "User-Name" else (601, 10415)
            bad = Avp(code, b"\xff\xfe", vendor, 0xC0 if vendor else 0x40)
            answer = await client.ask(_with(_uar(client), bad, without=name))
            assert outcome(answer) == (5004, False)
            assert answer.find("Failed-AVP").children[0].raw == b"\xff\xfe"


@in_loop
async def test_every_wrong_avp_length():
    """An AVP length that does not fit is 5014 with that AVP's header, wherever it stands; the peer stays."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        request = _uar(client)
        at = 20
        for avp in request.avps:
            for length in (0, 7, 0xFFFFFF):
                raw = bytearray(request.to_bytes())
                raw[at + 5 : at + 8] = length.to_bytes(3, "big")
                answer = await client.ask(_Raw(bytes(raw), request.hop_by_hop_id))
                assert answer.find("Result-Code").value == 5014
                assert parse_avps(answer.find("Failed-AVP").raw)[0].code == avp.code
            at += len(avp.to_bytes())
        assert outcome(await client.uar(ALICE)) == (2001, True)


class _Raw:
    """Bytes that `CxClient.ask` can send."""

    def __init__(self, raw: bytes, hop_by_hop_id: int) -> None:
        self.raw = raw
        self.hop_by_hop_id = hop_by_hop_id

    def to_bytes(self) -> bytes:
        return self.raw


@in_loop
@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\0", b"\x16\x03\x01", b"\x02\0\0\x14" + bytes(16)])
@pytest.mark.parametrize("identified", [False, True])
async def test_garbage(first, identified):
    """What is no Diameter ends the connection, before and after CER, and only that one."""
    async with running_hss() as hss, CxClient(hss.diameter_port, "bystander") as bystander:
        client = CxClient(hss.diameter_port)
        await (client.__aenter__() if identified else client.connect())
        client.writer.write(first)
        await _closed(client)
        await client.close()
        assert outcome(await bystander.uar(ALICE)) == (2001, True)


@in_loop
@pytest.mark.parametrize(
    ("start", "result_code"),
    [("02000014", 5011), ("01000010", 5015), ("01000015", 5015), ("01ffffff", 5015), ("01fffffc", 5015)],
)
async def test_broken_frame_of_a_request(start, result_code):
    """A request with a wrong version or length is answered, and then the connection is closed."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        raw = _uar(client).to_bytes()
        await client.hush()
        client.writer.write(bytes.fromhex(start) + raw[4:20])
        answer = parse_message(await _closed(client))
        assert answer.find("Result-Code").value == result_code
        assert answer.command_code == 300
        assert answer.hop_by_hop_id.to_bytes(4, "big") == raw[12:16]


@in_loop
async def test_byte_by_byte_and_many_at_once():
    """Requests that come in single bytes, or a hundred in one piece, are answered alike and in order."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        request = _uar(client)
        asking = asyncio.create_task(client.ask(_Raw(b"", request.hop_by_hop_id)))
        for byte in request.to_bytes():
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert outcome(await asking) == (2001, True)
        await client.hush()
        requests = [_uar(client) for _ in range(100)]
        client.writer.write(b"".join(request.to_bytes() for request in requests))
        for request in requests:
            answer = parse_message(await client.read_raw())
            assert answer.hop_by_hop_id == request.hop_by_hop_id


@in_loop
async def test_peer_that_dies_mid_message():
    """Half a message and then nothing leaves nothing behind."""
    async with running_hss() as hss:
        for size in (1, 3, 4, 19, 20, 21, 200):
            client = CxClient(hss.diameter_port, f"dying{size}")
            await client.__aenter__()
            client.writer.write(_uar(client).to_bytes()[:size])
            await client.writer.drain()
            await client.close()
        async with CxClient(hss.diameter_port) as client:
            assert outcome(await client.uar(ALICE)) == (2001, True)
            await asyncio.sleep(0.01)
            assert list(hss.peers) == [client.host]


@in_loop
async def test_slow_and_silent_peers():
    """No CER, an unfinished message, or no answer to DWR: the connection is closed when its time is over."""
    async with running_hss() as hss:
        hss.message_time_s, hss.watchdog_s = 10.0, 20.0
        mute, half, idle = (CxClient(hss.diameter_port, name) for name in ("mute", "half", "idle"))
        await mute.connect()
        await half.__aenter__()
        await idle.__aenter__()
        half.writer.write(_uar(half).to_bytes()[:100])
        await asyncio.sleep(0.02)
        now_s = asyncio.get_running_loop().time()
        for connection in tuple(hss._connections):
            connection.check_time(now_s + 9)
        assert not mute.reader.at_eof()
        for connection in tuple(hss._connections):
            connection.check_time(now_s + 11)
        await _closed(mute)
        await _closed(half)
        (connection,) = hss._connections
        connection.check_time(now_s + 21)
        dwr = await asyncio.wait_for(idle.incoming.get(), 5)
        assert dwr.name == "DWR"
        idle.writer.write(dwr.answer(Avp.of("Result-Code", 2001)).to_bytes())
        await asyncio.sleep(0.02)
        connection.check_time(now_s + 19)
        assert connection.state is connection_module.OPEN
        connection.check_time(now_s + 41)
        connection.check_time(now_s + 82)
        await _closed(idle)
        for client in (mute, half, idle):
            await client.close()


@in_loop
async def test_peer_that_does_not_read():
    """A peer that sends and never reads is not read any more, so nothing piles up."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.hush()
        (connection,) = hss._connections
        chunk = b"".join(_uar(client).to_bytes() for _ in range(200))
        largest = 0
        for _ in range(300):
            client.writer.write(chunk)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.writer.drain(), 0.2)
            largest = max(largest, connection._transport.get_write_buffer_size())
            if not connection._transport.is_reading():
                break
        assert largest < 2_000_000
        assert len(connection._rest) <= connection_module.MAX_MESSAGE
        assert not connection._transport.is_reading()


@in_loop
async def test_too_many_connections():
    """Connections are limited; when one goes, another may come."""
    async with running_hss() as hss:
        clients = [CxClient(hss.diameter_port) for _ in range(65)]
        for client in clients:
            await client.connect()
        await _closed(clients[-1])
        for client in clients:
            await client.close()
        await asyncio.sleep(0.02)
        async with CxClient(hss.diameter_port) as client:
            assert outcome(await client.uar(ALICE)) == (2001, True)


@in_loop
async def test_answers_that_nobody_waits_for():
    """Stray and broken answers are dropped."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        client.writer.write(_with(_uar(client), flags=0x40).to_bytes())
        client.writer.write(b"\1\0\0\x14" + bytes(16))
        client.writer.write(b"\1\0\0\x18" + bytes(20))
        assert outcome(await client.uar(ALICE)) == (2001, True)


@in_loop
async def test_damaged_recordings():
    """Two thousand randomly damaged recorded requests: each is answered or ends its connection."""
    rng = random.Random(6733)
    requests = [raw for name, raw in RECORDED.items() if name.endswith("R")]
    async with running_hss() as hss:
        client = CxClient(hss.diameter_port)
        await client.__aenter__()
        for number in range(2000):
            raw = bytearray(rng.choice(requests))
            for _ in range(rng.randint(1, 4)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            client.writer.write(bytes(raw))
            if number % 20 == 19:
                await client.close()
                client = CxClient(hss.diameter_port)
                await client.__aenter__()
        await client.close()
        async with CxClient(hss.diameter_port, "bystander") as bystander:
            assert outcome(await bystander.uar(USERS["bob"]))[1]


@in_loop
async def test_stop_says_goodbye():
    """A stopping HSS sends DPR and waits for DPA."""
    async with running_hss() as hss:
        client = CxClient(hss.diameter_port)
        await client.__aenter__()
        stopping = asyncio.create_task(hss.stop())
        dpr = await asyncio.wait_for(client.incoming.get(), 5)
        assert (dpr.name, dpr.find("Disconnect-Cause").value) == ("DPR", 0)
        client.writer.write(dpr.answer(Avp.of("Result-Code", 2001)).to_bytes())
        await stopping
        await client.close()


@in_loop
async def test_layout_that_looks_alike():
    """A request as long as the one before, but with other AVPs, another vendor or flag, is read for what it is."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        for _ in range(3):
            assert outcome(await client.uar(ALICE)) == (2001, True)
            request = _uar(client)
            raw = request.to_bytes()
            name = ALICE.impi.encode()
            at = raw.index(name)
            assert raw[at - 8 : at - 4] == b"\0\0\0\1"
            for spoilt, result in (
                (raw[: at - 8] + b"\0\0\0\x19" + raw[at - 4 :], (5005, False)),  # another AVP: no User-Name
                (raw[: at - 8] + b"\0\0\x27\x0f" + raw[at - 4 :], (5001, False)),  # one that nobody knows
                (raw[: at - 4] + b"\x41" + raw[at - 3 :], (3009, False)),  # a reserved flag
                (raw[: at - 1] + b"\xff" + raw[at:], (5014, False)),  # a length that does not fit
                (raw[:at] + b"\xff" + raw[at + 1 :], (5004, False)),  # the same AVPs, but no text
                (raw[:at] + b"x" + raw[at + 1 :], (5001, True)),  # the same AVPs of somebody else
            ):
                answer = await client.ask(_Raw(spoilt, request.hop_by_hop_id))
                assert outcome(answer) == result
