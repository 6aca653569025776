"""The calls that lessons use, typed.

    async with Cgrates("http://127.0.0.1:2080") as cg:
        await cg.load_tariff(tariff)
        await cg.set_charger("DEFAULT")
        await cg.charge(Event("call-1", "1001", "6421555000", answered, timedelta(seconds=61), "*rated"))
        (cdr,) = await cg.cdrs(origin_ids=["call-1"])

Every method may raise ChargingError (a subclass names why) and ChargingEngineGone. Version 0.10.4 of the engine.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labkit.clients.cgrates.duplex import CgratesDuplex
from labkit.clients.cgrates.events import TENANT, Event
from labkit.clients.cgrates.month import Month
from labkit.clients.cgrates.rpc import TIMEOUT_S, JsonRpc
from labkit.clients.cgrates.tariff import Destination, Tariff
from labkit.clients.cgrates.units import Usage, go_duration, go_time, money, usage
from labkit.clients.cgrates.values import (
    Account,
    Cdr,
    Cost,
    Sample,
    Session,
    account_of,
    cdr_of,
    cdr_rows,
    cost_of,
    session_of,
)
from labkit.clients.rows import Rows
from labkit.errors import BadChargingRequest, ChargingError, ChargingNotFound

if TYPE_CHECKING:
    import httpx

SERVICES = ("SessionSv1", "AttributeSv1", "ChargerSv1", "RALsV1", "SchedulerSv1", "CDRsV1", "APIerSv1")
"""Each says Pong once it is up; HTTP answers earlier."""
_AT_ONCE = 50
"""So many calls are under way together over the bulk door."""


class Cgrates:
    """One engine."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
        folder: str = "",
        bulk: tuple[str, int] | None = None,
    ) -> None:
        """Talk to one engine.

        Args:
            base_url: of its HTTP door, for example "http://127.0.0.1:2080".
            folder: where it keeps its files, as the engine itself sees it.
            bulk: address and port of its JSON door over TCP, where many calls go at once: a tenth of HTTP's effort.
        """
        self.rpc = JsonRpc(base_url, timeout_s=timeout_s, transport=transport)
        """The door itself."""
        self._ids = itertools.count(1)
        self._folder = folder
        self._bulk = CgratesDuplex(*bulk, timeout_s=timeout_s) if bulk else None

    async def close(self) -> None:
        """Close the connections."""
        await self.rpc.close()
        if self._bulk is not None:
            await self._bulk.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- the engine -------------------------------------------------------------------------------------------------
    async def version(self) -> str:
        """For example "v0.10.4"."""
        status = await self.rpc.call("CoreSv1.Status", {})
        return str(status["Version"]).partition("@")[2]

    async def ready(self) -> bool:
        """True where every service answers."""
        try:
            for service in SERVICES:
                await self.rpc.call(f"{service}.Ping", {})
        except ChargingError:
            return False
        return True

    async def call(self, method: str, parameter: Any) -> Any:
        """The result of any call, as the API gives it: for what has no method here."""
        return await self.rpc.call(method, parameter)

    # ---- tariff -----------------------------------------------------------------------------------------------------
    async def load_tariff(self, tariff: Tariff) -> None:
        """Make the tariff hold; what was loaded before under other names stays."""
        for method, parameter in tariff.calls():
            await self.rpc.call(method, parameter)

    async def load_tariff_folder(self, folder: str | PurePosixPath) -> None:
        """Load a folder of CSV files; the engine reads it, so the path is as the engine sees it.

        Args:
            folder: absolute, or below the engine's own files: "tariffs/month" is data/tariffs/month of this project.
        """
        path = PurePosixPath(self._folder, folder)
        if not path.is_absolute():
            raise BadChargingRequest(f"{folder} is not absolute: the engine works in a folder of its own")
        await self.rpc.call("APIerSv1.LoadTariffPlanFromFolder", {"FolderPath": str(path)})

    async def cost(
        self, destination: str, length: Usage, *, at: datetime, subject: str = "*any", category: str = "call"
    ) -> Cost:
        """What it would cost; nothing is stored or debited."""
        return cost_of(await self.rpc.call("APIerSv1.GetCost", _price_of(destination, length, at, subject, category)))

    async def costs(
        self, destination: str, lengths: Sequence[timedelta], *, at: datetime, subject: str = "*any"
    ) -> list[Decimal]:
        """What calls of these lengths would cost, for a staircase."""
        asked = [_price_of(destination, length, at, subject, "call") for length in lengths]
        return [cost_of(answer).total for answer in await self._many("APIerSv1.GetCost", asked)]

    async def destination(self, name: str) -> Destination:
        """The prefixes that the engine holds under this name."""
        found = await self.rpc.call("APIerSv1.GetDestination", name)
        return Destination(found["Id"], tuple(found["Prefixes"]))

    # ---- accounts ---------------------------------------------------------------------------------------------------
    async def set_account(self, name: str, *, allow_negative: bool = False, disabled: bool = False) -> None:
        """Make an account, or change its switches."""
        options = {"AllowNegative": allow_negative, "Disabled": disabled}
        await self.rpc.call("APIerSv2.SetAccount", {"Tenant": TENANT, "Account": name, "ExtraOptions": options})

    async def set_balance(
        self,
        account: str,
        value: Decimal | int | str | timedelta,
        *,
        kind: str = "*monetary",
        name: str = "main",
        weight: int = 0,
        destinations: Sequence[str] = (),
    ) -> None:
        """Set one balance (and make its account): money, or with kind="*voice" minutes, "*sms", "*data" numbers."""
        if isinstance(value, timedelta) != (kind == "*voice"):
            raise BadChargingRequest("a *voice balance is a timedelta, the others are amounts")
        amount = int(value / timedelta(microseconds=1)) * 1000 if isinstance(value, timedelta) else money(value)
        balance: dict[str, Any] = {"ID": name, "Weight": weight}
        if destinations:
            balance["DestinationIDs"] = ";".join(destinations)
        asked = {"Tenant": TENANT, "Account": account, "BalanceType": kind, "Value": amount, "Balance": balance}
        await self.rpc.call("APIerSv1.SetBalance", asked)

    async def account(self, name: str) -> Account:
        """An account with its balances."""
        return account_of(await self.rpc.call("APIerSv2.GetAccount", {"Tenant": TENANT, "Account": name}))

    async def remove_account(self, name: str) -> None:
        """Forget an account."""
        await self.rpc.call("APIerSv1.RemoveAccount", {"Tenant": TENANT, "Account": name})

    # ---- who is charged, by which rule ------------------------------------------------------------------------------
    async def set_charger(
        self, name: str, *, run: str = "*default", attributes: Sequence[str] = ("*none",), weight: int = 0
    ) -> None:
        """A charger profile: every event that comes in is charged once for each."""
        asked = {"Tenant": TENANT, "ID": name, "FilterIDs": [], "RunID": run, "AttributeIDs": list(attributes)}
        await self.rpc.call("APIerSv1.SetChargerProfile", asked | {"Weight": weight})

    async def remove_charger(self, name: str) -> None:
        """Take a charger profile away; one that is not there is no error."""
        try:
            await self.rpc.call("APIerSv1.RemoveChargerProfile", {"Tenant": TENANT, "ID": name})
        except ChargingNotFound:
            return

    async def set_attributes(
        self, name: str, changes: Mapping[str, str], *, where: Mapping[str, str] | None = None, context: str = "*any"
    ) -> None:
        """An attribute profile: events whose fields are as in `where` get the fields of `changes`."""
        asked = {
            "Tenant": TENANT,
            "ID": name,
            "Contexts": [context],
            "FilterIDs": [f"*string:~*req.{field}:{value}" for field, value in (where or {}).items()],
            "Attributes": [{"Path": f"*req.{f}", "Type": "*constant", "Value": v} for f, v in changes.items()],
            "Weight": 10,
        }
        await self.rpc.call("APIerSv2.SetAttributeProfile", asked)

    async def apply_attributes(self, fields: Mapping[str, str], *, context: str = "*sessions") -> dict[str, str]:
        """The fields as the attribute profiles leave them; unchanged where none fits."""
        asked = {"Context": context, "Tenant": TENANT, "ID": self._next("attributes"), "Event": dict(fields)}
        try:
            answer = await self.rpc.call("AttributeSv1.ProcessEvent", asked)
        except ChargingNotFound:
            return dict(fields)
        return {name: str(value) for name, value in answer["CGREvent"]["Event"].items()}

    # ---- CDRs -------------------------------------------------------------------------------------------------------
    async def charge(self, event: Event) -> None:
        """Rate a call that is over and store its CDRs, one for each charger."""
        await self.rpc.call("CDRsV1.ProcessExternalCDR", event.fields())

    async def charge_day(self, month: Month, day: int) -> int:
        """Rate all calls of one day of a generated month; how many there were."""
        events = month.events(day)
        await self._many("CDRsV1.ProcessExternalCDR", [event.fields() for event in events])
        return len(events)

    async def forget_seen(self) -> None:
        """Let calls be sent again that the engine holds for duplicates; those that it has stored it still refuses.

        For ten minutes it remembers what it was given, also what it could not store because its database was away.
        """
        await self.rpc.call("CacheSv1.Clear", {"CacheIDs": ["*cdr_ids"]})

    async def cdrs(
        self,
        *,
        origin_ids: Sequence[str] = (),
        accounts: Sequence[str] = (),
        runs: Sequence[str] = (),
        prefixes: Sequence[str] = (),
        answered_from: datetime | None = None,
        answered_before: datetime | None = None,
        cost_from: Decimal | str | None = None,
        cost_to: Decimal | str | None = None,
    ) -> list[Cdr]:
        """The CDRs that fit, by answer time, origin_id and run; an empty list where none does."""
        asked = _filter(origin_ids, accounts, runs, prefixes, answered_from, answered_before, cost_from, cost_to)
        try:
            found = await self.rpc.call("CDRsV1.GetCDRs", asked)
        except ChargingNotFound:
            return []
        # In memory the engine has no order of its own.
        return sorted(map(cdr_of, found), key=lambda cdr: (str(cdr.answer_time), cdr.origin_id, cdr.run))

    async def cdr_rows(self, **filters: Any) -> Rows:
        """The CDRs that fit, one row each, for tables: named as the columns of the database are.

        Args:
            filters: as of `cdrs`.
        """
        return cdr_rows(await self.cdrs(**filters))

    async def count_cdrs(self) -> int:
        """How many are stored."""
        return int(await self.rpc.call("CDRsV1.GetCDRsCount", {}))

    async def rerate(self, origin_ids: Sequence[str]) -> None:
        """Rate stored CDRs again, after the tariff was mended; what an account paid is given back first.

        ChargingNotFound where none of these calls is stored. CDRs of request type *none stay as they are.
        """
        if not origin_ids:
            raise BadChargingRequest("name the calls to rate again; an empty list would take them all")
        # Without *chargers:false each stored run would be forked by the chargers anew.
        flags = ["*rerate", "*chargers:false"]
        debited = {"RequestTypes": ["*postpaid", "*prepaid", "*pseudoprepaid"], "Flags": flags}
        # *rerate wants to give the money back; of *rated nobody paid any, and then 0.10.4 keeps the old cost.
        undebited = {"RequestTypes": ["*rated"], "Flags": [*flags, "*refund:false"]}
        nothing: list[ChargingNotFound] = []
        for kind in (debited, undebited):
            try:
                await self.rpc.call("CDRsV1.RateCDRs", {"OriginIDs": list(origin_ids)} | kind)
            except ChargingNotFound as error:
                nothing.append(error)
        if len(nothing) == 2:
            raise nothing[0]

    # ---- prepaid ----------------------------------------------------------------------------------------------------
    async def authorize(self, event: Event) -> Usage:
        """How long the money lasts (nothing is reserved): zero where it does not."""
        return await self._granted("SessionSv1.AuthorizeEvent", event, {"GetMaxUsage": True})

    async def initiate(self, event: Event, reserve: Usage) -> Usage:
        """Open a session and debit `reserve` at once; what was granted of it."""
        return await self._granted("SessionSv1.InitiateSession", event, {"InitSession": True}, reserve)

    async def update(self, event: Event, reserve: Usage, *, used: Usage | None = None) -> Usage:
        """Debit the next piece; `used`: what was used of the last one, the rest is given back. Zero: hang up."""
        extra = {} if used is None else {"LastUsed": go_duration(used)}
        return await self._granted("SessionSv1.UpdateSession", event, {"UpdateSession": True}, reserve, extra)

    async def terminate(self, event: Event, total: Usage) -> None:
        """End a session; `total` is the whole length, and the difference to what was debited is settled."""
        await self._session("SessionSv1.TerminateSession", event, {"TerminateSession": True}, total)

    async def store_cdr(self, event: Event) -> None:
        """Store the CDR of a session that has ended, at the session's cost."""
        await self._session("SessionSv1.ProcessCDR", event, {}, event.usage)

    async def message(self, event: Event) -> int:
        """Charge a message (kind "*sms") at once: how many were granted, 0 where it cannot be paid."""
        granted = await self._granted("SessionSv1.ProcessMessage", event, {"Debit": True})
        return granted if isinstance(granted, int) else 0

    async def sessions(self) -> list[Session]:
        """The sessions that are open, by origin_id and run."""
        try:
            found = await self.rpc.call("SessionSv1.GetActiveSessions", {})
        except ChargingNotFound:
            return []
        return sorted(map(session_of, found), key=lambda one: (one.origin_id, one.run))

    async def sample(self, account: str, began: float | None = None) -> Sample:
        """What an account has now, and what its open sessions have taken.

        Args:
            account: whose.
            began: `time.monotonic()` of the moment that times are counted from; by default now.
        """
        open_now = [one for one in await self.sessions() if one.account == account]
        money = (await self.account(account)).money
        now = time.monotonic()
        # The engine adds up doubles: 0.6 + 0.3 is 0.8999999999999999 there.
        taken = round(sum((one.cost_so_far for one in open_now), Decimal(0)), 5)
        return Sample(round(now - (now if began is None else began), 3), money, len(open_now), taken)

    async def cdr_of(self, call_id: str, *, timeout_s: float = 5.0) -> Cdr:
        """The record of a SIP call that the charging proxy has had charged, by its Call-ID, as soon as it is written.

        Raises:
            ChargingNotFound: it has not come in time.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            found = await self.cdrs(origin_ids=[call_id])
            if found:
                return found[0]
            if time.monotonic() > give_up:
                text = f"CGrateS has written no CDR of {call_id} in {timeout_s:g} s: was it charged, and is it over?"
                raise ChargingNotFound(text, code="NOT_FOUND", method="CDRsV1.GetCDRs")
            await asyncio.sleep(0.05)

    async def _granted(
        self,
        method: str,
        event: Event,
        flags: Mapping[str, bool],
        reserve: Usage | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Usage:
        answer = await self._session(method, event, flags, reserve, extra)
        granted = usage(answer["MaxUsage"], event.kind)
        return max(granted, type(granted)(0))

    async def _session(
        self,
        method: str,
        event: Event,
        flags: Mapping[str, bool],
        length: Usage | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Any:
        fields = event.fields(length) | dict(extra or {})
        return await self.rpc.call(
            method, dict(flags) | {"Tenant": event.tenant, "ID": self._next(event.origin_id), "Event": fields}
        )

    async def _many(self, method: str, parameters: Sequence[Any]) -> list[Any]:
        """The results of the same call with many parameters, in their order; over the bulk door where there is one."""
        if self._bulk is None:
            return [await self.rpc.call(method, parameter) for parameter in parameters]
        if not self._bulk.is_open:
            await self._bulk.open()
        results: list[Any] = []
        for first in range(0, len(parameters), _AT_ONCE):
            some = parameters[first : first + _AT_ONCE]
            results += await asyncio.gather(*(self._bulk.call(method, one) for one in some))
        return results

    def _next(self, name: str) -> str:
        return f"{name}-{next(self._ids)}"


def _price_of(destination: str, length: Usage, at: datetime, subject: str, category: str) -> dict[str, Any]:
    """AttrGetCost."""
    return {
        "Tenant": TENANT,
        "Category": category,
        "Subject": subject,
        "AnswerTime": go_time(at),
        "Destination": destination,
        "Usage": go_duration(length),
    }


def _filter(
    origin_ids: Sequence[str],
    accounts: Sequence[str],
    runs: Sequence[str],
    prefixes: Sequence[str],
    answered_from: datetime | None,
    answered_before: datetime | None,
    cost_from: Decimal | str | None,
    cost_to: Decimal | str | None,
) -> dict[str, Any]:
    """RPCCDRsFilter. Cost limits count only inside ExtraArgs; SetupTimeEnd is inverted in memory, so it is not used."""
    lists = {"OriginIDs": origin_ids, "Accounts": accounts, "RunIDs": runs, "DestinationPrefixes": prefixes}
    asked: dict[str, Any] = {name: list(wanted) for name, wanted in lists.items() if wanted}
    if answered_from is not None:
        asked["AnswerTimeStart"] = go_time(answered_from)
    if answered_before is not None:
        asked["AnswerTimeEnd"] = go_time(answered_before)
    limits = {name: money(value) for name, value in (("MinCost", cost_from), ("MaxCost", cost_to)) if value is not None}
    return asked | ({"ExtraArgs": limits} if limits else {})
