"""USSD dialogues between a phone and a gateway that meet directly: what is said, how it ends, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from in_loop import in_loop
from sip_bytes import crlf
from ue_parts import QUICK, REALM, owner, peer, until, uri

from labkit.errors import CallFailed, LessonError
from labkit.peers.transaction import Timers
from labkit.peers.ue import UE
from labkit.peers.ussd_gateway import UssdGateway, UssdRecord
from labkit.peers.ussd_menu import DEMO_MENU, read_menu
from labkit.peers.ussd_mistakes import MISTAKES
from labkit.wire.multipart import Part, parts_of
from labkit.wire.ussd import CONTENT_TYPE, UssdData, parse_ussd


@asynccontextmanager
async def phone_and_gateway(timers: Timers | None = None, **options: Any) -> AsyncIterator[tuple[UE, UssdGateway]]:
    """A phone whose way out is the gateway; nothing may go wrong unseen in either."""
    plain: dict[str, Any] = {"address": "127.0.0.1", "port": 0, "timers": timers}
    async with (
        UssdGateway("ussd", realm=REALM, **plain, **options) as gateway,
        UE(owner("alice"), pcscf=("127.0.0.1", gateway._agent.port), realm=REALM, **plain) as phone,
    ):
        yield phone, gateway
        assert (phone.faults, gateway.faults) == (0, 0)


@in_loop
async def test_a_menu_of_three_levels() -> None:
    """Each answer goes one level down; the last text comes in the BYE and ends the call."""
    async with phone_and_gateway() as (alice, gateway):
        session = await alice.ussd("*100#")
        assert (session.text, session.state, session.language) == ("1 Balance\n2 Bundles", "asked", "en")
        assert await session.reply("2") == "1 Day, 1 GB\n2 Month, 20 GB"
        assert await session.reply(" 1 ") == "1 GB for 2 EUR. 1 Buy, 2 Not now"
        assert await session.reply("1") == "Yours until tomorrow."
        assert await session.wait_end() == "hung up by the other side"
        assert session.state == "ended"
        assert len(session.texts) == 4
        record = await gateway.wait_ended()
        assert record == gateway.dialogues[0]
        assert (record.code, record.language, record.ended) == ("*100#", "en", "the last text is in the BYE")
        assert [text for who, text in record.said if who == "phone"] == ["*100#", "2", " 1 ", "1"]
        with pytest.raises(CallFailed, match="is ended"):
            await session.reply("1")


@in_loop
async def test_what_an_invite_and_its_answer_say() -> None:
    """The INVITE has what annex A.1 shows; the 200 has Contact and Recv-Info; neither side wants any sound."""
    async with phone_and_gateway(menus={"*100#": "Hello"}) as (alice, _):
        session = await alice.ussd("*100#", "en")
        invite, answer = session.call.invite, session.call.answered_with
        assert invite is not None
        assert answer is not None
        assert invite.request_uri == f"sip:*100%23;phone-context={REALM}@{REALM};user=dialstring"
        assert invite.all("recv-info") == answer.all("recv-info") == ("g.3gpp.ussd",)
        assert invite.all("accept") == ("application/sdp", "application/3gpp-ims+xml", CONTENT_TYPE)
        sdp, ussd = parts_of(invite)
        assert b"\r\nm=audio 0 RTP/AVP 0\r\n" in sdp.body
        assert parse_ussd(ussd.body) == UssdData("*100#", "en")
        assert ussd.disposition == "render;handling=optional"
        assert b"\r\nm=audio 0 RTP/AVP 0\r\n" in answer.body
        assert answer.to_tag
        assert answer.header("contact")


@in_loop
async def test_an_answer_at_once_is_in_the_bye() -> None:
    """Where nothing is asked there is no INFO at all: the text is in the BYE."""
    async with phone_and_gateway(menus={"*100#": "You have 12.50 EUR.", "#123#": "Other"}) as (alice, gateway):
        session = await alice.ussd("*100#")
        assert session.texts == ["You have 12.50 EUR."]
        assert session.state == "ended"
        assert (await alice.ussd("#123#")).text == "Other"
        assert [record.code for record in gateway.dialogues] == ["*100#", "#123#"]


@pytest.mark.parametrize(
    ("language", "text"), [("ru", "У вас 12,50 евро."), ("AR", "رصيدك 12.50 يورو."), ("en-GB", "You have 12.50 EUR.")]
)
@in_loop
async def test_languages(language: str, text: str) -> None:
    """The language of the phone's first text picks the menu's; the answer says which one it is in."""
    async with phone_and_gateway() as (alice, _):
        session = await alice.ussd("*100#", language)
        assert await session.reply("1") == text
        assert session.language == language.lower()


@in_loop
async def test_a_language_that_the_menu_has_not() -> None:
    """It ends with error-code 2, in the BYE."""
    async with phone_and_gateway() as (alice, gateway):
        with pytest.raises(CallFailed, match=r"error-code 2: language/alphabet not supported"):
            await alice.ussd("*100#", "sv")
        record = await gateway.wait_ended()
        assert (record.ended, record.error_code) == ("there is no menu in the language 'sv'", 2)


@in_loop
async def test_an_answer_that_is_no_choice() -> None:
    """The same question comes again."""
    async with phone_and_gateway() as (alice, _):
        session = await alice.ussd("*100#")
        assert await session.reply("7") == session.texts[0]
        assert await session.reply("1") == "You have 12.50 EUR."


@in_loop
async def test_a_user_who_does_not_answer() -> None:
    """The gateway waits as long as it has patience, and ends the dialogue with error-code 1."""
    async with phone_and_gateway(patience_s=0.05) as (alice, gateway):
        session = await alice.ussd("*100#")
        with pytest.raises(CallFailed, match="error-code 1: error - unspecified"):
            await session.wait_text()
        assert await session.wait_end() == "hung up by the other side"
        assert (await gateway.wait_ended()).ended == "the user did not answer in time"


@in_loop
async def test_a_user_who_hangs_up() -> None:
    """The phone's BYE ends it; the gateway says nothing more, and another dialogue may begin."""
    async with phone_and_gateway() as (alice, gateway):
        session = await alice.ussd("*100#")
        with pytest.raises(CallFailed, match="A USSD dialogue is going on already"):
            await alice.ussd("*100#")
        assert (await session.cancel()).status == 200
        assert (await gateway.wait_ended()).ended == "the phone hung up"
        assert (await alice.ussd("*100#")).state == "asked"


@in_loop
async def test_a_phone_that_cannot_dial() -> None:
    """A phone that is off, or whose INVITE nobody answers, says so each time, and is never busy with nothing."""
    async with peer() as nobody:
        phone = UE(owner("alice"), address="127.0.0.1", port=0, pcscf=nobody.address, realm=REALM)
        async with phone:
            for _ in range(2):
                with pytest.raises(CallFailed, match=r"still calling after 0\.05 s"):
                    await phone.ussd("*100#", timeout_s=0.05)
        for _ in range(2):
            with pytest.raises(CallFailed, match="The phone is off"):
                await phone.ussd("*100#")


@in_loop
async def test_what_a_gateway_refuses() -> None:
    """404 for a code that it has not, 415 for an INVITE that brings no USSD text; each leaves the phone free."""
    async with phone_and_gateway() as (alice, gateway):
        with pytest.raises(CallFailed, match="404 No Such USSD Code"):
            await alice.ussd("*999#")
        with pytest.raises(CallFailed, match="415") as caught:
            await alice.ussd("*100#", enclosed=(Part("text/plain", b"*100#"),))
        assert f"\r\nAccept: multipart/mixed, application/sdp, {CONTENT_TYPE}\r\n".encode() in caught.value.raw
        with pytest.raises(CallFailed, match="415"):
            await alice.ussd("*100#", enclosed=())
        with pytest.raises(CallFailed, match="error-code 3: unexpected data value"):
            await alice.ussd("*100#", enclosed=(Part(CONTENT_TYPE, b"<ussd-string>*100#</ussd-string>"),))
        assert "its root is <ussd-string>" in (await gateway.wait_ended()).ended


@in_loop
async def test_infos_that_are_refused() -> None:
    """469 for another package and 200 for XML that is none (with an error code after it), 415 for another body type."""
    async with phone_and_gateway() as (alice, _):
        session = await alice.ussd("*100#")
        with pytest.raises(CallFailed, match="469 Bad Info Package") as caught:
            await session.send("x", package="g.3gpp.mid-call")
        assert b"\r\nRecv-Info: g.3gpp.ussd\r\n" in caught.value.raw
        with pytest.raises(CallFailed, match="415") as caught:
            await session.send("1", "text/plain")
        assert f"\r\nAccept: {CONTENT_TYPE}\r\n".encode() in caught.value.raw
        with pytest.raises(CallFailed, match="415"):
            await session.send("1", "text/plain", package="")
        assert (await session.send("<ussd-data><ussd-string value='1'/></ussd-data>")).status == 200
        with pytest.raises(CallFailed, match="error-code 3"):
            await session.wait_text()


@pytest.mark.parametrize(
    ("mistake", "ended"),
    [
        ("no tags", "the INFO was answered 481 Call/Transaction Does Not Exist"),
        ("from tag", "the INFO was answered 481 Call/Transaction Does Not Exist"),
        ("to tag", "the INFO was answered 481 Call/Transaction Does Not Exist"),
        ("no package", "the INFO was answered 415 Unsupported Media Type"),
        ("package", "the INFO was answered 469 Bad Info Package"),
        ("body type", "the INFO was answered 415 Unsupported Media Type"),
        ("dialect", "the phone says error-code 1: error - unspecified"),
    ],
)
@in_loop
async def test_mistakes_of_a_gateway(mistake: str, ended: str) -> None:
    """Each mistake in an INFO is noticed by the phone, and the phone's user sees no menu but an error."""
    async with phone_and_gateway(mistake=mistake) as (alice, gateway):
        with pytest.raises(CallFailed) as caught:
            await alice.ussd("*100#")
        assert (await gateway.wait_ended()).ended == ended
        why = "has its text in an attribute" if mistake == "dialect" else "error-code 1: error - unspecified"
        assert why in str(caught.value)


@in_loop
async def test_a_cseq_that_is_too_low() -> None:
    """A first INFO of any CSeq is taken; a later one that is lower is 500 (RFC 3261 section 12.2.2)."""
    async with phone_and_gateway(mistake="cseq") as (alice, gateway):
        session = await alice.ussd("*100#")
        with pytest.raises(CallFailed, match="error-code 1"):
            await session.reply("2")
        assert (await gateway.wait_ended()).ended == "the INFO was answered 500 CSeq lower than the last one"


@in_loop
async def test_a_gateway_that_gives_up_on_a_phone() -> None:
    """A phone that is not there is asked for as long as the question may take, and not again afterwards."""
    async with peer() as nobody, UssdGateway("ussd", address="127.0.0.1", port=0, realm=REALM, timers=QUICK) as gateway:
        with pytest.raises(CallFailed, match=r"still calling after 0\.2 s"):
            await gateway.ask("sip:alice@{}:{}".format(*nobody.address), "Pay?", timeout_s=0.2)
        assert {request.method for request in nobody.requests} == {"INVITE"}
        assert gateway.dialogues[0].ended.endswith("not answered.")


@in_loop
async def test_an_info_that_nobody_answers() -> None:
    """The gateway waits for its response only so long; then nothing is sent again, and the dialogue ends by BYE."""
    async with phone_and_gateway(info_limit_s=0.05, timers=QUICK) as (alice, gateway):
        alice._agent._gate = lambda raw, source, link: raw.startswith(b"INFO")
        with pytest.raises(CallFailed, match="error-code 1"):
            await alice.ussd("*100#")
        assert (await gateway.wait_ended()).ended == "no response to the INFO"
        assert not gateway._agent.transactions.clients


@in_loop
async def test_a_question_of_the_network() -> None:
    """UnstructuredSS-Request: the phone answers the INVITE by itself, its user by INFO; the gateway ends it."""
    async with phone_and_gateway() as (alice, gateway):
        waiting = asyncio.create_task(gateway.ask(uri(alice), "Pay 5 EUR? 1 Yes"))
        session = await alice.wait_ussd()
        assert (session.text, session.operation, session.state) == ("Pay 5 EUR? 1 Yes", "request", "asked")
        assert await session.reply("1") == ""
        assert (session.state, session.texts) == ("ended", ["Pay 5 EUR? 1 Yes"])
        assert await waiting == "1"
        assert gateway.dialogues[0].said == (("gateway", "Pay 5 EUR? 1 Yes"), ("phone", "1"))
        assert gateway.dialogues[0].ended == "answered"


@in_loop
async def test_a_notice_of_the_network() -> None:
    """UnstructuredSS-Notify: the phone says by itself that it has shown the text, in an INFO with the same element."""
    async with phone_and_gateway() as (alice, gateway):
        await gateway.notify(uri(alice), "Your bundle ends today.")
        session = await alice.wait_ussd()
        assert (session.texts, session.operation) == (["Your bundle ends today."], "notify")
        assert await session.wait_end() == "hung up by the other side"


@in_loop
async def test_a_phone_that_is_busy() -> None:
    """In the middle of one dialogue the phone answers another one with error-code 4, and the first one goes on."""
    async with phone_and_gateway() as (alice, gateway):
        session = await alice.ussd("*100#")
        with pytest.raises(CallFailed, match="error-code 4: USSD-busy"):
            await gateway.ask(uri(alice), "Pay?")
        assert await session.reply("1") == "You have 12.50 EUR."


NO_SOUND = crlf("""--b
Content-Type: application/sdp

v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 0 RTP/AVP 0

--b
Content-Type: x/y
Content-Disposition: render;handling=HOW

?
--b--
""")
INVITE = """INVITE sip:alice@127.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKHOW;rport
From: <sip:x@127.0.0.1>;tag=HOW
To: <sip:alice@127.0.0.1>
Call-ID: HOW
CSeq: 1 INVITE
Max-Forwards: 70
Contact: <sip:x@127.0.0.1:9>
Content-Type: multipart/mixed;boundary=b

"""


@pytest.mark.parametrize(
    ("how", "body", "status"),
    [("optional", NO_SOUND, 488), ("required", NO_SOUND, 415), ("optional", NO_SOUND[:-9], 400)],
)
@in_loop
async def test_a_body_that_the_phone_does_not_know(how: str, body: bytes, status: int) -> None:
    """An optional part stays unread, and no sound is on offer: 488. A part that is a must is 415, a broken body 400."""
    async with peer() as other, UE(owner("alice"), address="127.0.0.1", port=0) as alice:
        other.source = alice.address
        other.send(crlf(INVITE.replace("HOW", how)) + body.replace(b"HOW", how.encode()))
        await until(lambda: bool(other.responses))
        assert other.responses[0].status == status


def test_menus_that_are_no_menus() -> None:
    """A menu written in another way is refused in words; the one of the project is right."""
    assert read_menu(DEMO_MENU).after("2").after("1").after("1").is_last  # type: ignore[union-attr]
    deep: Any = "end"
    for _ in range(20):
        deep = {"text": "more", "1": deep}
    for wrong in (None, {}, {"text": 5}, {"text": {"en": 5}}, {"1": "a"}, {"text": "a", "1": None}, deep):
        with pytest.raises(LessonError, match="USSD menu"):
            read_menu(wrong)
    with pytest.raises(LessonError, match="makes no mistake 'typo'"):
        UssdGateway("ussd", address="127.0.0.1", port=0, mistake="typo")
    assert "dialect" in MISTAKES
    assert UssdRecord("sip:a@b", "*100#", "en", (), "").error_code is None
