"""Values that are changed by making new ones: every state a ``decide()`` is given and gives back."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

_new = object.__new__
_set_fields = object.__setattr__
if TYPE_CHECKING:
    from dataclasses import replace
else:

    def replace(value, /, **changes):
        """Return a frozen dataclass with some fields changed, as dataclasses.replace does, without running __init__.

        A repayment makes some twenty of them, and __init__ of a frozen class sets field by field: this takes a fifth of
        the time. For classes without slots, __post_init__ and init=False. Raises TypeError for an unknown field.
        """
        known = value.__dict__
        fields = known | changes
        if len(fields) != len(known):
            raise TypeError(f"{type(value).__name__} has no such field: {', '.join(changes)}")
        made = _new(type(value))
        _set_fields(made, "__dict__", fields)
        return made


P = ParamSpec("P")
V = TypeVar("V")


class _Plain:
    """Fields and nothing else."""


def plain(value: V) -> V:
    """Return ``value``'s fields as a value of no class, for a function that reads many fields of a pydantic model.

    Each is read in half the time: since pydantic's models have a __getattr__, Python takes its slow way to any field.
    """
    seen: Any = _new(_Plain)
    seen.__dict__ = value.__dict__
    return cast(V, seen)


def at_once(kind: type[V]) -> type[V]:
    """Let a frozen dataclass set its fields at once; its own __init__ does it field by field, in up to twice the time.

    It is called as before and makes the same. For the classes ``replace`` is for.
    """
    given, kept, scope = _written(kind)
    code = f"def __init__(self, {given}): set_fields(self, '__dict__', {kept})"
    exec(code, scope)  # noqa: S102 - made of the names of our own fields, as dataclasses makes its own
    type.__setattr__(kind, "__init__", scope["__init__"])
    return kind


def built(kind: Callable[P, V]) -> Callable[P, V]:
    """Return a constructor of a frozen dataclass that takes its fields by name, faster than a class can be called.

    For the classes ``replace`` is for. Raises TypeError for a field that the class does not have, and for one left out
    that has no default.
    """
    given, kept, scope = _written(cast(type[V], kind))
    code = f"def make(*, {given}): made = new(kind); set_fields(made, '__dict__', {kept}); return made"
    exec(code, scope)  # noqa: S102 - as above
    return cast(Callable[P, V], scope["make"])


def _written(kind: type[Any]) -> tuple[str, str, dict[str, Any]]:
    """Return a class's parameters and the dict of its fields as code, and what the code names."""
    scope: dict[str, Any] = {"new": _new, "kind": kind, "set_fields": _set_fields, "MISSING": MISSING}
    given, kept = [], []
    for each in fields(kind):
        name, default = each.name, f"default_{each.name}"
        if each.default_factory is not MISSING:
            scope[default] = each.default_factory
            given.append(f"{name}=MISSING")
            kept.append(f"'{name}': {default}() if {name} is MISSING else {name}")
        else:
            scope[default] = each.default
            given.append(name if each.default is MISSING else f"{name}={default}")
            kept.append(f"'{name}': {name}")
    return ", ".join(given), f"{{{', '.join(kept)}}}", scope


__all__ = ["at_once", "built", "replace"]
