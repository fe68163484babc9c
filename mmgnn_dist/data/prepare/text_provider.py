"""Base class of text providers, which give text fields of molecules and state their origin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from functools import cached_property
from typing import ClassVar

import pyarrow as pa

from mmgnn_dist.chem.molecules import Molecules


class TextProvider(ABC):
    """A source of text fields, such as RDKit. A new instance is made for every chunk of molecules.

    An installed package adds one by the entry point group `mmgnn_dist.text_providers`; the name of its entry
    point is its name in `data.providers`.

    Attributes:
        name: its name in `data.providers`.
        version: version of the software that makes the text, or ""; another version makes another shard set.
        fields: the text fields that it may give, out of `config.TEXT_FIELDS`.
        asks_all: whether it gets every molecule, or only those that still lack one of its fields.
    """

    name: str
    version: str
    fields: tuple[str, ...]
    asks_all: ClassVar[bool] = False

    @cached_property
    def without_text(self) -> Counter[str]:
        """How many molecules it gave no text, by reason, if it counts them."""
        return Counter()

    @abstractmethod
    def texts(self, molecules: Molecules) -> pa.Table:
        """Return the text fields of some molecules.

        The result must depend on the molecules only, so that shards do not depend on the number of workers.

        Args:
            molecules: n molecules, not checked yet; `fault` marks those that could not be read.

        Returns:
            n rows with columns of `fields`, null where absent, in any form that `join.clean_text` reads;
            a table in clean form is taken as it is. A column `field_sources` (a JSON object, field to origin)
            may give the origins; the default origin is the provider's name and version.
        """
