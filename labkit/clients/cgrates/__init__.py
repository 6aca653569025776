"""CGrateS's JSON-RPC door, typed: tariffs, accounts, CDRs, costs and prepaid sessions."""

from labkit.clients.cgrates.client import Cgrates
from labkit.clients.cgrates.duplex import CgratesDuplex, Disconnect
from labkit.clients.cgrates.events import Event
from labkit.clients.cgrates.month import Month
from labkit.clients.cgrates.tariff import Destination, Period, Plan, Price, Profile, Rate, Slot, Tariff
from labkit.clients.cgrates.values import Account, Balance, Cdr, Charge, Cost, Sample, Session

__all__ = [
    "Account",
    "Balance",
    "Cdr",
    "Cgrates",
    "CgratesDuplex",
    "Charge",
    "Cost",
    "Destination",
    "Disconnect",
    "Event",
    "Month",
    "Period",
    "Plan",
    "Price",
    "Profile",
    "Rate",
    "Sample",
    "Session",
    "Slot",
    "Tariff",
]
