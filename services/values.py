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


def at_once(kind: type[V]) -> type[V]:
    """Let a frozen dataclass set its fields at once; its own __init__ does it field by field, in up to twice the time.

    It is called as before and makes the same. For the classes ``replace`` is for.
    """
    given: list[str] = []
    kept: list[str] = []
    scope: dict[str, Any] = {"set_fields": _set_fields, "MISSING": MISSING}
    for each in fields(cast(Any, kind)):
        name, default = each.name, f"default_{each.name}"
        if each.default_factory is not MISSING:
            scope[default] = each.default_factory
            given.append(f"{name}=MISSING")
            kept.append(f"'{name}': {default}() if {name} is MISSING else {name}")
        else:
            scope[default] = each.default
            given.append(name if each.default is MISSING else f"{name}={default}")
            kept.append(f"'{name}': {name}")
    code = f"def __init__(self, {', '.join(given)}): set_fields(self, '__dict__', {{{', '.join(kept)}}})"
    exec(code, scope)  # noqa: S102 - made of the names of our own fields, as dataclasses makes its own
    type.__setattr__(kind, "__init__", scope["__init__"])
    return kind


def built(kind: Callable[P, V]) -> Callable[P, V]:
    """Return a constructor of a frozen dataclass that takes its fields by name, for two dozen of them in two thirds of
    the time of __init__; for six or twelve it gains nothing.

    For the classes ``replace`` is for, without default_factory. Raises TypeError for a field that the class does not
    have, and for one left out that has no default.
    """
    known = fields(cast(Any, kind))
    usual, count = {each.name: each.default for each in known}, len(known)
    needed = frozenset(name for name, value in usual.items() if value is MISSING)

    def make(*_: P.args, **values: P.kwargs) -> V:
        given: dict[str, Any] = usual | values
        if len(given) != count or not needed <= values.keys():
            wrong = sorted((needed - values.keys()) | (values.keys() - usual.keys()))
            raise TypeError(f"{cast(type, kind).__name__} has other fields: {', '.join(wrong)}")
        value: V = _new(cast(type[V], kind))
        _set_fields(value, "__dict__", given)
        return value

    return make


__all__ = ["at_once", "built", "replace"]
