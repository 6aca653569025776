"""The requests that the HSS sends by itself: RTR and PPR (TS 29.228 sections 6.1.3 and 6.2.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from labkit.errors import DiameterError, LabkitError
from labkit.peers.hss.connection import Connection
from labkit.peers.hss.state import Store
from labkit.peers.hss.user import NOT_REGISTERED, Scscf, User
from labkit.wire import cx
from labkit.wire.cx import DeregistrationReason, Envelope
from labkit.wire.diameter import Message, result_name

REQUEST_TIME_S: Final = 3.0
"""How long an RTR or PPR waits for its answer."""


class OwnRequests:
    """Sends RTR and PPR to the S-CSCF that serves a user, and writes down what follows from the answer."""

    def __init__(
        self,
        store: Store,
        peers: Mapping[str, Connection],
        origin: tuple[str, str],
        log: Callable[[str, str], None],
    ) -> None:
        """Speak in the name of `origin`, Origin-Host and Origin-Realm, over the connections of `peers`."""
        self._store = store
        self._peers = peers
        self._host, self._realm = origin
        self._log = log
        self._started_s = int(time.time())
        self._session = 0

    async def terminate(
        self,
        user: User,
        reason: int,
        text: str,
        identities: Sequence[str] | None = None,
        scscf: Scscf | None = None,
    ) -> dict[str, Any]:
        """Send RTR; a success clears the registration.

        Args:
            user: the subscriber.
            reason: Reason-Code.
            text: Reason-Info; empty leaves it out.
            identities: what stands in Public-Identity; None is all that are not barred, () none. The registration goes
                as a whole all the same: the identities of an implicit set live and die together (section 6.5.2.2).
            scscf: whom to tell; by default the one that serves.
        Returns:
            The outcome, as the admin door tells it.
        Raises:
            LabkitError: nobody serves the user, or an identity is not the user's.
        """
        target = self._serving(user) if scscf is None else scscf
        subscriber = user.subscriber
        if identities is None:
            identities = [impu for impu in subscriber.impus if impu not in subscriber.barred_impus]
        foreign = [impu for impu in identities if impu not in subscriber.impus]
        if foreign:
            raise LabkitError(f"{foreign[0]} is none of {subscriber.name}'s; there are {', '.join(subscriber.impus)}")

        def build(hop: int, end: int) -> Message:
            envelope = self._envelope(target, hop, end)
            return cx.rtr(
                envelope, user_name=subscriber.impi, public_identities=identities, reason=reason, reason_text=text
            )

        outcome = await self._ask("RTR", target, build)
        succeeded = outcome["result_code"] == 2001 and not outcome["experimental"]
        if succeeded and reason != DeregistrationReason.NEW_SERVER_ASSIGNED:
            user.clear()
            self._store.touch(user)
            self._store.flush()
        return outcome

    async def push_profile(self, user: User) -> dict[str, Any]:
        """Send PPR with the profile.

        Returns:
            The outcome, as the admin door tells it.
        Raises:
            LabkitError: nobody serves the user.
        """
        target = self._serving(user)
        profile = user.profile

        def build(hop: int, end: int) -> Message:
            return cx.ppr(self._envelope(target, hop, end), user_name=user.subscriber.impi, user_data=profile)

        return await self._ask("PPR", target, build)

    def _envelope(self, scscf: Scscf, hop: int, end: int) -> Envelope:
        self._session += 1
        return Envelope(
            session_id=f"{self._host};{self._started_s};{self._session}",
            origin_host=self._host,
            origin_realm=self._realm,
            destination_realm=scscf.realm.decode() or self._realm,
            destination_host=scscf.host.decode(),
            hop_by_hop_id=hop,
            end_to_end_id=end,
        )

    def _serving(self, user: User) -> Scscf:
        if user.state == NOT_REGISTERED or not user.scscf.host:
            raise LabkitError(f"{user.subscriber.name} is not registered: there is no S-CSCF to tell")
        return user.scscf

    async def _ask(self, command: str, target: Scscf, build: Callable[[int, int], Message]) -> dict[str, Any]:
        host = target.host.decode()
        started_s = time.monotonic()
        outcome: dict[str, Any] = {
            "command": command,
            "peer": host,
            "answered": False,
            "result_code": None,
            "experimental": False,
            "result": "",
        }
        connection = self._peers.get(host)
        if connection is None:
            outcome["result"] = "not connected"
        else:
            try:
                answer = await connection.request(build, REQUEST_TIME_S)
                outcome |= {"answered": True} | _read_result(answer)
            except TimeoutError:
                outcome["result"] = "no answer"
            except (ConnectionError, DiameterError) as error:
                outcome["result"] = str(error)
        outcome["waited_ms"] = round((time.monotonic() - started_s) * 1000, 1)
        self._log(host, f"{command} -> {outcome['result']}")
        return outcome


def _read_result(answer: Message) -> dict[str, Any]:
    plain = answer.find("Result-Code")
    if plain is not None:
        return {"result_code": plain.value, "result": result_name(plain.value)}
    group = answer.find("Experimental-Result")
    code = None if group is None else group.find("Experimental-Result-Code")
    if code is None:
        return {"result": "an answer without a result"}
    return {"result_code": code.value, "experimental": True, "result": result_name(code.value, True)}
