"""RDKit, imported where it is needed, with its messages collected instead of printed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmgnn_dist.errors import need

TIME = re.compile(r"^\[\d\d:\d\d:\d\d\] ")  # before a message; the same input gives the same words


def chem() -> Any:
    """Return the module rdkit.Chem.

    Raises:
        UserError: RDKit is not installed.
    """
    try:
        from rdkit import Chem
    except ImportError:
        raise need("rdkit", "data") from None
    return Chem


def rdkit_version() -> str:
    """Return the version of RDKit; with another version, conformers and descriptors may differ.

    Raises:
        UserError: RDKit is not installed.
    """
    chem()
    from rdkit import rdBase

    return str(rdBase.rdkitVersion)


def without_atom_maps(molecule: Any) -> Any:
    """Return an RDKit molecule with its atom-map numbers set to 0: they name atoms, and are no part of it."""
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    return molecule


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = TIME.sub("", " ".join(record.getMessage().split()))
        if text:
            self.lines.append(text)


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect RDKit's messages in a list inside the block instead of printing them."""
    from rdkit import rdBase

    rdBase.LogToPythonLogger()
    logger = logging.getLogger("rdkit")
    handler = _Lines()
    previous = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield handler.lines
    finally:
        logger.handlers, logger.propagate = previous
