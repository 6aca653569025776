"""The capture container: sees every frame on a lab's bridge, so that no learner needs root for it.

Phones live on the host, at the bridge's own address: what one sends to another (sound) crosses the host's loopback and
never the bridge, so that is looked at as well, as far as it is to or from that address.

It stands in the host's network namespace, where the bridge is, with NET_RAW and no other capability; its root is
read-only, and when the process that started it is gone, its stdin ends and with it the container.
"""

from __future__ import annotations

import contextlib
import re
import threading
from typing import Any

from labkit.capture.frame_log import RawFrame
from labkit.capture.source import StreamSniffer
from labkit.errors import CaptureError
from labkit.lab.docker_client import connect, said_plainly

_READY = "ready"
_READY_TIMEOUT_S = 10.0


class DockerSniffer:
    """A source of packets (see labkit.capture.source.Sniffer) whose program runs in a container."""

    kind = "wire"

    def __init__(
        self, image: str, bridge: str, phones: str, marker_target: tuple[str, int], labels: dict[str, str]
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            image: tag of the image that holds `labkit.capture.sniff`.
            bridge: name of the lab's bridge interface on the host.
            phones: the host's address on that bridge, which all phones share.
            marker_target: broadcast address of the lab's network, and a port where nobody listens.
            labels: the lab's labels, by which `down` and `wipe` find the container.
        """
        self._image, self._target, self._labels = image, marker_target, labels
        self._interfaces = [bridge, "and", "lo", f"{phones}/32"]
        self._container = ""
        self._pipe: _Attached | None = None
        self._stream: StreamSniffer | None = None

    def start(self) -> None:
        """Start the container and wait until it misses nothing.

        Raises:
            CaptureError: its program did not get ready; with what it said.
            StackError: Docker refused.
        """
        if self._stream is not None:
            return
        # A client of its own without a time limit: the output is read for as long as the lesson lasts.
        api = connect(timeout_s=None)
        with said_plainly("starting the capture container"):
            self._container = self._make(api)
            connection = api.attach_socket(self._container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            api.start(self._container)
        self._pipe = pipe = _Attached(connection)
        if not pipe.ready.wait(_READY_TIMEOUT_S) or _READY not in pipe.said:
            self._remove()
            raise CaptureError(f"The capture container did not get ready; it said: {pipe.said.strip() or 'nothing'}")
        self._stream = StreamSniffer(pipe, self._target, stop=self._remove)
        try:
            self._stream.start()
        except BaseException:
            self._remove()
            self._stream = None
            raise

    def stop(self) -> None:
        """Remove the container and end the reading."""
        if self._stream is not None:
            self._stream.stop()
            self._stream = None

    def mark(self) -> int:
        """Give the position after everything sent so far."""
        return self._running().mark()

    def frames(self, since: int, until: int) -> list[RawFrame]:
        """Give what came between two marks."""
        return self._running().frames(since, until)

    def position(self) -> int:
        """Give the position after what has come so far."""
        return self._running().position()

    def since(self, position: int) -> tuple[list[RawFrame], int]:
        """Give what has come since a position, and the position after it."""
        return self._running().since(position)

    @property
    def dropped(self) -> int:
        """Frames that the kernel threw away, as far as the program told."""
        told = re.findall(r"dropped (\d+) frames", self._pipe.said) if self._pipe else []
        return int(told[-1]) if told else 0

    def _running(self) -> StreamSniffer:
        if self._stream is None:
            raise CaptureError("The capture was not started.")
        return self._stream

    def _make(self, api: Any) -> str:
        limits = api.create_host_config(
            network_mode="host",
            cap_drop=["ALL"],
            cap_add=["NET_RAW"],
            security_opt=["no-new-privileges"],
            read_only=True,
            mem_limit="128m",
            pids_limit=16,
            log_config={"Type": "none"},  # its output is packets, and is read by us alone
            auto_remove=True,
        )
        made = api.create_container(
            self._image,
            ["python3", "-m", "labkit.capture.sniff", "--until-eof", *self._interfaces],
            user="0",  # a capability that is added reaches root only
            stdin_open=True,  # held open by us: when this process is gone, however, the program ends
            labels=self._labels,
            host_config=limits,
        )
        return str(made["Id"])

    def _remove(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._container:
            with contextlib.suppress(Exception):  # it may be gone with its lab already
                connect().remove_container(self._container, force=True, v=True)
            self._container = ""


class _Attached:
    """The container's stdout as a stream of bytes; its stderr is kept, and tells when it is ready."""

    def __init__(self, connection: Any) -> None:
        self.ready = threading.Event()
        self.said = ""
        self._connection = connection
        self._waiting = b""
        self._arrived = threading.Condition()
        self._ended = False
        threading.Thread(target=self._pump, name="labkit-capture-container", daemon=True).start()

    def read(self, size: int, /) -> bytes:
        """Give what has come, up to `size` bytes, waiting for something; nothing at the end."""
        with self._arrived:
            while not self._waiting and not self._ended:
                self._arrived.wait()
            given, self._waiting = self._waiting[:size], self._waiting[size:]
            return given

    def close(self) -> None:
        """Let go: the program in the container sees its stdin end."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def _pump(self) -> None:
        from docker.utils.socket import STDOUT, frames_iter_no_tty

        try:
            raw: bytes
            for stream, raw in frames_iter_no_tty(self._connection):  # type: ignore[assignment]
                if stream != STDOUT:
                    self.said += raw.decode(errors="replace")
                    self.ready.set()  # whatever it says first: "ready", or why not
                    continue
                with self._arrived:
                    self._waiting += raw
                    self._arrived.notify()
        except (OSError, ValueError):  # the daemon went away, or the connection was closed under us
            pass
        finally:
            self.ready.set()
            with self._arrived:
                self._ended = True
                self._arrived.notify()
