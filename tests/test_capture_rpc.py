"""JSON-RPC over HTTP and evapi: found in streams, cut right, read as tshark reads them, by both ways of the decoder.

The recordings come from CGrateS 0.10.4 and Kamailio 5.6.3.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
from pathlib import Path

import pytest
from capture_bench import frames, segments
from decoder_ways import WAY

from labkit.capture import decode as decoder
from labkit.capture.decode import Decoded
from labkit.capture.table import read_capture
from labkit.wire.rpc import parse_evapi, parse_rpc, split_http

RPC = Path(__file__).parent / "data" / "rpc"
pytestmark = pytest.mark.usefixtures("way")
ASK = b'{"method":"CoreSv1.Ping","params":[{}],"id":7}'
REQUEST = (
    b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ASK)
    + ASK
)
SAID = b'{"id":7,"result":"Pong","error":null}\n'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(SAID) + SAID
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\n" + SAID[:5] + b"\r\n%x;note=1\r\n" % (len(SAID) - 5) + SAID[5:] + b"\r\n0\r\n\r\n"
)
STARTED = b'{"event":"CGR_CALL_START","OriginID":"c1;t","h_entry":"1","h_id":"2"}'
EVAPI = b"%d:%s," % (len(STARTED), STARTED)
SIP = (
    b"OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:alice@a>;tag=f\r\n"
    b"To: <sip:bob@b>\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


def decode(raw: bytes) -> Decoded:
    """Decode the way that is being tested."""
    return decoder.decode(raw, **WAY)


def of_stream(*pieces: bytes) -> Decoded:
    """Decode one direction of a connection, given segment by segment."""
    cuts = list(itertools.accumulate(map(len, pieces)))[:-1]
    return decode(frames(*segments(b"".join(pieces), cuts)))


def tshark(path: Path, shown: str, *fields: str) -> list[list[str]]:
    """Rows of fields as tshark gives them."""
    words = ["tshark", "-n", "-r", str(path), "-Y", shown, "-T", "fields", "-E", "separator=\x1f"]
    words += [word for field in fields for word in ("-e", field)]
    done = subprocess.run(words, capture_output=True, check=True, timeout=60, text=True)
    return [line.split("\x1f") for line in done.stdout.splitlines()]


@pytest.mark.tshark
def test_every_json_rpc_message_is_what_tshark_says() -> None:
    """Frame, direction, body (chunks put together) and status of each HTTP message of the engine's own recording."""
    path = RPC / "jsonrpc.pcap"
    expected = tshark(path, "http", "frame.number", "http.request.method", "http.response.code", "http.file_data")
    found = decode(path.read_bytes())
    assert len(expected) == 46
    assert found.columns["frame"] == [int(row[0]) for row in expected]
    assert found.columns["request"] == [row[1] == "POST" for row in expected]
    assert found.columns["status"] == [int(row[2]) if row[2] else None for row in expected]
    for raw, row in zip(read_capture(path).raw, expected, strict=True):
        body = row[3] if row[3][:1] == "{" else bytes.fromhex(row[3].replace(":", "")).decode()
        assert json.loads(split_http(raw)[2]) == json.loads(body.replace("\\n", "\n"))


@pytest.mark.tshark
def test_every_evapi_message_is_what_tshark_sees_in_the_segments() -> None:
    """Kamailio and the engine write one netstring a segment; each is found, at its frame, with all its members."""
    path = RPC / "evapi.pcap"
    expected = [
        (int(frame), bytes.fromhex(payload))
        for frame, payload in tshark(path, "tcp.len > 0 && tcp.port == 8448", "frame.number", "tcp.payload")
    ]
    found = read_capture(path, protocols=["evapi"])
    assert list(zip(found.table["frame"], found.raw, strict=True)) == expected
    for raw in found.raw:
        size, _, rest = raw.partition(b":")
        assert dict(parse_evapi(raw).fields) == json.loads(rest[: int(size)])


def test_the_columns_of_the_recorded_prepaid_calls() -> None:
    """Events and who is refused; the call that they are about is the Call-ID of the SIP beside them."""
    found = decode((RPC / "evapi.pcap").read_bytes())
    events = [
        (method, request, reason)
        for protocol, method, request, reason in zip(
            *(found.columns[name] for name in ("protocol", "method", "request", "reason")), strict=True
        )
        if protocol == "evapi"
    ]
    assert events[:4] == [
        ("CGR_AUTH_REQUEST", True, None),
        ("CGR_AUTH_REPLY", False, None),
        ("CGR_CALL_START", True, None),
        ("CGR_CALL_END", True, None),
    ]
    assert ("CGR_SESSION_DISCONNECT", True, None) in events
    assert ("CGR_AUTH_REPLY", False, "RALS_ERROR:ACCOUNT_NOT_FOUND") in events
    sip = {c for c, p in zip(found.columns["call_id"], found.columns["protocol"], strict=True) if p == "sip"}
    asked = {c for c, p in zip(found.columns["call_id"], found.columns["protocol"], strict=True) if p == "evapi" and c}
    assert asked
    assert asked <= sip


def test_question_and_answer_share_their_number() -> None:
    """The SIP transaction of an authorization; the id of a JSON-RPC call."""
    table = read_capture(RPC / "evapi.pcap").table
    asked = table.loc[table["method"] == "CGR_AUTH_REQUEST", "session_id"].tolist()
    assert asked == table.loc[table["method"] == "CGR_AUTH_REPLY", "session_id"].tolist()
    table = read_capture(RPC / "jsonrpc.pcap").table
    assert table.loc[table["request"], "session_id"].tolist() == table.loc[~table["request"], "session_id"].tolist()


STREAMS = [(REQUEST, REQUEST), (ANSWER, CHUNKED, ANSWER), (EVAPI, EVAPI, EVAPI)]


@pytest.mark.parametrize("messages", STREAMS, ids=["ask", "say", "evapi"])
def test_how_a_stream_was_cut_into_segments_does_not_matter(messages: tuple[bytes, ...]) -> None:
    """Whole, byte by byte, and at random places: the same messages."""
    stream = b"".join(messages)
    whole = of_stream(stream)
    names = ("protocol", "method", "status", "session_id", "request")
    expected = [whole.columns[name] for name in names]
    assert len(expected[0]) == len(messages)
    chance = random.Random(7)
    cuts = [range(1, len(stream)), *(sorted(chance.sample(range(1, len(stream)), 9)) for _ in range(20))]
    for places in cuts:
        pieces = [stream[a:b] for a, b in itertools.pairwise([0, *places, len(stream)])]
        assert [of_stream(*pieces).columns[name] for name in names] == expected


@pytest.mark.parametrize("message", [REQUEST, ANSWER, CHUNKED, EVAPI], ids=["ask", "say", "chunked", "evapi"])
def test_a_message_that_does_not_end_is_none(message: bytes) -> None:
    """Cut off anywhere, nothing is given and nothing fails."""
    for size in range(len(message)):
        assert of_stream(message[:size]).columns["frame"] == []


@pytest.mark.parametrize(("good", "name"), [(REQUEST, "jsonrpc"), (EVAPI, "evapi")], ids=["http", "evapi"])
def test_a_lost_segment_costs_its_messages_only(good: bytes, name: str) -> None:
    """Behind a gap, reading goes on at the next message."""
    cuts = [len(good), len(good) + 40, 2 * len(good), 4 * len(good)]
    parts = segments(good * 5, cuts)
    del parts[2]
    assert decode(frames(*parts)).columns["protocol"] == [name] * 4


def test_http_without_json_rpc_is_no_row() -> None:
    """Pages, and JSON that is neither question nor answer; a question on the same connection is."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
    other = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"peer":1}'
    assert of_stream(page * 3).columns["frame"] == []
    assert of_stream(other * 3).columns["frame"] == []
    assert of_stream(other, ANSWER, other).columns["protocol"] == ["jsonrpc"]


def test_sip_that_begins_a_stream_stays_sip() -> None:
    """A stream is judged by how it begins: numbers and colons inside of SIP do not matter."""
    assert of_stream(SIP, EVAPI + b"\n", SIP).columns["protocol"] == ["sip", "sip"]
    assert of_stream(b"12:hello,\n", SIP).columns["protocol"] == ["sip"]


def test_json_that_is_damaged_still_has_its_place() -> None:
    """The row says where a message was; what cannot be read is absent."""
    broken = EVAPI.replace(b'"CGR', b'"\xffGR').replace(b'h_id":"2"}', b'h_id":"2"]')
    found = of_stream(broken)
    assert (found.columns["protocol"], found.columns["method"]) == (["evapi"], [None])


def test_absurd_lengths_do_not_make_the_decoder_wait() -> None:
    """A chunk of gigabytes, a size that is no number: what follows is found."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for chunk in (b"ffffffff\r\nx", b"zz\r\nx"):
        assert of_stream(head + chunk, ANSWER).columns["protocol"] == ["jsonrpc"]


def test_both_ways_give_the_same_of_the_recordings() -> None:
    """Row by row, column by column, with the bytes."""
    for path in sorted(RPC.glob("*.pcap")):
        one, other = (decoder.decode(path.read_bytes(), few_frames=few) for few in (0, 1 << 30))
        assert one.columns == other.columns
        assert len(one.columns["frame"]) > 10


def test_what_a_session_is_about_is_read_from_question_and_answer() -> None:
    """OriginID of the event, of the callback's event, of a CDR."""
    messages = read_capture(RPC / "jsonrpc.pcap")
    parsed = [parse_rpc(raw) for raw in messages.raw]
    asked = next(one for one in parsed if one.method == "SessionSv1.InitiateSession")
    assert (asked.event["OriginID"], asked.event["Usage"]) == ("call-1", "60s")
    answer = parsed[parsed.index(asked) + 1]
    assert (answer.number, answer.error, answer.status) == (asked.number, "", 200)
    assert answer.result["MaxUsage"] == 60 * 10**9
    assert re.match(r"RALS_ERROR:", parsed[-1].error)
