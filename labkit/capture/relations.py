"""How rows of the table belong together: keys of several columns, questions with their answers.

Whole columns at a time, so that a million rows take a second or two. Positions are row positions 0..n-1 of the table;
-1 stands for "there is none".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Positions = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]


def truth(column: Any) -> Mask:
    """Give a nullable boolean column as numpy booleans; absent is False."""
    import numpy as np
    import pandas as pd

    if isinstance(column, np.ndarray):
        return column.astype(bool)
    return np.asarray(pd.Series(column).fillna(False), dtype=bool)


def hops(table: pd.DataFrame) -> tuple[pd.Series[str], pd.Series[str]]:
    """Names of the two ends of each row, addresses where they have none."""
    return table["src_node"].fillna(table["src"]), table["dst_node"].fillna(table["dst"])


def codes(*columns: Any) -> Positions:
    """Number the distinct combinations of the columns: equal rows get equal numbers. Absent equals absent."""
    import numpy as np
    import pandas as pd

    combined: Positions | None = None
    for column in columns:
        numbers, kinds = pd.factorize(pd.Series(column).reset_index(drop=True), use_na_sentinel=False)
        part = numbers.astype(np.int64)
        if combined is None:
            combined = part
        else:
            combined = np.unique(combined * (len(kinds) + 1) + part, return_inverse=True)[1].astype(np.int64)
    assert combined is not None, "a key needs a column"
    return combined


def ends_of_request(here: Any, there: Any, is_answer: Mask) -> tuple[Any, Any]:
    """Give (who asked, who was asked) for each row: an answer travels the other way."""
    return here.where(~is_answer, there), there.where(~is_answer, here)


def first_of_each(key: Positions, where: Mask) -> tuple[Positions, Positions, Positions]:
    """Give (keys, position of the first row of each, number of rows of each) among the rows of `where`."""
    import numpy as np

    at = np.flatnonzero(where)
    keys, first, counts = np.unique(key[at], return_index=True, return_counts=True)
    return keys, at[first], counts


def matching(keys: Positions, wanted: Positions, positions: Positions) -> Positions:
    """Look up `positions` (one for each of the sorted `keys`) by the wanted keys; -1 where a key is not there."""
    import numpy as np

    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, positions[at], -1).astype(np.int64)


def taken(column: Any, positions: Positions) -> Any:
    """Give the values of a column at positions, absent where the position is -1; a fresh index."""
    import pandas as pd

    array = pd.Series(column).array
    values = array.take(positions, allow_fill=True) if len(array) else array[:0]
    return pd.Series(values)


def seconds_between(table: pd.DataFrame, begin: Positions, end: Positions) -> Any:
    """Give the time from one row to another in seconds, absent where there is no other."""
    import numpy as np
    import pandas as pd

    times = table["time"].to_numpy(dtype="datetime64[ns]").astype(np.int64)
    if not len(times):
        return pd.array([], dtype="Float64")
    spans = (times[end] - times[begin]) / 1e9
    return pd.arrays.FloatingArray(np.where(end >= 0, spans, 0.0), end < 0)


def timestamps(times_ns: list[int]) -> Any:
    """Give nanoseconds since 1970 as UTC timestamps."""
    import pandas as pd

    return pd.to_datetime(pd.Series(times_ns, dtype="int64"), unit="ns", utc=True)


_TEXT = {
    *("from", "to", "method", "call_id", "call_ids", "branch", "reason", "command", "session_id", "user_name"),
    *("public_identity", "server_name", "from_user", "to_user", "ended_by", "user", "diameter", "src", "dst"),
    *("from_tag", "to_tag", "state", "joined_by", "codec", "protocol", "number", "error"),
}
_FLOAT_ENDINGS = ("_s", "_ms")


def result(columns: Mapping[str, Any], first: Iterable[str] = ("frame", "time", "from", "to")) -> pd.DataFrame:
    """Make a DataFrame with nullable types; the columns named in `first` lead."""
    import pandas as pd

    order = [*first, *(name for name in columns if name not in set(first))]
    return pd.DataFrame({name: _typed(name, columns[name]) for name in order})


def _typed(name: str, values: Any) -> Any:
    import pandas as pd

    if name == "time":
        return pd.to_datetime(pd.Series(values), utc=True).dt.as_unit("ns").reset_index(drop=True)
    dtype: Any = "string" if name in _TEXT else "Float64" if name.endswith(_FLOAT_ENDINGS) else "Int64"
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True).astype(dtype)
    return pd.array(values, dtype=dtype)
