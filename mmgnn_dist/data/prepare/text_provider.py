"""What a provider of text is: it gives text fields for some molecules, and says where they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import pyarrow as pa

from mmgnn_dist.chem.molecules import Molecules


class TextProvider(ABC):
    """A source of text fields, such as RDKit. It is made anew for every chunk of molecules.

    An installed package adds one by the entry point group `mmgnn_dist.text_providers`; the name of its entry
    point is what `data.providers` calls it.

    Attributes:
        name: what `data.providers` calls it.
        version: of whatever makes the text, "" where it has none: with another version, the shard set is
            another one.
        fields: the text fields that it may give, of `config.TEXT_FIELDS`.
        asks_all: whether it is given every molecule, and not only those that still lack one of its fields.
    """

    name: str
    version: str
    fields: tuple[str, ...]
    asks_all: ClassVar[bool] = False

    @abstractmethod
    def texts(self, molecules: Molecules) -> pa.Table:
        """The text fields of some molecules.

        It depends on the molecules alone, so that shards do not depend on how many workers make them.

        Args:
            molecules: n molecules, not checked yet: of some, `fault` says that they could not be read.

        Returns:
            n rows with columns of `fields`, null where there is nothing to say, in any form that
            `join.clean_text` reads; a table that is in clean form already is taken as it is. A column
            `field_sources` (a JSON object, field to origin) may name the origins; else it is the provider's
            name and version.
        """
