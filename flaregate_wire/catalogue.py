"""What is known of an estimator's class without importing it: a row of the gateway's catalogue."""

from pydantic import Field

from flaregate_wire.definitions import Ability, Signature


class Row(Signature):
    """The signature of a class, and what an object of it needs and takes from the estimators in it."""

    required: tuple[str, ...] = Field(default=(), description="Parameters without which it cannot be built.")
    follows: str | None = Field(
        default=None,
        description="The parameter that holds the estimator, or the steps of which the last, that says what it is.",
    )
    lent: tuple[Ability, ...] = Field(default=(), description="Abilities that it has only where that one has them.")
