"""Money is an integer of minor units and an ISO 4217 code, never a float, never a sum across currencies."""

from typing import Annotated

from pydantic import Field, StringConstraints

AMOUNT_MAX = 10**15
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217 alphabetic code; 1000.00 CNY is 100000 with CNY, 1000 JPY is 1000 with JPY (R26)."""
AmountMinor = Annotated[int, Field(gt=0, le=AMOUNT_MAX)]
"""A positive amount in minor units."""
ShareMinor = Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
"""A part of an amount in minor units, zero allowed."""
BalanceMinor = Annotated[int, Field(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]
"""A balance or a change in minor units, of either sign."""
