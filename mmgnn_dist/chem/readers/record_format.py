"""What a format of raw records is: its suffixes, how its records are cut, looked at and parsed.

A format is asked in two passes. The first cuts a stream into records and looks at each of them, to count
them and to learn the columns; the second cuts again, and whoever gets a record parses it. The archives,
folders and compressed files around the records are no concern of a format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO, ClassVar

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.readers.record import Record


class RecordFormat(ABC):
    """A text format in which one file holds the records of one or many molecules.

    An installed package adds one by the entry point group `mmgnn_dist.readers`.

    Attributes:
        suffixes: of its files, such as `.xyz`, in lower case; that of a compressed file apart.
    """

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def cut(self, stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
        """Cut a stream into raw records, one molecule each, without understanding them.

        Every record that is given counts: it is kept in the end, or set aside. A fault of the stream itself
        is raised by its `read` and `readline` as `BadRecord` and becomes the last record.
        """

    @abstractmethod
    def columns(self, raw: bytes) -> dict[str, str]:
        """What a raw record says of its molecule besides the geometry: text by name of the column."""

    @abstractmethod
    def parse(self, raw: bytes, name: str) -> Record:
        """The molecule of one raw record.

        Args:
            raw: one record, as `cut` gives it.
            name: id of a molecule whose record has none of its own.

        Raises:
            BadRecord: what keeps the record from being a molecule; `ValueError` and `LookupError` do as well.
        """

    def is_qm9(self, raw: bytes) -> bool:
        """Whether a raw record is one of QM9, as published in this format."""
        return False
