"""The evaluator of filter criteria against a real S-CSCF: every criterion, every request, both versions of Kamailio.

One application server stands behind all criteria; the user part of the URI by which it is addressed says which
criterion brought it in. It sends each request back, so that one request visits all criteria that match, in order.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest

from labkit.lab.lab import RunningLab
from labkit.peers.app_server import AppServer
from labkit.peers.hss.subscribers import load_subscribers
from labkit.session.loop import LabLoop
from labkit.wire.ifc import Criterion, Rules, evaluate, parse_profile
from labkit.wire.sip import SipMessage
from tests.ifc_grid import AGAINST_THE_SPECIFICATION, CRITERIA, REQUESTS
from tests.live.plain_phone import PlainPhone

SUBSCRIBERS = {subscriber.name: subscriber for subscriber in load_subscribers()}
PLACES = {"alice": 30, "bob": 31}
SERVER_PLACE = 32
FORGOTTEN_S = 2.5
"""After this the S-CSCF has forgotten the profile of somebody who has left."""
AT_A_TIME = 14
"""Criteria in one profile: each visit to the server costs two of the request's 70 hops."""


@contextmanager
def server(lab: RunningLab) -> Iterator[tuple[AppServer, LabLoop]]:
    """The application server, in a thread of its own."""
    loop = LabLoop()
    address, port = lab.phone_address(SERVER_PLACE)
    app = AppServer("as", address=address, port=port, mode="proxy", record_route=False)
    loop.run_blocking(app.start())
    try:
        yield app, loop
    finally:
        loop.run_blocking(app.stop())
        loop.stop()


@contextmanager
def phone(lab: RunningLab, name: str) -> Iterator[PlainPhone]:
    """A phone that is registered, and is not any more at the end."""
    with PlainPhone(SUBSCRIBERS[name], lab.phone_address(PLACES[name]), lab.sip_address("pcscf")) as plain:
        assert plain.register().status == 200
        try:
            yield plain
        finally:
            plain.register(0)


@contextmanager
def refusing(plain: PlainPhone) -> Iterator[None]:
    """Let a phone answer 486 to calls and 200 to the rest, in the background."""
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            try:
                request = plain.wait(lambda message: message.is_request and message.method != "ACK", 0.2)
            except AssertionError:
                continue
            plain.respond(request, 486 if request.method == "INVITE" else 200)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def chunks() -> Iterator[list[str]]:
    """The names of the criteria, some at a time."""
    names = iter(CRITERIA)
    while part := list(islice(names, AT_A_TIME)):
        yield part


def provision(lab: RunningLab, app: AppServer, user: str, names: list[str]) -> tuple[Criterion, ...]:
    """Give a subscriber these criteria, and return them as the S-CSCF will read them."""
    state = lab.hss.set_profile(
        user, [{"priority": place, "server": app.uri_for(name)} | CRITERIA[name] for place, name in enumerate(names)]
    )
    time.sleep(FORGOTTEN_S)
    return parse_profile(state.profile.encode()).criteria


def request_named(caller: PlainPhone, name: str, who: str, number: str) -> SipMessage:
    """One of the requests, from a phone to somebody."""
    method, uri, headers, body = REQUESTS[name]
    typed = any(header == "Content-Type" for header, _ in headers)
    request = caller.request(method, uri.format(who=who, number=number, realm=caller.realm), headers, body)
    kept = [header for header in request.headers if not (typed and header == ("Content-Type", "application/sdp"))]
    return SipMessage(request.method, request.request_uri, 0, "", tuple(kept), request.body)


def at_the_scscf(request: SipMessage) -> SipMessage:
    """The request as the S-CSCF gets it: the P-CSCF has said who sends it."""
    asserted = ("P-Asserted-Identity", "<sip:somebody@example.org>")
    return SipMessage(request.method, request.request_uri, 0, "", (*request.headers, asserted), request.body)


def visited(app: AppServer, loop: LabLoop, call_id: str | None) -> list[str]:
    """The criteria that brought the server in for one request, in order."""
    found = [
        request.addressed_as
        for request in app.requests
        if request.message.call_id == call_id and request.method not in ("ACK", "CANCEL")
    ]
    loop.run_blocking(app.clear())
    return found


def expected(
    criteria: tuple[Criterion, ...], request: SipMessage, session_case: int, registered: bool, rules: Rules
) -> list[str]:
    """What the evaluator says: the criteria that match, in order of priority."""
    seen = at_the_scscf(request)
    verdicts = [evaluate(one, seen, session_case=session_case, registered=registered, rules=rules) for one in criteria]
    names = [re.match(r"sip:([^@]+)@", verdict.criterion.server) for verdict in verdicts if verdict]
    return [name[1] for name in names if name]


def test_grid_is_large_enough() -> None:
    """At least 40 criteria, each kind of condition among them."""
    assert len(CRITERIA) >= 40
    assert len(REQUESTS) >= 10
    kinds = {key for one in CRITERIA.values() for trigger in one.get("triggers", []) for key in trigger}
    assert kinds >= {"method", "request_uri", "header", "header_content", "session_case", "sdp_line", "negated"}


def test_every_criterion_and_request_of_a_caller(lab: RunningLab) -> None:
    """Originating (session case 0): the S-CSCF brings the server in where the evaluator says so, and nowhere else."""
    differ: set[str] = set()
    try:
        with server(lab) as (app, loop):
            for names in chunks():
                criteria = provision(lab, app, "alice", names)
                with phone(lab, "alice") as alice:
                    loop.run_blocking(app.clear())
                    for name in REQUESTS:
                        request = request_named(alice, name, "nobody", "+19990000")
                        alice.ask(request)
                        came = visited(app, loop, request.call_id)
                        assert came == expected(criteria, request, 0, True, Rules.KAMAILIO), name
                        differ |= set(came) ^ set(expected(criteria, request, 0, True, Rules.SPEC))
    finally:
        lab.hss.set_profile("alice", [])
        time.sleep(FORGOTTEN_S)
    assert differ == AGAINST_THE_SPECIFICATION


@pytest.mark.parametrize("name", ["plain call", "USSD", "message with headers", "message"])
def test_criteria_of_a_called_party(lab: RunningLab, name: str) -> None:
    """Terminating registered (session case 1): the same, for the profile of the one who is called."""
    names = [one for one in CRITERIA if not one.startswith(("uri", "sdp", "header"))]
    try:
        with server(lab) as (app, loop), phone(lab, "alice") as alice:
            for part in (names[:AT_A_TIME], names[AT_A_TIME:]):
                criteria = provision(lab, app, "bob", part)
                with phone(lab, "bob") as bob, refusing(bob):
                    request = request_named(alice, name, "bob", "+15550002")
                    loop.run_blocking(app.clear())
                    alice.ask(request)
                    assert visited(app, loop, request.call_id) == expected(criteria, request, 1, True, Rules.KAMAILIO)
    finally:
        lab.hss.set_profile("bob", [])


@pytest.mark.parametrize(
    "names",
    [
        ("originating", "terminating", "terminating-unregistered", "always"),
        ("registered-part", "unregistered-part", "invite", "message"),
        ("message", "not-terminating", "and-that-is-an-or"),
        ("and-in-cnf", "or-in-dnf", "uri-anchored"),
    ],
    ids=lambda names: names[0],
)
def test_criteria_of_somebody_who_is_away(lab: RunningLab, names: tuple[str, ...]) -> None:
    """Terminating unregistered (session case 2): SAR type 3 fetches the profile, and its first match gets the call."""
    try:
        with server(lab) as (app, loop), phone(lab, "alice") as alice:
            loop.run_blocking(app.behave("answer", {"INVITE": 603}))
            criteria = provision(lab, app, "carol", ["away-and-elsewhere", *names])
            for name, answer in (("plain call", 603), ("message", 200)):
                request = request_named(alice, name, "carol", "+15550003")
                loop.run_blocking(app.clear())
                status = alice.ask(request).status
                first = expected(criteria, request, 2, False, Rules.KAMAILIO)[:1]
                assert (visited(app, loop, request.call_id), status) == (first, answer if first else 480)
    finally:
        lab.hss.set_profile("carol", [])
        lab.hss.reset_subscriber("carol")
