"""Run the HSS: `python -m labkit.peers.hss --help`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Sequence

from labkit.errors import LabkitError
from labkit.peers.hss.server import HssOptions, HssServer, read_token
from labkit.peers.hss.subscribers import load_subscribers


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT")
    return host, int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m labkit.peers.hss", description="A home subscriber server: Cx over Diameter and TCP."
    )
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--diameter-port", type=int, default=3868, help="TCP port (default %(default)s)")
    parser.add_argument("--admin-port", type=int, default=8380, help="HTTP port (default %(default)s)")
    parser.add_argument("--state", default=":memory:", metavar="FILE", help="SQLite file; memory only by default")
    parser.add_argument("--subscribers", metavar="FILE", help="TOML file (default: data/subscribers.toml)")
    parser.add_argument("--realm", default="ims.mnc001.mcc001.3gppnetwork.org", help="home realm")
    parser.add_argument("--origin-host", metavar="NAME", help="Diameter name (default: hss.REALM)")
    parser.add_argument("--token-file", metavar="FILE", help="file with the admin door's token")
    parser.add_argument("--mirror", type=_address, metavar="ADDR:PORT", help="copy messages there as HEP3 over UDP")
    parser.add_argument("--quiet", action="store_true", help="no log line per exchange")
    return parser


async def _run(server: HssServer) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await server.start()
    # What is loaded by now stays for ever: no collection needs to look at it again.
    gc.collect()
    gc.freeze()
    await stopped.wait()
    await server.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; 0 after a clean stop, 1 when the HSS cannot start."""
    arguments = _parser().parse_args(argv)
    try:
        options = HssOptions(
            address=arguments.address,
            diameter_port=arguments.diameter_port,
            admin_port=arguments.admin_port,
            realm=arguments.realm,
            origin_host=arguments.origin_host or f"hss.{arguments.realm}",
            state=arguments.state,
            token=read_token(arguments.token_file),
            mirror=arguments.mirror,
            quiet=arguments.quiet,
        )
        server = HssServer(options, load_subscribers(arguments.subscribers, arguments.realm))
        asyncio.run(_run(server))
    except (LabkitError, OSError) as error:
        print(f"hss: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
