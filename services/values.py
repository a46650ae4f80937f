"""Values that are changed by making new ones: every state a ``decide()`` is given and gives back."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import replace
else:

    def replace(value, /, **changes):
        """Return a frozen dataclass with some fields changed, as dataclasses.replace does, without running __init__.

        A repayment makes some twenty of them, and __init__ of a frozen class sets field by field: this takes a fifth of
        the time. For classes without slots, __post_init__ and init=False. Raises TypeError for an unknown field.
        """
        made = object.__new__(type(value))
        fields = made.__dict__
        fields.update(value.__dict__)
        known = len(fields)
        fields.update(changes)
        if len(fields) != known:
            raise TypeError(f"{type(value).__name__} has no such field: {', '.join(changes)}")
        return made


__all__ = ["replace"]
