"""How the real core behaves: P-, I- and S-CSCF with our configs and our HSS, on every engine.

Normal behaviour is shown with labkit's own phones; what a phone must not do, with a PlainPhone. Each test leaves
nobody registered.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import pytest

from labkit.errors import CallFailed
from labkit.lab.lab import RunningLab
from labkit.peers.hss.subscribers import Subscriber, load_subscribers
from labkit.peers.ue import UE
from labkit.wire.sip import SipMessage
from tests.live.plain_phone import SDP, PlainPhone

SUBSCRIBERS: Final = {subscriber.name: subscriber for subscriber in load_subscribers()}
PLACES: Final = {
    name: index for index, name in enumerate(("alice", "bob", "carol", "dave", "erin", "frank", "mallory", "load160"))
}
SERVER_PLACE: Final = 20
FORGOTTEN_S: Final = 2.5
"""After this the S-CSCF has forgotten the profile of somebody who has left."""
NODES: Final = ("pcscf", "icscf", "scscf")


def make_phone(lab: RunningLab, name: str, **options: Any) -> UE:
    """Make the phone of a subscriber at a place of his own."""
    address, port = lab.phone_address(PLACES[name])
    pcscf = lab.sip_address("pcscf")
    return UE(SUBSCRIBERS[name], address=address, port=port, pcscf=pcscf, realm=lab.realm, **options)


@asynccontextmanager
async def registered(lab: RunningLab, *names: str, **options: Any) -> AsyncIterator[list[UE]]:
    """Phones that are registered, and are not any more at the end."""
    phones = [make_phone(lab, name, **options) for name in names]
    try:
        for phone in phones:
            await phone.start()
            await phone.register()
        yield phones
    finally:
        for phone in phones:
            if phone.registered:
                with_nothing_left = asyncio.wait_for(phone.deregister(), 20)
                try:
                    await with_nothing_left
                except CallFailed:
                    lab.hss.reset_subscriber(phone.subscriber.impi)
            await phone.stop()


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Play a scene with phones."""

    async def play() -> None:
        await scene()

    asyncio.run(play())


@contextmanager
def plain(lab: RunningLab, name: str, *, register: bool = False, transport: str = "udp") -> Iterator[PlainPhone]:
    """A plain phone of a subscriber, registered if wanted and then not any more at the end."""
    with PlainPhone(SUBSCRIBERS[name], lab.phone_address(PLACES[name]), lab.sip_address("pcscf"), transport) as phone:
        if register:
            assert phone.register().status == 200
        try:
            yield phone
        finally:
            if register:
                phone.register(0)


def state_of(lab: RunningLab, name: str) -> str:
    """What the HSS says of a subscriber."""
    return lab.hss.subscriber(name).state


class NewLines:
    """What a node's log has said since this was made. Docker hands lines on a little later than they are written."""

    def __init__(self, lab: RunningLab, node: str) -> None:
        self._lab, self._node = lab, node
        self._before = len(list(lab.logs(node)))

    def about(self, pattern: str, count: int) -> list[str]:
        """The first group of each line that fits, once there are `count` of them or a while has passed."""
        deadline = time.monotonic() + 5
        while True:
            lines = list(self._lab.logs(self._node))[self._before :]
            found = [match[1] for line in lines if (match := re.search(pattern, line))]
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


def refusal(failure: pytest.ExceptionInfo[CallFailed]) -> int:
    """The status code of a refused request."""
    return failure.value.status


# ---- a clean start --------------------------------------------------------------------------------------------------
def test_start_registration_and_call_log_no_error(lab: RunningLab) -> None:
    """From the start to the end of a first call, no CSCF logs an error or a warning."""

    async def scene() -> None:
        async with registered(lab, "alice", "bob", auto_answer=True) as (alice, _):
            call = await alice.call("bob")
            await call.bye()

    run(scene)
    for node in NODES:
        said = lab.logs_of_this_start(node)  # a start that was tried in vain may have said anything
        bad = [line for line in said if re.search(r"ERROR|CRITICAL|ALERT|WARNING|BUG", line)]
        assert bad == [], node


def test_log_tells_the_decisions(lab: RunningLab) -> None:
    """A learner reads in the logs what each node decided: one line each, with the node's name in front."""
    logs = {node: NewLines(lab, node) for node in NODES}
    with plain(lab, "carol", register=True):
        pass
    assert len(logs["icscf"].about("icscf: (REGISTER .*UAR)", 4)) == 4
    assert logs["scscf"].about("SAR for (.*)", 2) == ["registration", "de-registration"]
    assert len(logs["pcscf"].about("pcscf: (.*is registered for 600 s as)", 1)) == 1


# ---- registration ---------------------------------------------------------------------------------------------------
def test_every_register_asks_the_hss(lab: RunningLab) -> None:
    """Two REGISTERs make two UARs: first registration, then subsequent, because MAR has stored the S-CSCF."""
    said = NewLines(lab, "hss")
    with plain(lab, "alice", register=True):
        exchanges = said.about(r" (UAR|MAR|SAR) sip:001010000000001@", 4)
        results = said.about(r" UAR sip:001010000000001@.* -> (\w+)", 2)
        assert state_of(lab, "alice") == "registered"
        assert lab.hss.subscriber("alice").scscf_name == f"sip:scscf.{lab.realm}:6060"
    assert exchanges == ["UAR", "MAR", "UAR", "SAR"]
    assert results == ["DIAMETER_FIRST_REGISTRATION", "DIAMETER_SUBSEQUENT_REGISTRATION"]
    assert state_of(lab, "alice") == "not_registered"


def test_assignment_types_do_not_depend_on_timers(lab: RunningLab) -> None:
    """Register, renew, leave and come back at once: each SAR says what happened, whatever a timer has cleaned."""
    said = NewLines(lab, "scscf")
    with plain(lab, "alice") as phone:
        for expires in (600, 600, 0, 600, 0, 600, 600, 0):
            assert phone.register(expires).status == 200
    assert said.about("SAR for (.*)", 8) == [
        "registration", "re-registration", "de-registration",
        "registration", "de-registration",
        "registration", "re-registration", "de-registration",
    ]  # fmt: skip


def test_registered_phone_learns_its_identities_and_routes(lab: RunningLab) -> None:
    """The 200 carries P-Associated-URI, Service-Route, Path and the time that was asked for."""
    with plain(lab, "alice", register=True) as phone:
        response = phone.register(900)
        assert response.all("Service-Route") == (f"<sip:orig@scscf.{lab.realm}:6060;lr>",)
        assert response.all("Path") == (f"<sip:term@pcscf.{lab.realm}:5060;lr>",)
        assert {f"<{uri}>" for uri in SUBSCRIBERS["alice"].impus} == set(response.all("P-Associated-URI"))
        assert "expires=900" in (response.header("Contact") or "")


def test_keys_stay_in_the_core(lab: RunningLab) -> None:
    """The P-CSCF takes CK and IK out of the challenge."""
    with plain(lab, "alice", register=True) as phone:
        assert phone.challenge is not None
        challenge = phone.challenge.header("WWW-Authenticate") or ""
    assert "AKAv1-MD5" in challenge
    assert re.search(r"\b(ck|ik)=", challenge) is None


def test_sip_digest_user_registers_at_the_same_scscf(lab: RunningLab) -> None:
    """The HSS chooses the scheme, so one S-CSCF serves SIM cards and passwords."""
    with plain(lab, "dave", register=True) as phone:
        assert phone.challenge is not None
        assert "algorithm=MD5" in (phone.challenge.header("WWW-Authenticate") or "")
        assert phone.register().status == 200
        assert state_of(lab, "dave") == "registered"
    assert state_of(lab, "dave") == "not_registered"


def test_sim_out_of_step_resynchronises(lab: RunningLab) -> None:
    """A SIM whose sequence number is ahead sends AUTS, and the next challenge is good."""
    with plain(lab, "carol") as phone:
        ahead = lab.hss.subscriber("carol").sqn + 0x100000
        assert phone.register(sqn_ms=ahead).status == 200
        assert lab.hss.subscriber("carol").sqn > ahead
        assert phone.register(0).status == 200


@pytest.mark.parametrize("name", ["alice", "dave"])
def test_wrong_secret_is_refused(lab: RunningLab, name: str) -> None:
    """A wrong answer to the challenge gets 403, and nobody is registered."""
    with plain(lab, name) as phone:
        assert phone.register(wrong=True).status == 403
    assert state_of(lab, name) == "not_registered"


@pytest.mark.parametrize(("name", "reason"), [("mallory", "Unknown"), ("erin", "Roaming")])
def test_hss_refuses(lab: RunningLab, name: str, reason: str) -> None:
    """Unknown to the HSS, or not allowed to roam here: 403 that says why."""
    with plain(lab, name) as phone:
        response = phone.register()
        assert (response.status, reason in response.reason) == (403, True)


def test_identities_that_do_not_belong_together_are_refused(lab: RunningLab) -> None:
    """Alice's SIM for Bob's public identity: 403."""
    with plain(lab, "alice") as phone:
        assert phone.register(to_uri=SUBSCRIBERS["bob"].impus[0]).status == 403


def test_tel_uri_cannot_be_registered(lab: RunningLab) -> None:
    """A REGISTER for a tel: URI gets an answer, not silence."""
    with plain(lab, "alice") as phone:
        assert phone.register(to_uri="tel:+15550001").status == 400


def test_two_contacts_both_ring(lab: RunningLab) -> None:
    """Two phones with one identity: both get the call; when one leaves, the other is still registered."""
    second = (SUBSCRIBERS["alice"], lab.phone_address(15), lab.sip_address("pcscf"))
    with (
        plain(lab, "alice", register=True) as first,
        PlainPhone(*second) as other,
        plain(lab, "bob", register=True) as bob,
    ):
        assert other.register().status == 200
        bob.send(bob.request("MESSAGE", f"sip:alice@{lab.realm}", body=b"both"))
        for phone in (first, other):
            phone.respond(phone.wait_request("MESSAGE"), 200)
        assert other.register(0).status == 200
        assert state_of(lab, "alice") == "registered"


def test_expired_registration_is_over_at_once(lab: RunningLab) -> None:
    """When a registration has run out, calls no longer go to the phone."""
    with plain(lab, "bob", register=True) as bob, plain(lab, "carol") as carol:
        granted = carol.register(10).header("Contact") or ""
        assert "expires=10" in granted
        time.sleep(11)
        assert bob.ask(bob.request("MESSAGE", f"sip:carol@{lab.realm}", body=b"late")).status == 480
        assert carol.register(600).status == 200
        assert carol.register(0).status == 200


# ---- calls ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("caller", "callee"), [("udp", "udp"), ("udp", "tcp"), ("tcp", "udp"), ("tcp", "tcp")])
def test_call_hold_resume_bye(lab: RunningLab, caller: str, callee: str) -> None:
    """A call over UDP and TCP: both sides hold and resume, either side hangs up."""

    async def scene() -> None:
        async with (
            registered(lab, "alice", transport=caller) as (alice,),
            registered(lab, "bob", transport=callee) as (bob,),
        ):
            for hangs_up in (alice, bob):
                ringing = asyncio.ensure_future(bob.wait_call())
                outgoing = asyncio.ensure_future(alice.call("bob"))
                there = await ringing
                await there.answer()
                here = await outgoing
                for side in (here, there):
                    await side.hold()
                    await side.resume()
                assert here.media_direction == "sendrecv"
                await (here if hangs_up is alice else there).bye()
                await asyncio.gather(here.wait_state("ended"), there.wait_state("ended"))

    run(scene)


@pytest.mark.parametrize("target", ["tel:+15550002", "sip:+15550002", "sip:bob", "sip:001010000000002"])
def test_every_identity_can_be_called(lab: RunningLab, target: str) -> None:
    """Number, name and IMSI identity lead to the same phone."""

    async def scene() -> None:
        async with registered(lab, "alice", "bob", auto_answer=True) as (alice, _):
            call = await alice.call(target if ":+" in target and target[0] == "t" else f"{target}@{lab.realm}")
            await call.bye()

    run(scene)


def test_cancel_reaches_the_called_phone(lab: RunningLab) -> None:
    """The caller gives up while it rings: the called phone stops, the caller gets 487."""

    async def scene() -> None:
        async with registered(lab, "alice", "bob") as (alice, bob):
            call = await alice.call("bob", wait="ringing")
            there = await bob.wait_call()
            response = await call.cancel()
            assert response.status == 487
            await there.wait_state("ended")

    run(scene)


def test_busy_is_passed_on(lab: RunningLab) -> None:
    """The called phone says 486, the caller hears 486."""

    async def scene() -> None:
        async with registered(lab, "alice", "bob") as (alice, bob):
            call = await alice.call("bob", wait="ringing")
            await (await bob.wait_call()).reject(486)
            with pytest.raises(CallFailed) as failure:
                await call.wait_state("answered")
            assert refusal(failure) == 486

    run(scene)


def test_every_method_passes_within_a_dialog(lab: RunningLab) -> None:
    """PRACK, UPDATE, INFO, re-INVITE and BYE follow the recorded route through both CSCFs of both sides."""
    with plain(lab, "alice", register=True) as alice, plain(lab, "bob", register=True) as bob:
        invite = alice.request("INVITE", f"sip:bob@{lab.realm}", [("Supported", "100rel")], SDP)
        alice.send(invite)
        arrived = bob.wait_request("INVITE")
        assert arrived.all("Record-Route") != ()
        bob.respond(arrived, 183)
        early = alice.wait(lambda message: message.status == 183)
        for method, headers in (("PRACK", [("RAck", "1 1 INVITE")]), ("UPDATE", [])):
            request = alice.in_dialog(method, early, headers=headers)
            alice.send(request)
            bob.respond(bob.wait_request(method), 200)
            assert alice.wait_final(request).status == 200
        bob.respond(arrived, 200, SDP)
        answer = alice.wait_final(invite)
        alice.send(alice.in_dialog("ACK", answer, cseq=invite.cseq))
        bob.wait_request("ACK")
        for method in ("INFO", "INVITE", "BYE"):
            request = alice.in_dialog(method, answer)
            alice.send(request)
            bob.respond(bob.wait_request(method), 200)
            assert alice.wait_final(request).status == 200
            if method == "INVITE":
                alice.send(alice.in_dialog("ACK", answer, cseq=request.cseq))
                bob.wait_request("ACK")


def test_message_passes_both_ways(lab: RunningLab) -> None:
    """A text arrives as it was sent."""

    async def scene() -> None:
        async with registered(lab, "alice", "bob") as (alice, bob):
            for sender, receiver, text in ((alice, bob, "hello"), (bob, alice, "häßlich")):
                assert (await sender.message(receiver, text)).status == 200
                assert (await receiver.wait_message()).body.decode() == text

    run(scene)


@pytest.mark.parametrize(
    ("target", "status"),
    [("sip:carol@{realm}", 480), ("sip:nobody@{realm}", 604), ("tel:+19995550000", 604), ("sip:x@example.org", 404)],
)
def test_called_party_away_or_unknown(lab: RunningLab, target: str, status: int) -> None:
    """Provisioned but away 480, unknown to the HSS 604, in another network 404; for calls and messages."""
    uri = target.replace("{realm}", lab.realm)
    with plain(lab, "alice", register=True) as alice:
        assert alice.ask(alice.request("INVITE", uri, body=SDP)).status == status
        assert alice.ask(alice.request("MESSAGE", uri, body=b"?")).status == status


# ---- the edge -------------------------------------------------------------------------------------------------------
def test_forged_headers_do_not_pass(lab: RunningLab) -> None:
    """A phone cannot say who it is, where its request goes, or that it comes from an application server."""
    forged = [
        ("P-Asserted-Identity", "<sip:president@example.org>"),
        ("P-Served-User", "<sip:president@example.org>"),
        ("P-Preferred-Identity", f"<sip:carol@{lab.realm}>"),
        ("P-Charging-Vector", "icid-value=1"),
        ("X-Isc-Skip", "1"),
        ("Route", f"<sip:pcscf.{lab.realm}:5060;lr>"),
        ("Route", "<sip:192.0.2.1:5060;lr>"),
    ]
    with plain(lab, "alice", register=True) as alice, plain(lab, "bob", register=True) as bob:
        alice.send(alice.request("MESSAGE", f"sip:bob@{lab.realm}", forged, b"?"))
        arrived = bob.wait_request("MESSAGE")
        bob.respond(arrived, 200)
    assert arrived.all("P-Asserted-Identity") == (f"<{SUBSCRIBERS['alice'].impus[0]}>",)
    assert arrived.all("P-Called-Party-ID") == (f"<sip:bob@{lab.realm}>",)
    for name in ("P-Served-User", "P-Preferred-Identity", "P-Charging-Vector", "X-Isc-Skip", "Route"):
        assert arrived.header(name) is None


def test_preferred_identity_of_its_own_is_taken(lab: RunningLab) -> None:
    """A phone may choose among its own identities, and the called one hears which was chosen."""
    with plain(lab, "alice", register=True) as alice, plain(lab, "bob", register=True) as bob:
        wish = [("P-Preferred-Identity", f"<sip:alice@{lab.realm}>")]
        alice.send(alice.request("MESSAGE", f"sip:bob@{lab.realm}", wish, b"?"))
        arrived = bob.wait_request("MESSAGE")
        bob.respond(arrived, 200)
    assert arrived.all("P-Asserted-Identity") == (f"<sip:alice@{lab.realm}>",)


def test_unregistered_phone_may_not_call(lab: RunningLab) -> None:
    """Without a registration: 403 at the edge."""
    with plain(lab, "alice") as alice:
        assert alice.ask(alice.request("INVITE", f"sip:bob@{lab.realm}", body=SDP)).status == 403


def test_nobody_gets_in_by_a_path_of_his_own(lab: RunningLab) -> None:
    """A phone that writes the P-CSCF's inner Path into its Route does not reach another phone that way."""
    with plain(lab, "alice") as alice, plain(lab, "bob", register=True) as bob:
        path = [("Route", f"<sip:term@pcscf.{lab.realm}:5060;lr>")]
        assert alice.ask(alice.request("MESSAGE", bob.contact[1:-1], path, b"?")).status == 403


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_nodes_answer_options_themselves(lab: RunningLab, transport: str) -> None:
    """OPTIONS to a node's own address is answered by the node: that is how readiness is seen."""
    for node in NODES:
        address = lab.sip_address(node)
        with PlainPhone(SUBSCRIBERS["carol"], lab.phone_address(16), address, transport) as phone:
            assert phone.ask(phone.request("OPTIONS", f"sip:{address[0]}:{address[1]}")).status == 200


def test_too_many_hops(lab: RunningLab) -> None:
    """Max-Forwards 0 is 483."""
    with plain(lab, "alice", register=True) as alice:
        request = alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?")
        headers = [(name, "0" if name == "Max-Forwards" else value) for name, value in request.headers]
        spent = SipMessage("MESSAGE", request.request_uri, 0, "", tuple(headers), request.body)
        assert alice.ask(spent).status == 483


# ---- thrown out -----------------------------------------------------------------------------------------------------
def test_registration_event_and_network_initiated_deregistration(lab: RunningLab) -> None:
    """RTR: the subscribed phone is told, can neither call nor be called, and may register anew."""
    with plain(lab, "alice", register=True) as alice, plain(lab, "bob", register=True) as bob:
        identity = f"sip:alice@{lab.realm}"
        headers = [("Event", "reg"), ("Expires", "600"), ("P-Preferred-Identity", f"<{identity}>")]
        subscribe = alice.request("SUBSCRIBE", identity, headers)
        alice.send(subscribe)
        accepted = alice.wait_final(subscribe)
        assert accepted.status == 200
        wait_told(alice, b'state="active"')
        refreshed = alice.ask(alice.in_dialog("SUBSCRIBE", accepted, headers=headers[:2]))
        assert refreshed.status == 200

        outcome = lab.hss.deregister("alice")
        assert (outcome.answered, outcome.result) == (True, "DIAMETER_SUCCESS")
        wait_told(alice, b'state="terminated"')
        assert state_of(lab, "alice") == "not_registered"
        assert alice.ask(alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?")).status == 403
        assert bob.ask(bob.request("MESSAGE", identity, body=b"?")).status == 480
        said = NewLines(lab, "scscf")
        assert alice.register().status == 200
        assert said.about("SAR for (.*)", 1) == ["registration"]
        end = [("Event", "reg"), ("Expires", "0")]
        assert alice.ask(alice.in_dialog("SUBSCRIBE", accepted, headers=end)).status == 200


def wait_told(phone: PlainPhone, what: bytes) -> None:
    """Answer NOTIFYs until one says it; version 6.0 sends one for a refreshed subscription too, 5.6 does not."""
    while True:
        told = phone.wait_request("NOTIFY")
        phone.respond(told, 200)
        if what in told.body:
            return


def test_watcher_that_does_not_answer_does_no_harm(lab: RunningLab) -> None:
    """A phone subscribes to its registration state and goes: the S-CSCF lives on (version 6.0 alone would not)."""
    with plain(lab, "load160", register=True) as watcher:
        identity = f"sip:load160@{lab.realm}"
        headers = [("Event", "reg"), ("Expires", "600"), ("P-Preferred-Identity", f"<{identity}>")]
        assert watcher.ask(watcher.request("SUBSCRIBE", identity, headers)).status == 200
        time.sleep(9)
        assert watcher.register().status == 200
    states = {node["name"]: node["state"] for node in lab.status()["nodes"]}
    assert states["scscf"] == "running"


def test_stranger_may_not_watch_a_registration(lab: RunningLab) -> None:
    """A subscription to somebody else's registration state is refused."""
    with plain(lab, "alice", register=True) as alice, plain(lab, "bob", register=True):
        subscribe = alice.request("SUBSCRIBE", f"sip:bob@{lab.realm}", [("Event", "reg"), ("Expires", "600")])
        assert alice.ask(subscribe).status == 403


# ---- application servers --------------------------------------------------------------------------------------------
@contextmanager
def served(lab: RunningLab, name: str, *criteria: dict[str, Any]) -> Iterator[PlainPhone]:
    """An application server, and a subscriber whose profile has these criteria; {server} is its URI."""
    address, port = lab.phone_address(SERVER_PLACE)
    server = f"sip:as@{address}:{port}"
    lab.hss.set_profile(
        name,
        [{"priority": 10 * n, "server": server} | criterion for n, criterion in enumerate(criteria, start=1)],
    )
    time.sleep(FORGOTTEN_S)
    try:
        with PlainPhone(SUBSCRIBERS[name], (address, port), lab.sip_address("scscf")) as answering:
            yield answering
    finally:
        lab.hss.set_profile(name, [])


def dead_server(lab: RunningLab) -> str:
    """A place where nobody answers."""
    address, port = lab.phone_address(SERVER_PLACE + 1)
    return f"sip:as@{address}:{port}"


def send_back(server: PlainPhone, request: SipMessage) -> SipMessage:
    """Do what a proxying application server does: take its own Route away, add a Via, send it back (RFC 3261, 16)."""
    routes = request.all("Route")
    kept = [header for header in request.headers if header[0] not in ("Route", "Content-Length")]
    via = ("Via", server._via())
    back = SipMessage.request(
        request.method, request.request_uri, [via, *[("Route", r) for r in routes[1:]], *kept], request.body
    )
    server.send(back)
    return back


def pass_reply(server: PlainPhone, back: SipMessage) -> None:
    """Bring the response to a request that was sent back to the S-CSCF."""
    response = server.wait(
        lambda message: not message.is_request and message.branch == back.branch and message.status >= 200
    )
    headers = [header for header in response.headers if header[0] != "Content-Length"]
    headers.remove(next(header for header in headers if header[0] == "Via"))
    server.send(SipMessage.response(response.status, headers, response.body))


MESSAGE_OF_CALLER: Final = {"triggers": [{"group": 0, "method": "MESSAGE"}, {"group": 1, "session_case": 0}]}
MESSAGE_TO_CALLED: Final = {"triggers": [{"group": 0, "method": "MESSAGE"}, {"group": 1, "session_case": 1}]}


@pytest.mark.parametrize(("owner", "criterion"), [("alice", MESSAGE_OF_CALLER), ("bob", MESSAGE_TO_CALLED)])
def test_filter_criteria_bring_a_server_in(lab: RunningLab, owner: str, criterion: dict[str, Any]) -> None:
    """Caller's or called party's iFC: the request visits the server, says for whom, and goes on to the phone."""
    with (
        served(lab, owner, criterion) as server,
        plain(lab, "alice", register=True) as alice,
        plain(lab, "bob", register=True) as bob,
    ):
        sent = alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"by way of a server")
        alice.send(sent)
        visited = server.wait_request("MESSAGE")
        assert "sescase=" in (visited.header("P-Served-User") or "")
        back = send_back(server, visited)
        arrived = bob.wait_request("MESSAGE")
        assert arrived.header("P-Served-User") is None
        bob.respond(arrived, 200)
        pass_reply(server, back)
        assert alice.wait_final(sent).status == 200


def test_third_party_register(lab: RunningLab) -> None:
    """An iFC on REGISTER: the server is told of registration and de-registration (TS 24.229 section 5.4.1.7)."""
    with served(lab, "carol", {"triggers": [{"method": "REGISTER"}]}) as server, plain(lab, "carol") as carol:
        for expires in (600, 0):
            assert carol.register(expires).status == 200
            told = server.wait_request("REGISTER")
            server.respond(told, 200)
            assert (told.to_user or "") in {"001010000000003", "carol", "+15550003"}
            assert (told.header("Expires") == "0") is (expires == 0)


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_dead_server_with_session_continued_is_skipped(lab: RunningLab, owner: str) -> None:
    """DefaultHandling 0: the first server is dead, the second is asked, the message arrives."""
    criterion = MESSAGE_OF_CALLER if owner == "alice" else MESSAGE_TO_CALLED
    dead = {**criterion, "server": dead_server(lab), "default_handling": 0}
    with (
        served(lab, owner, dead, criterion) as server,
        plain(lab, "alice", register=True) as alice,
        plain(lab, "bob", register=True) as bob,
    ):
        sent = alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?")
        alice.send(sent)
        back = send_back(server, server.wait_request("MESSAGE"))
        bob.respond(bob.wait_request("MESSAGE"), 200)
        pass_reply(server, back)
        assert alice.wait_final(sent).status == 200


def test_dead_server_with_session_terminated_ends_the_session(lab: RunningLab) -> None:
    """DefaultHandling 1: the caller gets the failure."""
    dead = {**MESSAGE_OF_CALLER, "server": dead_server(lab), "default_handling": 1}
    with served(lab, "alice", dead), plain(lab, "alice", register=True) as alice, plain(lab, "bob", register=True):
        response = alice.ask(alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?"))
        assert response.status == 408


def test_call_goes_on_without_a_server_that_has_no_address(lab: RunningLab) -> None:
    """A server whose name means nothing here: the call is set up all the same, and its dialog works."""
    nowhere = {
        "server": "sip:nowhere.{realm}:5070",
        "triggers": [{"group": 0, "method": "INVITE"}, {"group": 1, "session_case": 0}],
    }

    async def scene() -> None:
        async with registered(lab, "alice", "bob", auto_answer=True) as (alice, _):
            call = await alice.call("bob")
            await call.hold()
            await call.bye()

    with served(lab, "alice", nowhere):
        run(scene)


MESSAGE_TO_ABSENT: Final = {"triggers": [{"group": 0, "method": "MESSAGE"}, {"group": 1, "session_case": 2}]}


def test_unregistered_service_that_sends_the_request_back(lab: RunningLab) -> None:
    """A proxying server of a user who is away: it sees the request once, and then there is nobody: 480."""
    with served(lab, "carol", MESSAGE_TO_ABSENT) as server, plain(lab, "alice", register=True) as alice:
        said = NewLines(lab, "scscf")
        sent = alice.request("MESSAGE", f"sip:carol@{lab.realm}", body=b"anybody?")
        alice.send(sent)
        visited = server.wait_request("MESSAGE")
        assert "regstate=unreg" in (visited.header("P-Served-User") or "")
        pass_reply(server, send_back(server, visited))
        assert alice.wait_final(sent).status == 480
        assert len(said.about("(to the application server)", 1)) == 1
    lab.hss.reset_subscriber("carol")


def test_dead_server_of_somebody_who_is_away(lab: RunningLab) -> None:
    """Its DefaultHandling 0 says to go on, and there is nobody to go on to: 480, after one attempt."""
    dead = {**MESSAGE_TO_ABSENT, "server": dead_server(lab), "default_handling": 0}
    with served(lab, "carol", dead), plain(lab, "alice", register=True) as alice:
        said = NewLines(lab, "scscf")
        response = alice.ask(alice.request("MESSAGE", f"sip:carol@{lab.realm}", body=b"anybody?"))
        assert response.status == 480
        assert len(said.about("(to the application server)", 1)) == 1
    lab.hss.reset_subscriber("carol")


def test_unregistered_service_without_its_server(lab: RunningLab) -> None:
    """A user with a service for the time he is away, whose server does not run: 480, by way of SAR type 3."""
    with plain(lab, "alice", register=True) as alice:
        assert alice.ask(alice.request("INVITE", f"sip:frank@{lab.realm}", body=SDP)).status == 480
    assert state_of(lab, "frank") == "unregistered"
    lab.hss.reset_subscriber("frank")


# ---- things that break ----------------------------------------------------------------------------------------------
def test_hss_down_is_said_at_once(lab: RunningLab) -> None:
    """With the HSS stopped, REGISTER and calls get 504 from the I-CSCF; with it back, all is well."""
    with plain(lab, "alice", register=True) as alice, plain(lab, "carol") as carol:
        with lab.fault("hss-down"):
            answers = [
                carol.register(),
                alice.ask(alice.request("INVITE", f"sip:bob@{lab.realm}", body=SDP)),
                alice.ask(alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?")),
            ]
        assert [(one.status, one.reason) for one in answers] == [(504, "Server Time-out - HSS Not Connected")] * 3
        wait_for_hss(lab)
        assert carol.register().status == 200
        assert carol.register(0).status == 200


def wait_for_hss(lab: RunningLab) -> None:
    """Wait until both CSCFs have their Diameter connection again: they try every Tc seconds."""
    deadline = time.monotonic() + 30
    while len([peer for peer in lab.hss.peers() if peer.state == "open"]) < 2:
        assert time.monotonic() < deadline, lab.hss.peers()
        time.sleep(0.2)


def test_scscf_down_is_said(lab: RunningLab) -> None:
    """With the S-CSCF gone: 504. After its restart nobody is registered any more, and phones can come back."""
    with (
        plain(lab, "alice", register=True) as alice,
        plain(lab, "bob", register=True) as bob,
        plain(lab, "carol") as carol,
    ):
        lab.kill_node("scscf")
        try:
            assert carol.register().status == 504
        finally:
            lab.restart_node("scscf")
        assert alice.register().status == 200
        assert alice.ask(alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?")).status == 480
        assert bob.register().status == 200
        alice.send(sent := alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?"))
        bob.respond(bob.wait_request("MESSAGE"), 200)
        assert alice.wait_final(sent).status == 200


def test_phone_that_has_gone_is_a_timeout(lab: RunningLab) -> None:
    """A registered phone that was switched off without a word: the caller gets 408, not endless silence."""
    with plain(lab, "alice", register=True) as alice:
        with PlainPhone(SUBSCRIBERS["bob"], lab.phone_address(17), lab.sip_address("pcscf")) as bob:
            assert bob.register().status == 200
        assert alice.ask(alice.request("MESSAGE", f"sip:bob@{lab.realm}", body=b"?")).status == 408
        with PlainPhone(SUBSCRIBERS["bob"], lab.phone_address(17), lab.sip_address("pcscf")) as bob:
            assert bob.register(0).status == 200


def test_coming_and_going_at_once(lab: RunningLab) -> None:
    """Many phones that register, renew and leave at the same time: every answer is 200."""
    names = [name for name in SUBSCRIBERS if name.startswith("load")][:12]

    async def churn(subscriber: Subscriber, place: int) -> None:
        address, port = lab.phone_address(30 + place)
        async with UE(subscriber, address=address, port=port, pcscf=lab.sip_address("pcscf"), realm=lab.realm) as phone:
            for _ in range(5):
                await phone.register()
                await phone.reregister()
                await phone.deregister()

    async def scene() -> None:
        await asyncio.gather(*(churn(SUBSCRIBERS[name], place) for place, name in enumerate(names)))

    run(scene)
    assert {state_of(lab, name) for name in names} == {"not_registered"}
