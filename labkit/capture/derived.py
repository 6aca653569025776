"""What follows from the table: the door to transactions, pairs, dialogs, calls, registrations and RTP streams.

Each is a function of the table and gives a DataFrame: one row a thing, `frame` and `time` of its first message,
`from` and `to` as node names (addresses where a node has none). Times are timestamps (UTC), durations seconds; absent
is <NA>.
"""

from __future__ import annotations

from labkit.capture.calls import calls
from labkit.capture.dialogs import dialogs
from labkit.capture.registrations import registrations
from labkit.capture.rtp_streams import rtp_streams
from labkit.capture.transactions import diameter_pairs, rpc_pairs, transactions

__all__ = ["calls", "dialogs", "diameter_pairs", "registrations", "rpc_pairs", "rtp_streams", "transactions"]
