"""The CGrateS client, held against exchanges recorded with the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from labkit import errors
from labkit.clients.cgrates import Balance, Cgrates, Charge, Event
from labkit.clients.cgrates.refusals import named_error
from labkit.clients.cgrates.values import account_of, cdr_of, cost_of, session_of
from tests.cgrates_parts import Engine, exchanges, recorded

ANSWERED = datetime(2026, 1, 5, 10, 0, 5, tzinfo=UTC)
SETUP = datetime(2026, 1, 5, 10, tzinfo=UTC)
EVENT = Event("call-1", "bob", "6421555000", ANSWERED, request_type="*prepaid", setup_time=SETUP, subject="second")

UNANSWERED = replace(EVENT, answer_time=None)


def ask(engine: Engine, work: Callable[[Cgrates], Awaitable[Any]]) -> Any:
    """What the client makes of the engine's answers."""

    async def run() -> Any:
        async with engine.client() as cg:
            return await work(cg)

    return asyncio.run(run())


def test_a_cost_is_read_to_the_last_digit() -> None:
    """The three increments of the recording: 0.22, 0.161, 0.161 for 61 seconds."""
    costs = [cost_of(reply["result"]) for _, reply in recorded("postpaid", "APIerSv1.GetCost")]
    assert [(c.total, c.billed.total_seconds()) for c in costs] == [
        (Decimal("0.22"), 120),
        (Decimal("0.161"), 61),
        (Decimal("0.161"), 61),
        (Decimal("0.16"), 60),
    ]
    assert costs[0].charges == (
        Charge(timedelta(0), Decimal("0.1"), 1),
        Charge(timedelta(seconds=60), Decimal("0.06"), 2),
    )
    assert (costs[0].plan, costs[0].destination, costs[0].prefix) == ("RP_60_60", "DST_NZ", "64")


def test_what_a_cost_consists_of_adds_up() -> None:
    """The charges of every recorded cost sum to its total."""
    for _, reply in recorded("postpaid", "APIerSv1.GetCost"):
        cost = cost_of(reply["result"])
        assert sum(charge.cost * charge.times for charge in cost.charges) == cost.total


def test_a_cdr_is_read() -> None:
    """Usage in nanoseconds becomes a timedelta, the details a Cost."""
    ((_, reply),) = recorded("postpaid", "CDRsV1.GetCDRs")
    cdr = cdr_of(reply["result"][0])
    assert (cdr.origin_id, cdr.run, cdr.account, cdr.subject) == ("call-1", "*default", "1001", "second")
    assert (cdr.usage, cdr.cost, cdr.answer_time) == (timedelta(seconds=61), Decimal("0.161"), ANSWERED)
    assert cdr.rated
    assert cdr.detail is not None
    assert cdr.detail.total == cdr.cost


def test_accounts_are_read() -> None:
    """Balances come with their value as Decimal; an account without one has none."""
    ((_, reply),) = recorded("postpaid", "APIerSv2.GetAccount")
    account = account_of(reply["result"])
    assert account.balances == (Balance("*monetary", "main", Decimal("4.839"), Decimal(0)),)
    assert (account.name, account.money, account.disabled) == ("1001", Decimal("4.839"), False)
    assert account_of({"ID": "cgrates.org:x", "BalanceMap": None, "AllowNegative": False, "Disabled": True}).money == 0


def test_an_open_session_is_read() -> None:
    """One debit of a minute: 0.16."""
    ((_, reply),) = recorded("prepaid", "SessionSv1.GetActiveSessions")
    session = session_of(reply["result"][0])
    assert (session.origin_id, session.reserved, session.debits) == ("call-1", timedelta(seconds=60), 1)
    assert session.cost_so_far == Decimal("0.16")


def without_our_own(parameter: dict[str, Any]) -> dict[str, Any]:
    """Leave out what names the sender, which each sender chooses."""
    event = {key: value for key, value in parameter["Event"].items() if key != "Source"}
    return {key: value for key, value in parameter.items() if key != "ID"} | {"Event": event}


@pytest.mark.parametrize(
    ("method", "number", "work"),
    [
        ("SessionSv1.AuthorizeEvent", 0, lambda cg: cg.authorize(UNANSWERED)),
        ("SessionSv1.InitiateSession", 0, lambda cg: cg.initiate(EVENT, timedelta(seconds=60))),
        ("SessionSv1.UpdateSession", 0, lambda cg: cg.update(UNANSWERED, timedelta(seconds=60))),
        ("SessionSv1.TerminateSession", 0, lambda cg: cg.terminate(EVENT, timedelta(seconds=80))),
    ],
)
def test_session_calls_are_sent_as_recorded(
    method: str, number: int, work: Callable[[Cgrates], Awaitable[Any]]
) -> None:
    """The parameter is the one to which the real engine gave the recorded answer, and the answer is understood."""
    parameter, reply = recorded("prepaid", method)[number]
    engine = Engine(reply)
    granted = ask(engine, work)
    asked_method, asked = engine.asked[0]
    assert asked_method == method
    assert without_our_own(asked) == without_our_own(parameter)
    if method != "SessionSv1.TerminateSession":
        assert granted == timedelta(microseconds=reply["result"]["MaxUsage"] // 1000)


def test_a_balance_is_set_as_recorded() -> None:
    """Nothing but the weight is added."""
    parameter, reply = recorded("prepaid", "APIerSv1.SetBalance")[0]
    engine = Engine(reply)
    ask(engine, lambda cg: cg.set_balance("bob", "0.19"))
    _, asked = engine.asked[0]
    assert asked["Balance"].pop("Weight") == 0
    assert asked == parameter


def test_messages_are_counted() -> None:
    """The first is paid, the second is not."""
    replies = [reply for _, reply in recorded("prepaid", "SessionSv1.ProcessMessage")]
    message = Event("sms-1", "sam", "6421555000", ANSWERED, 1, "*prepaid", kind="*sms", category="sms")

    async def twice(cg: Cgrates) -> list[int]:
        return [await cg.message(message), await cg.message(message)]

    assert ask(Engine(*replies), twice) == [1, 0]


KINDS = {
    "ACCOUNT_NOT_FOUND": errors.AccountNotFound,
    "ACCOUNT_DISABLED": errors.AccountDisabled,
    "UNAUTHORIZED_DESTINATION": errors.NoPrice,
    "RATING_PLAN_NOT_FOUND": errors.NoRatingPlan,
    "CHARGERS_ERROR:NOT_FOUND": errors.NoCharger,
    "PARTIALLY_EXECUTED": errors.NoCharger,
    "EXISTS": errors.DuplicateCdr,
    "MANDATORY_IE_MISSING": errors.BadChargingRequest,
    "json: cannot": errors.BadChargingRequest,
    "time: invalid duration": errors.BadChargingRequest,
    "Unsupported time": errors.BadChargingRequest,
    "rpc: can't find": errors.BadChargingRequest,
}


@pytest.mark.parametrize("words", sorted({e["reply"]["error"] for e in exchanges("errors") if e["reply"]["error"]}))
def test_every_recorded_error_has_a_name(words: str) -> None:
    """The engine's words become the right class, with the words, the method and a hint in the message."""
    error = named_error("X.Y", words)
    expected = next((kind for part, kind in KINDS.items() if part in words), errors.ChargingNotFound)
    assert type(error) is expected
    assert (error.code, error.method) == (words, "X.Y")
    assert str(error).startswith(f"CGrateS answers X.Y: {words}; ")


def test_nothing_found_is_an_empty_list() -> None:
    """NOT_FOUND for a list of CDRs or sessions is no error."""
    nothing = {"result": None, "error": "NOT_FOUND"}
    assert ask(Engine(nothing), lambda cg: cg.cdrs(accounts=["nobody"])) == []
    assert ask(Engine(nothing), lambda cg: cg.sessions()) == []
    with pytest.raises(errors.ChargingNotFound):
        ask(Engine(nothing), lambda cg: cg.account("nobody"))


@pytest.mark.parametrize(
    "method",
    ["CDRsV1.ProcessExternalCDR", "ApierV1.SetChargerProfile", "Responder.GetCost", "ChargerSv1.GetChargersForEvent"],
)
def test_a_call_that_would_kill_the_engine_is_not_sent(method: str) -> None:
    """An empty parameter is refused here, under each name of the method."""
    engine = Engine()
    with pytest.raises(errors.BadChargingRequest, match="kills the engine"):
        ask(engine, lambda cg: cg.rpc.call(method, {}))
    assert engine.asked == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.ReadTimeout("x"), "does not answer CoreSv1.Status in time"),
        (httpx.ConnectError("x"), "is gone"),
        (httpx.RemoteProtocolError("x"), "is gone"),
        (b"<html>", "no JSON"),
    ],
)
def test_an_engine_that_is_gone_is_said_to_be(answer: object, said: str) -> None:
    """Time-outs, refused and closed connections and other servers are one kind of error."""
    with pytest.raises(errors.ChargingEngineGone, match=said):
        ask(Engine(answer), lambda cg: cg.version())


def test_limits_of_cost_go_where_the_engine_looks() -> None:
    """MinCost at the top level would be ignored without a word."""
    engine = Engine({"result": [], "error": None})
    ask(engine, lambda cg: cg.cdrs(cost_from="0.1", answered_before=ANSWERED, prefixes=["64"]))
    assert engine.asked == [
        (
            "CDRsV1.GetCDRs",
            {
                "DestinationPrefixes": ["64"],
                "AnswerTimeEnd": "2026-01-05T10:00:05Z",
                "ExtraArgs": {"MinCost": Decimal("0.1")},
            },
        )
    ]


def test_bundled_minutes_are_nanoseconds() -> None:
    """A *voice balance is given as a duration."""
    engine = Engine()
    ask(
        engine,
        lambda cg: cg.set_balance("bob", timedelta(minutes=2), kind="*voice", weight=20, destinations=["DST_NZ"]),
    )
    _, asked = engine.asked[0]
    assert asked["Value"] == 120_000_000_000
    assert asked["Balance"] == {"ID": "main", "Weight": 20, "DestinationIDs": "DST_NZ"}


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda cg: cg.set_balance("bob", 0.1), "is a float"),
        (lambda cg: cg.set_balance("bob", "five"), "no amount"),
        (lambda cg: cg.set_balance("bob", "-1"), "zero or more"),
        (lambda cg: cg.set_balance("bob", 5, kind="*voice"), "timedelta"),
        (lambda cg: cg.rerate([]), "name the calls"),
        (lambda cg: cg.load_tariff_folder("tariffs"), "not absolute"),
        (lambda cg: cg.cost("64", timedelta(seconds=1), at=datetime(2026, 1, 1)), "no time zone"),
    ],
)
def test_wrong_input_never_reaches_the_engine(work: Callable[[Cgrates], Awaitable[Any]], said: str) -> None:
    """One sentence instead of a strange bill."""
    engine = Engine()
    with pytest.raises(errors.BadChargingRequest, match=said):
        ask(engine, work)
    assert engine.asked == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"origin_id": ""}, "none of them empty"),
        ({"request_type": "prepaid"}, r"\*prepaid"),
        ({"usage": 61}, "timedelta"),
        ({"usage": timedelta(seconds=-1)}, "not negative"),
        ({"usage": timedelta(seconds=1), "kind": "*sms"}, "a number"),
    ],
)
def test_an_event_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    """Before it is sent, for the engine would take it."""
    fields: dict[str, Any] = {"origin_id": "c", "account": "a", "destination": "64"} | changes
    with pytest.raises(errors.BadChargingRequest, match=said):
        Event(**fields)


def test_a_call_of_no_length_costs_nothing_and_has_no_steps() -> None:
    """The engine then writes null where the steps would stand."""
    cost = cost_of({"Usage": 0, "Cost": 0, "Charges": [{"Increments": None, "CompressFactor": 1}]})
    assert (cost.total, cost.charges) == (0, ())
