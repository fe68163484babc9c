"""The common form of every part of a recipe."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict

# marks a key, in its annotation, that came after runs had been begun without it: where it has its default it
# is no part of a run's identity, so that a recipe has the fingerprint that it had before
ADDED_LATER: Final = "added later"


class ConfigSection(BaseModel):
    """A part of a recipe: unknown keys are refused, values are not coerced silently."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    def without_later_defaults(self, dumped: dict[str, Any]) -> dict[str, Any]:
        """Leave out keys that were added later where they have their default.

        Args:
            dumped: this section as plain values, or a part of it.
        """
        kept = {}
        for name, value in dumped.items():
            field, current = type(self).model_fields[name], getattr(self, name)
            if ADDED_LATER in field.metadata and current == field.get_default(call_default_factory=True):
                continue
            kept[name] = (
                current.without_later_defaults(value) if isinstance(current, ConfigSection) else value
            )
        return kept
