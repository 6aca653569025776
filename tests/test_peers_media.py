"""Real sound between two phones: packets every 20 ms with right numbers, hold, RTCP, and reports."""

from __future__ import annotations

import asyncio

import pytest
from in_loop import in_loop
from ue_parts import two_phones, until, uri

from labkit.errors import StackError
from labkit.peers.media import AudioStream
from labkit.peers.mirror import Mirror
from labkit.wire.hep import PROTOCOL_RTP, parse_packet
from labkit.wire.rtp import BYE, FRAME_SAMPLES, RR, SDES, SR, RtcpPacket, RtpPacket, parse_rtcp, parse_rtp, tone
from labkit.wire.rtp import music as rtp_music
from labkit.wire.sdp import parse_sdp


class Ear(asyncio.DatagramProtocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagram_received(self, raw: bytes, source: object) -> None:
        self.heard.append(raw)


async def listen() -> tuple[Ear, Ear, int]:
    """Ears on an even port and the next one: for RTP and RTCP."""
    loop = asyncio.get_running_loop()
    rtp_ear, rtcp_ear = Ear(), Ear()
    for port in range(42000, 43000, 2):
        try:
            await loop.create_datagram_endpoint(lambda: rtp_ear, local_addr=("127.0.0.1", port))
            await loop.create_datagram_endpoint(lambda: rtcp_ear, local_addr=("127.0.0.1", port + 1))
        except OSError:
            continue
        return rtp_ear, rtcp_ear, port
    raise AssertionError("no free ports")


def packets(ear: Ear) -> list[RtpPacket]:
    """What an ear heard, as RTP."""
    return [parse_rtp(raw) for raw in ear.heard]


def types(raw: bytes) -> list[int]:
    """Packet types in one RTCP datagram."""
    return [packet.packet_type for packet in parse_rtcp(raw)]


@in_loop
async def test_numbers_of_a_stream() -> None:
    """Sequence numbers go up by one and timestamps by 160 a packet; the first one carries the marker (RFC 3551 4.1)."""
    ear, _, port = await listen()
    stream = AudioStream(tone_hz=400)
    await stream.open("127.0.0.1")
    assert stream.port % 2 == 0
    stream.direct(("127.0.0.1", port), "sendonly")
    await until(lambda: len(ear.heard) >= 8)
    heard = packets(ear)
    first = heard[0]
    for number, packet in enumerate(heard[:8]):
        assert packet.payload == tone(400)
        assert (packet.payload_type, packet.ssrc, packet.marker) == (0, first.ssrc, number == 0)
        assert packet.sequence == (first.sequence + number) & 0xFFFF
        assert packet.timestamp == (first.timestamp + number * FRAME_SAMPLES) & 0xFFFFFFFF
    stream.close()


@in_loop
async def test_pause_shows_in_the_timestamp() -> None:
    """While nothing is sent the media clock goes on: the next packet has a later time and the marker."""
    ear, _, port = await listen()
    stream = AudioStream()
    await stream.open("127.0.0.1")
    stream.direct(("127.0.0.1", port), "sendrecv")
    await until(lambda: len(ear.heard) >= 3)
    stream.direct(("127.0.0.1", port), "recvonly")
    count = len(ear.heard)
    await asyncio.sleep(0.15)
    assert len(ear.heard) <= count + 1
    stream.direct(("127.0.0.1", port), "sendrecv")
    await until(lambda: len(ear.heard) >= count + 3)
    heard = packets(ear)
    resumed = next(number for number, packet in enumerate(heard) if packet.marker and number)
    before, after = heard[resumed - 1], heard[resumed]
    assert (after.sequence - before.sequence) & 0xFFFF == 1
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF >= 5 * FRAME_SAMPLES
    stream.close()


@in_loop
async def test_rtcp_goes_on_while_held() -> None:
    """SR while sound goes out, RR while it does not, each with a CNAME, and BYE at the end (RFC 3550 section 6)."""
    _, ear, port = await listen()
    stream = AudioStream(rtcp_interval_s=0.05)
    await stream.open("127.0.0.1")
    stream.direct(("127.0.0.1", port), "sendrecv")
    await until(lambda: len(ear.heard) >= 2)
    assert types(ear.heard[0]) == [SR, SDES]
    sender = parse_rtcp(ear.heard[1])[0].sender
    assert sender is not None
    assert sender.payload_bytes == sender.packets * FRAME_SAMPLES
    stream.direct(("127.0.0.1", port), "inactive")
    count = len(ear.heard)
    await until(lambda: len(ear.heard) >= count + 2)
    assert types(ear.heard[-1]) == [RR, SDES]
    stream.close()
    await until(lambda: BYE in types(ear.heard[-1]))
    assert types(ear.heard[-1]) == [RR, SDES, BYE]


@in_loop
async def test_music_for_somebody_who_is_held() -> None:
    """With music the payload goes through the tune from its beginning; afterwards the tone is back, in one stream."""
    ear, _, port = await listen()
    stream = AudioStream(tone_hz=400)
    await stream.open("127.0.0.1")
    for music in (False, True, False):
        stream.direct(("127.0.0.1", port), "sendonly", music=music)
        count = len(ear.heard)
        await until(lambda count=count: len(ear.heard) >= count + 7)  # type: ignore[misc]
    heard = packets(ear)
    played = [packet.payload for packet in heard if packet.payload != tone(400)]
    assert set(played) <= set(rtp_music())
    assert played[0] == tone(500, 6000) or heard[7].payload == rtp_music()[0]
    assert [packet.payload for packet in heard[-5:]] == [tone(400)] * 5
    assert len({packet.ssrc for packet in heard}) == 1
    assert sum(packet.marker for packet in heard) == 1
    stream.close()


@in_loop
async def test_nothing_goes_to_nowhere() -> None:
    """While the other side's address is 0.0.0.0 neither RTP nor RTCP is sent, not even a BYE (RFC 3264 8.4)."""
    ear, rtcp_ear, port = await listen()
    stream = AudioStream(rtcp_interval_s=0.03)
    await stream.open("127.0.0.1")
    stream.direct(("127.0.0.1", port), "sendrecv")
    await until(lambda: bool(ear.heard and rtcp_ear.heard))
    stream.direct(None, "recvonly")
    await asyncio.sleep(0.01)
    before = len(ear.heard), len(rtcp_ear.heard), stream.report().sent, stream.report().rtcp_sent
    await asyncio.sleep(0.15)
    stream.close()
    await asyncio.sleep(0.01)
    assert (len(ear.heard), len(rtcp_ear.heard), stream.report().sent, stream.report().rtcp_sent) == before


@in_loop
async def test_copies_for_a_collector() -> None:
    """Where packets cannot be sniffed, everything sent is also sent as HEP3 with its true addresses."""
    ear, rtcp_ear, port = await listen()
    collector = Ear()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: collector, local_addr=("127.0.0.1", 0))
    mirror = Mirror(transport.get_extra_info("sockname"), transport="udp", protocol=PROTOCOL_RTP, capture_id=1)
    stream = AudioStream(rtcp_interval_s=0.05, mirror=mirror)
    await stream.open("127.0.0.1")
    stream.direct(("127.0.0.1", port), "sendrecv")
    await until(lambda: len(rtcp_ear.heard) >= 2)
    stream.close()
    await until(lambda: len(collector.heard) >= len(ear.heard) + len(rtcp_ear.heard))
    copies = [parse_packet(raw) for raw in collector.heard]
    for offset, heard in ((0, ear.heard), (1, rtcp_ear.heard)):
        mine = [copy for copy in copies if copy.dst_port == port + offset]
        assert [copy.payload for copy in mine] == heard
        assert {(copy.src, copy.src_port, copy.transport) for copy in mine} == {
            ("127.0.0.1", stream.port + offset, "udp")
        }
    mirror.close()
    transport.close()


@in_loop
async def test_reports_between_two_streams() -> None:
    """Two streams hear each other whole; reports name the other's SSRC; garbage does nothing."""
    left, right = AudioStream(rtcp_interval_s=0.05), AudioStream(tone_hz=500, rtcp_interval_s=0.05)
    ports = [await one.open("127.0.0.1") for one in (left, right)]
    left.direct(("127.0.0.1", ports[1]), "sendrecv")
    right.direct(("127.0.0.1", ports[0]), "sendrecv")
    await until(lambda: min(left.report().received, right.report().received) >= 10)
    await until(lambda: min(left.report().rtcp_received, right.report().rtcp_received) >= 2)
    for stream in (left, right):
        stream._receive_rtp(b"nonsense")
        stream._receive_rtcp(b"nonsense")
        report = stream.report()
        assert report.lost == 0
        assert report.received <= report.sent + 12
        assert 0 <= report.jitter_ms < 1000
    blocks = left._blocks()
    assert blocks[0].ssrc == right._ssrc
    assert blocks[0].last_sr != 0
    assert isinstance(parse_rtcp(b"\x80\xcb\x00\x00")[0], RtcpPacket)
    for stream in (left, right):
        stream.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@in_loop
async def test_sound_of_a_call(transport: str) -> None:
    """A call with sound: both sides send and hear; while held the held side is silent; after BYE nobody sends."""
    async with two_phones(transport, auto_answer=True, rtp=True) as (alice, bob):
        ours = await alice.call(uri(bob), rtp=True)
        theirs = await bob.wait_call()

        async def both() -> tuple[int, int]:
            mine, yours = await ours.media(), await theirs.media()
            assert mine is not None
            assert yours is not None
            return mine.received, yours.received

        while min(await both()) < 5:
            await asyncio.sleep(0.02)
        assert parse_sdp(ours.local_sdp).media_address()[1] % 2 == 0
        await ours.hold("inactive")
        await asyncio.sleep(0.05)
        quiet = await both()
        await asyncio.sleep(0.1)
        assert await both() == quiet
        await ours.resume()
        while min(await both()) < max(quiet) + 3:
            await asyncio.sleep(0.02)
        await theirs.bye()
        assert (await both())[0] > quiet[0]


@in_loop
async def test_calls_without_sound_send_none() -> None:
    """A call without sound has an SDP like any other, but no socket and no report."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        assert await ours.media() is None
        assert parse_sdp(ours.local_sdp).media_address() == ("127.0.0.1", 40000)


@in_loop
async def test_foreign_address() -> None:
    """A stream cannot be opened at another host's address, and says so."""
    with pytest.raises(StackError, match="RTP"):
        await AudioStream().open("192.0.2.1")
