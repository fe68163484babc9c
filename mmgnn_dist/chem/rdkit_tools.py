"""RDKit where it is needed, with its messages caught instead of printed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmgnn_dist.errors import need


def chem() -> Any:
    """The module rdkit.Chem.

    Raises:
        UserError: RDKit is not installed.
    """
    try:
        from rdkit import Chem
    except ImportError:
        raise need("rdkit", "data") from None
    return Chem


def rdkit_version() -> str:
    """Version of the RDKit that is installed: with another one, conformers and descriptors may differ.

    Raises:
        UserError: none is.
    """
    chem()
    from rdkit import rdBase

    return str(rdBase.rdkitVersion)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if text:
            self.lines.append(text)


@contextmanager
def logged() -> Iterator[list[str]]:
    """Gives the list to which RDKit's messages go, and nowhere else, until the block ends."""
    from rdkit import rdBase

    rdBase.LogToPythonLogger()
    logger = logging.getLogger("rdkit")
    handler = _Lines()
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield handler.lines
    finally:
        logger.handlers, logger.propagate = before
