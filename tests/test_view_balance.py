"""Pictures of money: what is drawn is what was seen."""

from __future__ import annotations

import plotly.graph_objects as go

from labkit.view.balance import balance_figure, ledger_figure


def test_a_balance_is_a_staircase() -> None:
    """Steps at the moments of the looks; what open calls have taken only where there is any."""
    drawn = go.Figure(balance_figure([0, 1, 2], [0.035, 0.025, 0.015], [0, 0.01, 0.02], title="money"))
    money, taken = drawn.data
    assert (list(money.x), list(money.y), money.line.shape) == ([0, 1, 2], [0.035, 0.025, 0.015], "hv")
    assert (taken.name, list(taken.y)) == ("taken by open calls", [0, 0.01, 0.02])
    assert len(go.Figure(balance_figure([0], [1.0], [0])).data) == 1


def test_each_step_of_a_ledger_is_a_column_of_all_the_money() -> None:
    """Free, reserved and spent stand on each other, under the words of their step."""
    parts = {"free": [0.9, 0.3], "reserved": [0, 0.6], "spent": [0, 0]}
    drawn = go.Figure(ledger_figure(["before", "initiate, 60 s"], parts, dark=True))
    assert drawn.layout.barmode == "stack"
    assert list(drawn.layout.xaxis.ticktext) == ["before", "initiate,<br>60 s"]
    assert {bar.name: list(bar.y) for bar in drawn.data} == parts
