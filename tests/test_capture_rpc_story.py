"""Charged calls as a story: SIP, evapi and JSON-RPC in the order of cause and effect, and in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.capture.canon import canon
from labkit.capture.table import Messages, read_capture, rpc_pairs, settled
from labkit.view.message import explain
from labkit.view.text_ladder import text_ladder
from labkit.wire import pcap

RPC = Path(__file__).parent / "data" / "rpc"
NAMES = {"127.30.0.20": "prepaid", "127.30.0.9": "cgrates", "127.30.0.22": "alice", "127.30.0.21": "bob"}
NAMES |= {"127.208.141.20": "cgrates"}
CUT = """
alice prepaid INVITE
prepaid cgrates CGR_AUTH_REQUEST
cgrates prepaid CGR_AUTH_REPLY 3 s
prepaid bob INVITE
bob prepaid 180 Ringing
prepaid alice 180 Ringing
bob prepaid 200 OK
prepaid cgrates CGR_CALL_START
prepaid alice 200 OK
alice prepaid ACK
prepaid bob ACK
cgrates prepaid CGR_SESSION_DISCONNECT INSUFFICIENT_CREDIT
prepaid alice BYE
alice prepaid 200 OK
prepaid bob BYE
bob prepaid 200 OK
prepaid cgrates CGR_CALL_END 3 s
""".strip().splitlines()


def recording(name: str) -> Messages:
    """A recording of tests/data/rpc, named."""
    return read_capture(RPC / f"{name}.pcap", NAMES)


def lines(messages: Messages, call: str) -> list[str]:
    """The story of one call, a line a message."""
    story = canon(messages)
    chosen = story[(story["call"] == call).fillna(False).astype(bool)]
    return [f"{row['from']} {row['to']} {row['message']}" for _, row in chosen.iterrows()]


def test_a_call_that_the_engine_cuts_is_one_story() -> None:
    """What each side says follows from what it heard, whoever spoke: SIP, evapi, SIP again; BYE both ways."""
    assert lines(recording("evapi"), "call-2") == CUT


@pytest.mark.parametrize("shift_ns", [-400_000, -100_000, 100_000, 400_000])
def test_the_story_does_not_depend_on_who_was_a_little_faster(shift_ns: int) -> None:
    """With all TCP a little earlier or later, the same."""
    frames = [
        pcap.Frame(f.number, f.time_ns + shift_ns * (f.raw[23] == 6), f.linktype, f.raw)
        for f in pcap.read_frames((RPC / "evapi.pcap").read_bytes())
    ]
    moved = read_capture(pcap.pcapng(sorted(frames, key=lambda f: f.time_ns)), NAMES)
    assert canon(moved).shown.equals(canon(recording("evapi")).shown)


def test_the_engine_is_known_by_what_it_says() -> None:
    """It connects from a port that nobody knows beforehand; whoever else comes from there is not the engine."""
    table = read_capture(RPC / "evapi.pcap", NAMES | {"127.0.0.1:5060": "a phone at the same address"}).table
    assert set(table.loc[table["src"] == "127.0.0.1", "src_node"]) == {"cgrates"}
    unnamed = recording("jsonrpc").table
    assert unnamed["src_node"].isna().any()


def test_refusals_end_where_they_were_made() -> None:
    """402 and 403 follow from the engine's answer; the callee hears of neither."""
    ladder = text_ladder(recording("evapi"), width=130, arrows=False)
    assert "cgrates -> prepaid: CGR_AUTH_REPLY 0 s" in ladder
    story = [line.split(" ", 2) for call in ("call-3", "call-4") for line in lines(recording("evapi"), call)]
    assert [words for _, _, words in story if words[:1] == "4"] == [
        "402 Payment Required",
        "403 RALS_ERROR:ACCOUNT_NOT_FOUND",
    ]
    assert all("bob" not in ends for ends in story)


def test_questions_that_change_nothing_are_left_out() -> None:
    """GetAccount is; what is set, reserved and settled is there, with its answer; records are there once."""
    story = canon(recording("jsonrpc"))
    assert not story["message"].str.startswith("APIerSv2.Get").any()
    assert (
        story["message"].tolist()[-12:-2]
        == [
            "CDRsV1.ProcessExternalCDR",
            "OK",
        ]
        * 5
    )
    session = story["message"].tolist()[18:26]
    assert session[::2] == [f"SessionSv1.{word}" for word in ("AuthorizeEvent", "InitiateSession")] + [
        "SessionSv1.UpdateSession",
        "SessionSv1.TerminateSession",
    ]
    assert session[1::2] == ["MaxUsage 900 s", "MaxUsage 60 s", "MaxUsage 60 s", "OK"]


def test_credit_control_in_words() -> None:
    """CCR-I, CCR-U, CCR-T: what was used, what is asked, what is granted, and who pays."""
    sentences = text_ladder(recording("credit_control"), arrows=False).splitlines()
    assert sentences[2:8] == [
        "3. 127.0.0.1 -> cgrates: CCR-U (64210001 used 60 s, asks 60 s)",
        "4. cgrates -> 127.0.0.1: CCA-U DIAMETER_SUCCESS (grants 30 s)",
        "5. 127.0.0.1 -> cgrates: CCR-U (64210001 used 30 s, asks 60 s)",
        "6. cgrates -> 127.0.0.1: CCA-U DIAMETER_CREDIT_LIMIT_REACHED",
        "7. 127.0.0.1 -> cgrates: CCR-T (64210001 used 0 s)",
        "8. cgrates -> 127.0.0.1: CCA-T DIAMETER_SUCCESS",
    ]


def test_pairs_say_what_was_asked_and_how_it_ended() -> None:
    """Each authorization and each call has its answer; events that nobody answers have none."""
    pairs = rpc_pairs(recording("evapi").table)
    answered = pairs[pairs["final_frame"].notna()]
    assert set(answered["method"]) == {"CGR_AUTH_REQUEST"}
    assert answered["error"].tolist()[-1] == "RALS_ERROR:ACCOUNT_NOT_FOUND"
    assert answered["error"].isna().sum() == 3
    pairs = rpc_pairs(recording("jsonrpc").table)
    assert len(pairs) == 23
    assert pairs["final_frame"].notna().all()
    assert pairs["duration_s"].between(0.0001, 1).all()
    assert pairs["number"].tolist() == [str(number) for number in range(1, 24)]


def test_an_open_question_is_named() -> None:
    """A capture that ends before the answer says so."""
    frames = list(pcap.read_frames((RPC / "evapi.pcap").read_bytes()))
    assert settled(recording("evapi")) == []
    assert "CGR_AUTH_REQUEST prepaid -> cgrates" in settled(read_capture(pcap.pcapng(frames[:7]), NAMES))
    frames = list(pcap.read_frames((RPC / "jsonrpc.pcap").read_bytes()))
    assert settled(recording("jsonrpc")) == []
    assert settled(read_capture(pcap.pcapng(frames[:101]), NAMES)) == ["SessionSv1.AuthorizeEvent 127.0.0.1 -> cgrates"]


def test_messages_are_explained_member_by_member() -> None:
    """Name, value and meaning; an outline shows only what is the same in every run."""
    messages = recording("evapi")
    asked = next(raw for raw in messages.raw if b"CGR_AUTH_REQUEST" in raw)
    explained = explain(asked, "evapi")
    assert explained.title == "evapi CGR_AUTH_REQUEST"
    assert explained.names[:3] == ("event", "tr_index", "tr_label")
    assert "Account = alice  # who pays" in repr(explained)
    assert "tr_index =" not in repr(explained)
    answer = explain(recording("jsonrpc").raw[21], "jsonrpc")
    assert answer.title == "JSON-RPC answer MaxUsage 60 s"
    assert "MaxUsage: 60000000000" in str(answer)
    assert "HTTP/1.1 200 OK" in answer._repr_html_()
    assert explain(b'5:{"a":,', "evapi").title == "Damaged evapi message"
