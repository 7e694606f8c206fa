"""What containers cost: amounts of money from times, sizes and the platform's price. Pure; unknown stays unknown."""

from decimal import ROUND_HALF_UP, Decimal

from flaregate_wire.jobs import Cluster, Usage
from gateway.launchers.base import Price

UNKNOWN = "unknown"
_GIB = 1024**3
_PLACES = Decimal("0.000001")


def priced(usage: Usage, price: Price | None) -> Usage:
    """The usage with its cost."""
    return usage.model_copy(update={"cost": UNKNOWN if price is None else money(cost(usage, price), price)})


def cost(usage: Usage, price: Price) -> Decimal:
    """What a usage costs."""
    return Decimal(usage.vcpu_seconds) * price.vcpu_second + Decimal(usage.gib_seconds) * price.gib_second


def rate(cluster: Cluster, price: Price) -> Decimal:
    """What a second of all the containers of a cluster costs."""
    each = Decimal(cluster.cpus) * price.vcpu_second + Decimal(cluster.memory) / _GIB * price.gib_second
    return each * cluster.instances


def money(amount: Decimal, price: Price) -> str:
    """An amount as it is written: `0.012345 USD`."""
    return f"{amount.quantize(_PLACES, ROUND_HALF_UP):f} {price.currency}"


def amount_of(text: str) -> tuple[Decimal, str]:
    """Amount and currency of `0.50 USD`."""
    amount, _, currency = text.partition(" ")
    return Decimal(amount), currency
