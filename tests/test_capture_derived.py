"""What follows from the table: each function on recordings, and on captures made for one question."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from capture_bench import IMS, copies, frames, recording, retold

from labkit.capture.derived import calls, dialogs, diameter_pairs, registrations, rtp_streams, transactions
from labkit.capture.messages import Messages
from labkit.capture.table import read_capture
from labkit.wire import pcap

FREESWITCH = Path(__file__).parent / "data" / "freeswitch"


def sip(start: str, *headers: str, body: str = "") -> bytes:
    """A SIP message from its start line and headers."""
    lines = [start, *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


def invite(call_id: str, *more: str, caller: str = "1000", called: str = "2000", branch: str = "a") -> bytes:
    """An INVITE that begins a call."""
    return sip(
        f"INVITE sip:{called}@x SIP/2.0",
        f"Via: SIP/2.0/UDP h;branch=z9hG4bK{branch}{call_id}",
        f"From: <sip:{caller}@x>;tag=f{call_id}",
        f"To: <sip:{called}@x>",
        f"Call-ID: {call_id}",
        "CSeq: 1 INVITE",
        *more,
    )


def reply(status: str, request: bytes, tag: str = "t", method: str = "INVITE") -> bytes:
    """A response to a request made by `invite`."""
    lines = request.decode().split("\r\n")
    via, sender, to, call_id, _cseq = lines[1:6]
    return sip(f"SIP/2.0 {status}", via, sender, f"{to};tag={tag}", call_id, f"CSeq: 1 {method}")


def sent(*steps: tuple[str, str, bytes]) -> Messages:
    """A capture of (from, to, message), over UDP, a millisecond apart."""
    return read_capture(frames(*(pcap.udp_frame(src, 5060, dst, 5060, raw) for src, dst, raw in steps)))


A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"


def test_a_bye_sent_again_and_its_answer() -> None:
    """FreeSWITCH repeated a BYE, the phone its 200: one transaction with one retransmission each."""
    found = transactions(read_capture(FREESWITCH / "bye_sent_again.pcap").table)
    bye = found[found["frame"] == found.loc[found["retransmissions"] > 0, "frame"].iloc[0]].iloc[0]
    assert (bye["method"], bye["status"], bye["retransmissions"], bye["response_retransmissions"]) == ("BYE", 200, 1, 1)
    assert found["retransmissions"].sum() == found["response_retransmissions"].sum() == 1


def test_answers_of_a_fork_are_no_retransmissions() -> None:
    """Two phones answer one INVITE: two 200 with different tags, and two dialogs of which one was never ended."""
    ask = invite("fork")
    answers = [reply("200 OK", ask, tag) for tag in ("one", "two", "two")]
    bye = ask.replace(b"INVITE", b"BYE").replace(b"CSeq: 1", b"CSeq: 2").replace(b"2000@x>\r\n", b"2000@x>;tag=two\r\n")
    table = sent((A, B, ask), *((B, A, answer) for answer in answers), (A, B, bye)).table
    assert transactions(table)["response_retransmissions"].tolist() == [1, 0]
    found = dialogs(table)
    assert found["to_tag"].tolist() == ["one", "two"]
    assert found["state"].tolist() == ["confirmed", "ended"]
    assert found["messages"].tolist() == [1, 3]


def test_dialogs_of_a_recorded_call_and_of_a_subscription() -> None:
    """A call has one dialog over all hops; so has the reg-event subscription of a P-CSCF."""
    found = dialogs(recording("05_call_with_hold").table)
    assert found["method"].tolist().count("INVITE") == 1
    call = found[found["method"] == "INVITE"].iloc[0]
    assert (call["from"], call["to"], call["state"], call["ended_by"]) == ("alice", "bob", "ended", "alice")
    assert "SUBSCRIBE" in dialogs(recording("16_rtr_pcscf_reginfo").table)["method"].tolist()


def test_a_refused_call_that_rang_leaves_no_open_dialog() -> None:
    """An early dialog ends with the refusal; without 18x there was none."""
    ask = invite("busy")
    rang = sent((A, B, ask), (B, A, reply("180 Ringing", ask)), (B, A, reply("486 Busy Here", ask)))
    assert dialogs(rang.table)["state"].tolist() == ["ended"]
    assert len(dialogs(sent((A, B, ask), (B, A, reply("486 Busy Here", ask))).table)) == 0


def test_a_call_through_freeswitch_is_one_call_with_two_legs() -> None:
    """A recorded bridge: two Call-IDs, one caller and one called number, one row."""
    messages = read_capture(FREESWITCH / "b2bua_call.pcap")
    for raw in (None, messages.raw):
        found = calls(messages.table, raw)
        assert len(found) == 1
        call = found.iloc[0]
        assert (call["from_user"], call["to_user"], call["status"], call["legs"]) == ("1000", "2001", 200, 2)
        assert call["messages"] == 36
        assert call["setup_s"] == pytest.approx(0.533522, abs=1e-6)
    assert call["joined_by"] == "both numbers"


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (invite("l1"), invite("l2"), "both numbers"),
        (invite("l1", caller="+491701234567"), invite("l2", caller="01701234567"), "both numbers"),
        (invite("l1"), invite("l2", called="sales"), "a number and the node"),
        (
            invite("l1", "P-Charging-Vector: icid-value=AB12;orig-ioi=x"),
            invite("l2", 'P-Charging-Vector: icid-value="ab12"', caller="1", called="2"),
            "charging id",
        ),
        (
            invite("l1", f"Session-ID: {'ab' * 16};remote={'0' * 32}"),
            invite("l2", f"Session-ID: {'ab' * 16};remote={'0' * 32}", caller="1", called="2"),
            "session id",
        ),
        (invite("l1"), invite("l2", "X-Other-Leg: <l1>", caller="1", called="2"), "call id"),
        (invite("l1"), invite("l2", caller="1", called="2"), None),
        (
            invite("l1", "P-Charging-Vector: icid-value=one"),
            invite("l2", "P-Charging-Vector: icid-value=two"),
            None,
        ),
    ],
)
def test_legs_are_joined_by_what_they_share(first: bytes, second: bytes, why: str | None) -> None:
    """An identifier made for it, the Call-ID, or the numbers; two identifiers that differ keep calls apart."""
    messages = sent((A, B, first), (B, C, second), (C, B, reply("200 OK", second)), (B, A, reply("200 OK", first)))
    found = calls(messages.table, messages.raw)
    if why is None:
        assert found["legs"].tolist() == [1, 1]
        assert found["joined_by"].isna().all()
    else:
        assert found["legs"].tolist() == [2]
        assert found["joined_by"].tolist() == [why]
        assert found["call_ids"].tolist() == ["l1, l2"]
        assert found["setup_s"].tolist() == pytest.approx([0.003])


def test_the_same_numbers_after_the_answer_are_another_call() -> None:
    """Who is called again after a refusal makes a new call."""
    first, second = invite("l1"), invite("l2")
    steps = [(A, B, first), (B, A, reply("486 Busy Here", first)), (A, B, second), (B, A, reply("200 OK", second))]
    assert calls(sent(*steps).table)["status"].tolist() == [486, 200]


def test_an_invite_that_is_challenged_is_one_call() -> None:
    """The status is that of the INVITE with credentials; a BYE that was refused ends nothing."""
    ask = invite("auth")
    again = ask.replace(b"CSeq: 1", b"CSeq: 2").replace(b"z9hG4bKa", b"z9hG4bKb")
    busy = reply("486 Busy Here", again).replace(b"CSeq: 1", b"CSeq: 2")
    bye = again.replace(b"INVITE", b"BYE")
    found = calls(sent((A, B, ask), (B, A, reply("407 Auth", ask)), (A, B, again), (B, A, busy), (A, B, bye)).table)
    assert found["status"].tolist() == [486]
    assert found["ended_by"].isna().all()
    assert found["duration_s"].isna().all()


def test_identifiers_of_diameter_may_be_used_again() -> None:
    """A second question with the identifiers of an answered one is a new one; unanswered, it is a retransmission."""
    packets = copies(recording("01_first_registration"))
    uar, uaa = packets[2], packets[3]
    found = diameter_pairs(retold([uar, uaa, *(_later(p, 10**6) for p in (uar, uaa))]).table)
    assert found["retransmissions"].tolist() == [0, 0]
    assert found["experimental_result_code"].tolist() == [2001, 2001]
    asked_twice = diameter_pairs(retold([uar, _later(uar, 10), _later(uaa, 20)]).table)
    assert asked_twice["retransmissions"].tolist() == [1]


def _later(packet: object, by_us: int) -> object:
    from dataclasses import replace

    return replace(packet, time_us=packet.time_us + by_us)  # type: ignore[type-var,attr-defined]


def test_a_registration_without_answer_waits_for_32_seconds() -> None:
    """An unanswered REGISTER still has the Diameter that it caused, and no status."""
    packets = copies(recording("01_first_registration"))
    found = registrations(retold([p for p in packets if b"SIP/2.0 401" not in p.payload][:5]).table)
    assert found["status"].isna().all()
    assert found["diameter"].tolist() == ["UAR 2001, MAR unanswered"] or found["diameter"].iloc[0].startswith(
        "UAR 2001"
    )
    assert found["diameter_s"].iloc[0] > 0


def test_without_names_registrations_are_the_same() -> None:
    """Other people's traces name no nodes: addresses serve."""
    named = registrations(recording("03_deregistration").table)
    bare = registrations(read_capture(IMS / "03_deregistration.pcap").table)
    pd.testing.assert_frame_equal(named.drop(columns=["from", "to"]), bare.drop(columns=["from", "to"]))


def rtp(number: int, ticks: int, payload_type: int = 0) -> bytes:
    """An RTP packet."""
    return bytes([0x80, payload_type]) + (number & 0xFFFF).to_bytes(2, "big") + ticks.to_bytes(4, "big") + b"SSRC"


def stream_of(*packets: tuple[int, bytes], formats: str = "0") -> pd.Series:
    """The one stream of RTP packets sent at given milliseconds to an address that an SDP announced."""
    sdp = f"v=0\r\nc=IN IP4 {C}\r\nm=audio 4000 RTP/AVP {formats}\r\na=rtpmap:96 AMR-WB/16000\r\n"
    ask = invite("media", "Content-Type: application/sdp").replace(b"Content-Length: 0\r\n\r\n", b"")
    ask += f"Content-Length: {len(sdp)}\r\n\r\n{sdp}".encode()
    parts = [pcap.Frame(0, 10**18, 1, pcap.udp_frame(A, 5060, B, 5060, ask))]
    parts += [pcap.Frame(0, 10**18 + at_ms * 10**6, 1, pcap.udp_frame(B, 2, C, 4000, raw)) for at_ms, raw in packets]
    messages = read_capture(pcap.pcapng(parts))
    return rtp_streams(messages.table, messages.raw).iloc[0]


def test_silence_is_a_jump_of_timestamps_without_one_of_numbers() -> None:
    """A sender that paused for 200 ms lost nothing; jitter does not mind."""
    found = stream_of(*((20 * n + (200 if n > 4 else 0), rtp(n, 160 * n + (1600 if n > 4 else 0))) for n in range(10)))
    assert (found["silences"], found["silence_s"], found["lost"]) == (1, pytest.approx(0.2), 0)
    assert found["jitter_ms"] == pytest.approx(0)
    assert found["longest_gap_ms"] == pytest.approx(220)


def test_what_is_lost_is_no_silence() -> None:
    """A gap in the numbers is loss; one that came twice and one that came late are counted."""
    numbers = [0, 1, 2, 5, 6, 6, 8, 7]
    found = stream_of(*((20 * at + 1, rtp(n, 160 * n)) for at, n in enumerate(numbers)))
    assert (found["lost"], found["duplicates"], found["out_of_order"], found["silences"]) == (2, 1, 1, 0)


def test_the_clock_comes_from_the_sdp_and_else_from_the_packets() -> None:
    """AMR-WB has 16000 ticks a second: by its rtpmap, and by what the packets show where no SDP describes it."""
    described = stream_of(*((20 * n, rtp(n, 320 * n, 96)) for n in range(20)), formats="96")
    assert (described["codec"], described["clock_hz"], described["call_id"]) == ("AMR-WB", 16000, "media")
    shown = stream_of(*((20 * n, rtp(n, 320 * n, 97)) for n in range(20)), formats="97")
    assert (shown["clock_hz"], shown["jitter_ms"]) == (16000, pytest.approx(0))
    assert shown["codec"] is pd.NA


def test_variation_of_delay() -> None:
    """One packet of twenty came 30 ms late: that is the PDV, and the greatest jitter by RFC 3550 is 30/16 and on."""
    found = stream_of(*((20 * n + (30 if n == 9 else 0), rtp(n, 160 * n)) for n in range(20)))
    assert found["pdv_ms"] == pytest.approx(30)
    assert found["max_jitter_ms"] == pytest.approx(30 / 16 + (30 - 30 / 16) / 16)


def test_recorded_media_belongs_to_its_call() -> None:
    """Three streams of one recorded call, one of them to an address that was announced and then taken back."""
    messages = read_capture(FREESWITCH / "call_with_media.pcap")
    found = rtp_streams(messages.table, messages.raw)
    assert found["packets"].tolist() == [291, 9, 88]
    assert found["call_id"].nunique() == 1
    assert found["call_id"].iloc[0] == calls(messages.table)["call_id"].iloc[0]
