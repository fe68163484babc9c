"""The interface of a format of raw records: its suffixes, and how its records are cut, inspected and parsed.

A source uses a format in two passes. The first cuts a stream into records and inspects each of them, to
count them and to learn the columns; the second cuts again and parses the records. A format does not handle
the archives, folders and compressed files around the records.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
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

    def own_id(self, raw: bytes, values: Mapping[str, str]) -> str | None:
        """Return the id that a raw record gives itself, without parsing it; None if it has none.

        Records of one source with the same id are told apart by a number.

        Args:
            raw: one record, as `cut` yields it.
            values: what `columns` returns for it.
        """
        return None

    def remarks(self, raw: bytes) -> Iterable[str]:
        """Return what the user should know about a raw record that can be read; equal remarks are counted."""
        return ()

    def describe(self, raw: bytes) -> str:
        """Say what a raw record gives beside its geometry, for a message on a source without targets."""
        return ""

    def parse_with_hydrogens(self, raw: bytes, name: str) -> Record:
        """Parse a record that `parse` refuses because its hydrogens are missing, and add them.

        Raises:
            BadRecord: see `parse`; or this format does not tell where hydrogens are missing.
        """
        return self.parse(raw, name)
