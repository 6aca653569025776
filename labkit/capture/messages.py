"""What one capture holds: its table, its messages, the names of its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_FEW = 1 << 14
"""So many messages may be Python objects each; more stay packed until one is looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """The messages of one capture."""

    table: pd.DataFrame
    """One row a message, COLUMNS in order, index 0..n-1 in the order of frames."""
    raw: Sequence[bytes]
    """The messages themselves, raw[i] belongs to row i."""
    names: dict[str, str]
    """Names of nodes by "address" or "address:port"."""
    warning: str = ""
    """Empty, or one sentence on a truncated or damaged capture."""
    notes: tuple[str, ...] = ()
    """A sentence for each kind of thing that the capture lacks, that cannot be read, or that had to be dropped."""

    def __len__(self) -> int:
        return len(self.raw)


class PackedMessages(Sequence[bytes]):
    """Many messages in one piece of memory; each becomes bytes when it is asked for."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._column[index].to_pylist()
        return self._column[int(index)].as_py()

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._column), _FEW):
            yield from self._column.slice(start, _FEW).to_pylist()


def raw_messages(column: pa.ChunkedArray) -> Sequence[bytes]:
    """Give a column of binary values as messages: a list where they are few."""
    return column.to_pylist() if len(column) <= _FEW else PackedMessages(column)
