"""The common base class of every section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel, ConfigDict

# in the annotation of a key: the key was added after runs had been started without it. With its default value
# it is not part of a run's identity, so that an older recipe keeps its fingerprint
ADDED_LATER: Final = "added later"


@dataclass(frozen=True)
class MeantBefore:
    """In the annotation of a key that was added later with a default that changes results.

    What was stored without the key means `value`; with this value the key is not part of a run's identity.
    """

    value: Any


class ConfigSection(BaseModel):
    """A section of a recipe, which refuses unknown keys.

    Values are converted in pydantic's lax way: `1e-3`, a string to YAML, becomes 0.001, `"5"` and 5.0 become
    5, `"yes"` and 1 become true, and true becomes 1. A conversion that would lose something (5.5 to an
    integer, a number to a string) is refused.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True)

    @classmethod
    def with_earlier_meanings(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """Add to stored values the keys that they lack and that meant something else than the default does.

        Args:
            raw: this section as plain values.

        Returns:
            The values with these keys.
        """
        filled = dict(raw)
        for name, field in cls.model_fields.items():
            meant = [entry.value for entry in field.metadata if isinstance(entry, MeantBefore)]
            if meant and name not in raw:
                filled[name] = meant[0]
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, ConfigSection):
                    inner = raw.get(name, {} if field.annotation is kind else None)
                    if isinstance(inner, dict) and (added := kind.with_earlier_meanings(inner)) != inner:
                        filled[name] = added
        return filled

    def without_later_defaults(self, dumped: dict[str, Any]) -> dict[str, Any]:
        """Leave out keys that were added later and have their default.

        Args:
            dumped: this section as plain values, or a part of it.

        Returns:
            The remaining values.
        """
        kept = {}
        for name, value in dumped.items():
            field, current = type(self).model_fields[name], getattr(self, name)
            if ADDED_LATER in field.metadata and current == field.get_default(call_default_factory=True):
                continue
            if MeantBefore(current) in field.metadata:
                continue
            kept[name] = (
                current.without_later_defaults(value) if isinstance(current, ConfigSection) else value
            )
        return kept
