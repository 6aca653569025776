"""A table as plain values: what a database or an API gives when it gives many things of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows under names of columns. Amounts are Decimal, times have zones."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> pd.DataFrame:
        """As a DataFrame; columns of Decimal stay Decimal (dtype object), so that no cent is lost."""
        import pandas as pd

        return pd.DataFrame({name: [row[at] for row in self.rows] for at, name in enumerate(self.columns)})
