"""The proof that a lab works: one real registration, every packet of it seen, drawn as text."""

from __future__ import annotations

import asyncio

from labkit.errors import ReplayError
from labkit.paths import cassettes_folder

SUBSCRIBER = "alice"


def prove_live() -> str:
    """Register alice over the running lab and return the ladder of what that took.

    The lab is the one that LABKIT_NAME and LABKIT_ENGINE name.

    Raises:
        CallFailed: the core said no; the message says which node's log to read.
    """
    return asyncio.run(_register())


async def _register() -> str:
    import labkit

    session = labkit.open("up")
    try:
        phone = session.ue(SUBSCRIBER)
        with session.capture("proof") as capture:
            await phone.register()
        await phone.deregister()
        return capture.text_ladder()
    finally:
        session.close()


def prove_replay() -> str:
    """Return the ladder of the first recording that shows a registration.

    Raises:
        ReplayError: there are no recordings.
    """
    from labkit.cli.decode import read_file
    from labkit.view.text_ladder import text_ladder

    for lesson in ("00", "01"):
        for about in sorted((cassettes_folder() / lesson).glob("*.json")):
            packets = about.with_suffix(".pcapng")
            if packets.exists() and packets.stat().st_size:
                messages = read_file(packets)
                if (messages.table["method"] == "REGISTER").any():
                    return text_ladder(messages)
    raise ReplayError(
        f"There is no recording in {cassettes_folder()}; make them with ./lab record 00 on a machine with an engine."
    )
