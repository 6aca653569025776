"""What can be asked of a capture: the same questions for one of this lab and for a stranger's file."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import plotly.graph_objects as go

    from labkit.capture.summary import Summary
    from labkit.capture.table import Messages


class Questions:
    """Answers worked out of the messages; what each table holds stands in `labkit.capture`.

    Each is worked out once: a large capture is asked the same again and again. What is handed out is a copy.
    """

    def __init__(self) -> None:
        self._answers: dict[str, pd.DataFrame] = {}

    @property
    @abstractmethod
    def messages(self) -> Messages:
        """The decoded messages."""

    def _once(self, name: str, work: Callable[..., pd.DataFrame], *of_messages: str) -> pd.DataFrame:
        if name not in self._answers:
            self._answers[name] = work(*(getattr(self.messages, part) for part in of_messages))
        return self._answers[name].copy()

    def summary(self) -> Summary:
        """Sum the capture up: what it holds, who speaks, what went wrong."""
        from labkit.capture.summary import summary

        return summary(self.messages)

    @property
    def transactions(self) -> pd.DataFrame:
        """One row a SIP transaction at one hop, with its final status, time and retransmissions."""
        from labkit.capture.derived import transactions

        return self._once("transactions", transactions, "table")

    @property
    def dialogs(self) -> pd.DataFrame:
        """One row a SIP dialog."""
        from labkit.capture.derived import dialogs

        return self._once("dialogs", dialogs, "table")

    @property
    def calls(self) -> pd.DataFrame:
        """One row a call, its legs joined: who called whom, how it was answered, how long it lasted, who ended it."""
        from labkit.capture.derived import calls

        return self._once("calls", calls, "table", "raw")

    @property
    def registrations(self) -> pd.DataFrame:
        """One row a registration as its phone saw it, with the Diameter that it took."""
        from labkit.capture.derived import registrations

        return self._once("registrations", registrations, "table")

    @property
    def diameter_pairs(self) -> pd.DataFrame:
        """One row a Diameter request with its answer and the time that took."""
        from labkit.capture.derived import diameter_pairs

        return self._once("diameter_pairs", diameter_pairs, "table")

    @property
    def rpc_pairs(self) -> pd.DataFrame:
        """One row a JSON-RPC call or evapi message with its answer."""
        from labkit.capture.derived import rpc_pairs

        return self._once("rpc_pairs", rpc_pairs, "table")

    @property
    def rtp_streams(self) -> pd.DataFrame:
        """One row an RTP stream: packets, loss, jitter, and the call that announced it."""
        from labkit.capture.derived import rtp_streams

        return self._once("rtp_streams", rtp_streams, "table", "raw")

    def plot_answer_times(self, **options: Any) -> go.Figure:
        """Draw how long Diameter answers took while the capture ran, a line for each command."""
        from labkit.view.answer_times import answer_times

        return answer_times(self.diameter_pairs, **options)
