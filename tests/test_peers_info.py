"""INFO within calls and messages of any kind: what is taken, what is refused, and how."""

from __future__ import annotations

from typing import Any

import pytest
from in_loop import in_loop
from ue_parts import owner, two_phones, uri

from labkit.errors import CallFailed
from labkit.peers.ue import UE

USSD = "g.3gpp.ussd"
MENU = b"<?xml version='1.0'?><ussd-data><ussd-string>1 or 2?</ussd-string></ussd-data>"
XML = "application/vnd.3gpp.ussd+xml"


@in_loop
async def test_info_of_an_agreed_package() -> None:
    """Both sides name the package in Recv-Info; an INFO of it is 200 and reaches the other side whole (RFC 6086)."""
    plain: dict[str, Any] = {"address": "127.0.0.1", "port": 0, "info_packages": (USSD, "nonsense")}
    async with UE(owner("alice"), **plain) as alice, UE(owner("bob"), auto_answer=True, **plain) as bob:
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        assert ours.invite is not None
        assert ours.answered_with is not None
        assert ours.invite.all("recv-info") == ours.answered_with.all("recv-info") == (USSD, "nonsense")
        for sender, receiver in ((ours, theirs), (theirs, ours)):
            assert (await sender.info(USSD, MENU, XML)).status == 200
            told = await receiver.wait_info()
            assert (told.method, told.body, told.content_type) == ("INFO", MENU, XML)
            assert (told.header("info-package"), told.header("content-disposition")) == (USSD, "Info-Package")
        with pytest.raises(CallFailed, match=r"No INFO came in 0\.01 s"):
            await ours.wait_info(0.01)
        await ours.bye()
        with pytest.raises(CallFailed, match="is ended"):
            await ours.info(USSD, MENU, XML)
        assert (alice.faults, bob.faults) == (0, 0)


@in_loop
async def test_info_that_was_not_agreed_on() -> None:
    """A phone sends no package that the other side did not name; one that comes all the same is 469 (section 4.2.2)."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        with pytest.raises(CallFailed, match=r"takes no INFO of 'g\.3gpp\.ussd'; by its Recv-Info it takes none"):
            await ours.info(USSD, MENU, XML)
        ours._core.info.remote_packages = (USSD,)
        with pytest.raises(CallFailed, match="469 Bad Info Package") as caught:
            await ours.info(USSD, MENU, XML)
        assert b"\r\nRecv-Info:" in caught.value.raw
        assert ours.state == "answered"


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b"Signal=1", 415)])
@in_loop
async def test_info_of_the_old_kind(body: bytes, status: int) -> None:
    """INFO without a package is taken when it says nothing, else its body is of a type that nobody knows here."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        _, raw, branch, where = ours._core.request("INFO", body, (), "application/dtmf-relay")
        assert (await alice._agent.request(raw, branch, "INFO", where)).status == status


@in_loop
async def test_messages_of_any_kind() -> None:
    """A phone takes the media types it was made for, says so in OPTIONS and in its 415, and sends bytes of any type."""
    sms = "application/vnd.3gpp.sms"
    async with two_phones(message_types=(sms, "text/plain")) as (alice, bob):
        rp_data = bytes.fromhex("000100079133") + bytes(range(256))
        sent = await alice.message(uri(bob), rp_data, sms, headers=("Request-Disposition: no-fork",))
        assert sent.status == 200
        got = await bob.wait_message()
        assert (got.body, got.content_type, got.header("request-disposition")) == (rp_data, sms, "no-fork")
        assert (await alice.message(uri(bob), "hello")).status == 200
        assert (await alice.options(uri(bob))).all("accept") == ("application/sdp", sms, "text/plain")
        with pytest.raises(CallFailed, match="415") as caught:
            await bob.message(uri(alice), rp_data, sms)
        assert b"\r\nAccept: text/plain\r\n" in caught.value.raw
