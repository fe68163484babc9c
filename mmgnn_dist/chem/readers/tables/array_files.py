"""Arrays in HDF5 and npz files behind one interface: shape, type, and slices that are read on demand.

HDF5 files are opened for reading without a lock; links to other files are not followed. The arrays of an
npz file are read from where they stand in the archive; arrays of Python objects, which are pickles, are
refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmgnn_dist.errors import need

WHOLE_MOST = 1 << 28  # bytes of an array that is read as a whole
HDF5_SUFFIXES, NPZ_SUFFIXES = (".h5", ".hdf5"), (".npz",)


class StoredArray(Protocol):
    """An array on disk."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: Any) -> Any:
        """Return a slice along the first axis."""
        ...


Arrays = dict[str, StoredArray]


class Hdf5Groups:
    """An HDF5 file as groups of arrays."""

    def __init__(self, path: Path):
        try:
            import h5py
        except ImportError:
            raise need("h5py", "arrays") from None
        self._h5py = h5py
        self._file = h5py.File(path, "r", locking=False)

    def walk(self) -> Iterator[tuple[str, Arrays]]:
        """Yield (name, arrays) of each group that has arrays, in the order of names."""
        yield from self._below(self._file, "")

    def arrays(self, group: str) -> Arrays:
        """Return the arrays of one group."""
        return self._of(self._file[group] if group else self._file)

    def _below(self, group: Any, name: str) -> Iterator[tuple[str, Arrays]]:
        if arrays := self._of(group):
            yield name, arrays
        for key in sorted(group):
            is_hard = isinstance(group.get(key, getlink=True), self._h5py.HardLink)
            if is_hard and isinstance(inner := group[key], self._h5py.Group) and name.count("/") < 8:
                yield from self._below(inner, f"{name}/{key}" if name else key)

    def _of(self, group: Any) -> Arrays:
        """Return the arrays of a group that are in this file."""
        found: Arrays = {}
        for key in group:
            if isinstance(group.get(key, getlink=True), self._h5py.HardLink):
                item = group[key]
                if isinstance(item, self._h5py.Dataset) and not item.external and not item.is_virtual:
                    found[key] = item
        return found


class NpzGroups:
    """An npz file as one group of arrays."""

    def __init__(self, path: Path):
        self._archive = zipfile.ZipFile(path)
        self._arrays: Arrays = {
            name.removesuffix(".npy"): NpzArray(self._archive, name)
            for name in self._archive.namelist()
            if name.endswith(".npy")
        }

    def walk(self) -> Iterator[tuple[str, Arrays]]:
        """Yield the one group, which has no name."""
        yield "", self._arrays

    def arrays(self, group: str) -> Arrays:
        """Return the arrays of the group."""
        return self._arrays


class NpzArray:
    """One array of an npz file; only its header is read before its rows are asked for."""

    def __init__(self, archive: zipfile.ZipFile, name: str):
        self._archive, self._name = archive, name
        self._stream = archive.open(name)
        version = np.lib.format.read_magic(self._stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        self.shape, self._fortran, self.dtype = read(self._stream)
        self._start = self._stream.tell()
        self._row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, rows: Any) -> Any:
        """Return a slice along the first axis; of an array without axes, its value."""
        if self.dtype.hasobject:
            raise ValueError(f"{self._name} holds pickled Python objects, which are not read")
        if not self.shape or self._fortran:
            return self._whole()[rows]
        start, stop, _ = rows.indices(self.shape[0])
        at = self._start + start * self._row
        if self._stream.tell() != at:
            self._stream.seek(at)
        size = max(stop - start, 0) * self._row
        content = self._stream.read(size)
        if len(content) < size:
            raise ValueError(f"{self._name} is cut off")
        return np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])

    def _whole(self) -> np.ndarray:
        count = int(np.prod(self.shape, dtype=np.int64))
        if count * self.dtype.itemsize > WHOLE_MOST:
            raise ValueError(f"{self._name} is in Fortran order and too large: save it in C order")
        self._stream.seek(self._start)
        content = self._stream.read(count * self.dtype.itemsize)
        return np.frombuffer(content, self.dtype).reshape(self.shape, order="F")


def open_arrays(path: Path) -> Hdf5Groups | NpzGroups:
    """Open a file of arrays by its suffix."""
    return NpzGroups(path) if path.suffix.lower() in NPZ_SUFFIXES else Hdf5Groups(path)


def array_texts(values: Any) -> list[str]:
    """Return an array of strings or bytes as text."""
    items = np.asarray(values).ravel().tolist()
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in items]
