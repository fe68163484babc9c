"""The interface of a format of raw records: its suffixes, and how its records are cut, inspected and parsed.

A source uses a format in two passes. The first cuts a stream into records and inspects each of them, to
count them and to learn the columns; the second cuts again and parses the records. A format does not handle
the archives, folders and compressed files around the records.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO, ClassVar

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.readers.record import Record


class RecordFormat(ABC):
    """A text format in which one file holds the records of one or many molecules.

    An installed package adds one through the entry point group `mmgnn_dist.readers`.

    Attributes:
        suffixes: suffixes of its files in lower case, such as `.xyz`, without those of compression.
    """

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def cut(self, stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
        """Cut a stream into raw records, one molecule each, without parsing them.

        Every record that is yielded counts: it is kept or set aside. The stream's `read` and `readline` raise
        a fault of the stream as `BadRecord`; it becomes the last record.
        """

    @abstractmethod
    def columns(self, raw: bytes) -> dict[str, str]:
        """Return the values of a raw record other than its geometry, as text by column name."""

    @abstractmethod
    def parse(self, raw: bytes, name: str) -> Record:
        """Parse the molecule of one raw record.

        Args:
            raw: one record, as `cut` yields it.
            name: id of the molecule if its record has none.

        Raises:
            BadRecord: the record is no molecule; `ValueError` and `LookupError` have the same effect.
        """

    def is_qm9(self, raw: bytes) -> bool:
        """Whether a raw record is one of QM9 as published in this format."""
        return False
