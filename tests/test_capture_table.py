"""The table's contract: columns, types, names, one warning; and what is derived from it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest
from capture_bench import IMS, copies, frames, recording, retold

from labkit.capture.decode import COLUMNS
from labkit.capture.table import (
    calls,
    dialogs,
    diameter_pairs,
    read_capture,
    registrations,
    rtp_streams,
    settled,
    transactions,
)
from labkit.errors import CaptureError
from labkit.wire import pcap

RECORDING = IMS / "01_first_registration.pcap"


def test_types_are_nullable_and_the_same_for_an_empty_capture() -> None:
    """Absent is <NA> in every column; times are UTC nanoseconds; rows count from 0."""
    table = read_capture(RECORDING).table
    assert tuple(table.columns) == tuple(COLUMNS)
    assert table.index.tolist() == list(range(18))
    assert str(table["time"].dtype) == "datetime64[ns, UTC]"
    assert {str(table[name].dtype) for name in ("status", "frame", "hop_by_hop_id", "sequence")} == {"Int64"}
    assert {str(table[name].dtype) for name in ("request", "marker")} == {"boolean"}
    assert all(isinstance(table[name].dtype, pd.StringDtype) for name in ("src", "src_node", "method", "command"))
    assert table["status"].iloc[0] is pd.NA
    empty = read_capture(frames()).table
    assert len(empty) == 0
    assert list(empty.dtypes) == list(table.dtypes)


def test_the_first_rows_of_a_registration() -> None:
    """Values that tshark shows for this recording."""
    row = read_capture(RECORDING).table.iloc[3]
    assert (row["frame"], row["command"], row["command_code"], row["flags"]) == (4, "UAA", 300, 0x40)
    assert (row["experimental_result_code"], row["result_code"]) == (2001, pd.NA)
    assert row["origin_host"] == "hss.ims.mnc001.mcc001.3gppnetwork.org"


def test_names_by_address_and_by_port() -> None:
    """A name of "address:port" wins over one of the address."""
    table = read_capture(RECORDING, {"172.30.0.13": "pcscf", "172.30.0.1": "ue", "172.30.0.1:6001": "alice"}).table
    assert (table["src_node"].iloc[0], table["dst_node"].iloc[0]) == ("alice", "pcscf")
    assert table["dst_node"].iloc[1] is pd.NA


def test_names_in_the_file_serve_where_no_others_are_given() -> None:
    """A pcapng names its nodes itself."""
    file = pcap.pcapng(pcap.read_frames(RECORDING.read_bytes()), {"172.30.0.13": "edge", "172.30.0.11": "icscf"})
    table = read_capture(file, {"172.30.0.13": "pcscf"}).table
    assert (table["src_node"].iloc[1], table["dst_node"].iloc[1]) == ("pcscf", "icscf")


def test_a_phone_that_speaks_tcp_is_known_by_its_via() -> None:
    """Its requests come from a port that no list of names can hold; the top Via says whose they are."""
    text = (
        b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.1:6002;branch=z9hG4bKx\r\nCall-ID: c\r\n"
        b"CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
    reply = text.replace(b"OPTIONS sip:x SIP/2.0", b"SIP/2.0 200 OK")
    raw = frames(
        pcap.tcp_frame("10.0.0.1", 45678, "10.0.0.2", 5060, text, sequence=1),
        pcap.tcp_frame("10.0.0.2", 5060, "10.0.0.1", 45678, reply, sequence=1),
    )
    table = read_capture(raw, {"10.0.0.1:6001": "alice", "10.0.0.1:6002": "bob", "10.0.0.2": "pcscf"}).table
    assert table["src_node"].tolist() == ["bob", "pcscf"]
    assert table["dst_node"].tolist() == ["pcscf", "bob"]
    alone = read_capture(raw, {"10.0.0.1:5060": "alice", "[2001:db8::1]:5060": "carol"}).table
    assert alone["src_node"].iloc[0] == "alice"


def test_a_truncated_capture_warns_once() -> None:
    """The whole part is read; one warning says where the file ends."""
    with pytest.warns(UserWarning, match="ends inside frame 21") as caught:
        messages = read_capture(RECORDING.read_bytes()[:-5])
    assert len(caught) == 1
    assert len(messages) == 18  # frame 21 was a bare TCP acknowledgment
    assert messages.warning.startswith("The capture ends inside frame 21")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_capture(RECORDING)


def test_what_a_capture_lacks_is_one_warning() -> None:
    """A frame that is cut short and one of an unknown kind of link: no table looks as if nothing were missing."""
    invite = pcap.udp_frame("10.0.0.1", 5060, "10.0.0.2", 5060, b"INVITE sip:b SIP/2.0\r\nCall-ID: x\r\n\r\n")
    both = [pcap.Frame(1, 0, 1, invite[:-9], "", len(invite)), pcap.Frame(2, 1, 105, bytes(40))]
    with pytest.warns(UserWarning, match="1 frame is of link type 105.*1 packet is cut short") as caught:
        messages = read_capture(pcap.pcapng(both))
    assert len(caught) == 1
    assert len(messages) == 1


@pytest.mark.parametrize("source", ["nowhere.pcap", Path("nowhere.pcap"), b"no capture", str(Path(__file__).parent)])
def test_what_cannot_be_read_is_a_capture_error(source: str | bytes | Path) -> None:
    """No file, a folder, something else: one sentence."""
    with pytest.raises(CaptureError):
        read_capture(source)


@pytest.mark.parametrize("name", sorted(path.stem for path in IMS.glob("*.pcap") if not path.stem.startswith("20")))
def test_recordings_are_settled(name: str) -> None:
    """Everything that was asked in them was answered."""
    assert settled(recording(name)) == []


def test_what_is_open_is_named() -> None:
    """Cut short anywhere in a call, a capture says what it waits for."""
    packets = copies(recording("05_call_with_hold"))
    assert settled(retold(packets[:1])) == ["REGISTER alice -> pcscf"]
    assert "UAR icscf -> hss" in settled(retold(packets[:3]))
    for end in range(1, len(packets)):
        still_open = settled(retold(packets[:end]))
        last = canon_like(packets[end - 1].payload)
        assert still_open or last in ("180", "200", "401", "ACK"), end


def canon_like(payload: bytes) -> str:
    """Method or status of a SIP message."""
    words = payload.split(b" ", 2)
    return (words[1] if words[0] == b"SIP/2.0" else words[0]).decode("latin-1")


def test_a_ringing_call_may_end_a_capture_but_a_missing_ack_not() -> None:
    """Ringing can go on for ever; an ACK is on its way."""
    packets = copies(recording("05_call_with_hold"))
    ringing = [p for p in packets if b"\r\nCSeq: 310 " in p.payload]
    until_180 = ringing[: 1 + max(i for i, p in enumerate(ringing) if p.payload.startswith(b"SIP/2.0 180"))]
    assert settled(retold(until_180)) == []
    without_ack = [p for p in ringing if not p.payload.startswith(b"ACK")]
    assert settled(retold(without_ack)) == ["ACK of 200 pcscf -> bob"]
    refused = copies(recording("09_call_unregistered"))
    acks = [p for p in refused if p.payload.startswith(b"ACK")]
    assert settled(retold([p for p in refused if p is not acks[0]])) == ["ACK of 480 scscf -> icscf"]


def test_transactions_count_retransmissions() -> None:
    """One row a hop; a REGISTER that was sent twice more says so."""
    packets = copies(recording("01_first_registration"))
    table = transactions(retold([packets[0], *packets, packets[0]]).table)
    assert len(table) == 6
    first = table.iloc[0]
    assert (first["method"], first["status"], first["retransmissions"]) == ("REGISTER", 401, 2)
    assert (first["from"], first["to"]) == ("alice", "pcscf")
    assert first["duration_s"] == pytest.approx(0.018175, abs=2e-6)


def test_diameter_pairs() -> None:
    """Requests with their answers; one without is there, too."""
    table = diameter_pairs(recording("01_first_registration").table)
    assert table["command"].tolist() == ["UAR", "MAR", "SAR"]
    assert table["final_frame"].tolist() == [4, 8, 17]
    assert table["experimental_result_code"].tolist() == [2001, pd.NA, pd.NA]
    packets = copies(recording("01_first_registration"))
    lonely = diameter_pairs(retold(packets[:3]).table)
    assert lonely["result_code"].iloc[0] is pd.NA


def test_a_call() -> None:
    """A call with hold and resume is one row."""
    table = calls(recording("05_call_with_hold").table)
    assert len(table) == 1
    call = table.iloc[0]
    assert (call["from"], call["from_user"], call["to_user"]) == ("alice", "001010000000001", "001010000000002")
    assert (call["status"], call["ended_by"]) == (200, "alice")
    assert call["setup_s"] == pytest.approx(0.11, abs=0.001)
    assert call["duration_s"] == pytest.approx(1.511, abs=0.001)


def test_registrations_with_their_diameter() -> None:
    """Registration and de-registration; a third-party REGISTER is none; a refusal keeps its reason."""
    table = registrations(recording("03_deregistration").table)
    assert table["status"].tolist() == [200, 200]
    assert table["requests"].tolist() == [2, 2]
    assert table["server_assignment_type"].tolist() == [1, 5]
    assert table["diameter"].iloc[0] == "UAR 2001, MAR 2001, SAR 2001"
    assert len(registrations(recording("13_third_party_register").table)) == 1
    refused = registrations(recording("10_unknown_user").table).iloc[0]
    assert (refused["status"], refused["diameter"]) == (403, "UAR 5001")


def test_rtp_streams_count_what_is_lost() -> None:
    """Loss by sequence number over the wrap; reordering and repetition are no loss."""
    sdp = b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\n"
    invite = b"INVITE sip:x SIP/2.0\r\nContent-Length: %d\r\n\r\n" % len(sdp) + sdp
    numbers = [65533, 65534, 0, 65535, 1, 1, 4]
    packets = [
        b"\x80\x00" + n.to_bytes(2, "big") + (160 * ((n - 65533) % 65536)).to_bytes(4, "big") + b"SSRC" + bytes(160)
        for n in numbers
    ]
    raw = frames(
        pcap.udp_frame("10.0.0.1", 1, "10.0.0.2", 5060, invite),
        *(pcap.udp_frame("10.0.0.1", 2, "10.0.0.9", 4000, packet) for packet in packets),
    )
    stream = rtp_streams(read_capture(raw).table).iloc[0]
    assert (stream["packets"], stream["lost"], stream["payload_type"]) == (7, 2, 0)
    assert stream["ssrc"] == int.from_bytes(b"SSRC", "big")


@pytest.mark.parametrize("derive", [transactions, diameter_pairs, calls, dialogs, registrations, rtp_streams])
def test_nothing_follows_from_an_empty_table(derive: object) -> None:
    """Columns without rows."""
    table = derive(read_capture(frames()).table)  # type: ignore[operator]
    assert len(table) == 0
    assert "frame" in table.columns


def test_only_wanted_rows_and_protocols_are_kept() -> None:
    """By name of the protocol, by an expression, by a function; the bytes go with their rows."""
    path = IMS / "01_first_registration.pcap"
    diameter = read_capture(path, protocols=("diameter",))
    assert set(diameter.table.protocol) == {"diameter"}
    refused = read_capture(path, where="status == 401")
    assert [raw[:11] for raw in refused.raw] == [b"SIP/2.0 401"] * len(refused)
    same = read_capture(path, where=lambda table: table.status == 401)
    assert same.table.equals(refused.table)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"protocols": ("http",)}, "http cannot be read"),
        ({"where": "no_such_column == 1"}, "no_such_column"),
        ({"where": "status =="}, "cannot be asked"),
        ({"where": lambda table: True}, "yes or no for each"),
    ],
)
def test_wrong_wishes_are_one_sentence(options: dict[str, object], said: str) -> None:
    """What was asked and what is wrong with it."""
    with pytest.raises(CaptureError, match=said):
        read_capture(IMS / "01_first_registration.pcap", **options)  # type: ignore[arg-type]


def test_a_folder_is_one_capture(tmp_path: Path) -> None:
    """Its files in the order of their names, frames counted on; other files are left alone."""
    names = ("01_first_registration.pcap", "03_deregistration.pcap")
    for number, name in enumerate(names):
        (tmp_path / f"ring_{number}.pcap").write_bytes((IMS / name).read_bytes())
    (tmp_path / "notes.txt").write_text("nothing to read")
    both, first, second = (read_capture(source) for source in (tmp_path, *(IMS / name for name in names)))
    assert list(both.raw) == [*first.raw, *second.raw]
    assert both.table.frame.is_monotonic_increasing
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match="no capture in the folder"):
        read_capture(tmp_path / "empty")


def test_many_messages_stay_packed() -> None:
    """They look like a list of bytes, and are made when they are asked for."""
    import pyarrow as pa

    from labkit.capture.messages import PackedMessages

    whole = read_capture(IMS / "01_first_registration.pcap").raw
    packed = PackedMessages(pa.chunked_array([pa.array(list(whole), pa.large_binary())]))
    assert (list(packed), len(packed), packed[-1], packed[1:3]) == (
        list(whole),
        len(whole),
        whole[-1],
        list(whole[1:3]),
    )
