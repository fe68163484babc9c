"""Arrow's many types for the same values, in the few forms that the readers of tables work with.

Views, dictionaries (also inside lists), run-end encoding, decimals, half floats and extension types become
plain strings, bytes, floats and lists. A column that is plain already is returned as it is, without a copy.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


def plain_table(table: pa.Table) -> pa.Table:
    """Return a table with every column in plain form."""
    for index, field in enumerate(table.schema):
        if plain_type(field.type) != field.type:
            table = table.set_column(index, field.name, plain_array(flat(table.column(index))))
    return table


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def plain_array(values: pa.Array) -> pa.Array:
    """Return an array in plain form; see `plain_type` for the form of each type."""
    kind = values.type
    if plain_type(kind) == kind:
        return values
    if isinstance(kind, pa.FixedShapeTensorType):
        return _tensors(values)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_array(values.storage)
    if types.is_dictionary(kind):
        return plain_array(values.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return plain_array(pc.run_end_decode(values))
    if is_list_type(kind):
        return _lists(values)
    return pc.cast(values, plain_type(kind), safe=False)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column of type `kind` in plain form."""
    if isinstance(kind, pa.FixedShapeTensorType):
        inner = pa.large_list(plain_type(kind.value_type))
        return pa.large_list(inner) if len(kind.shape) == 2 else inner
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if is_list_type(kind):
        inner = plain_type(kind.value_type)
        is_plain = not (types.is_list_view(kind) or types.is_large_list_view(kind))
        return kind if is_plain and inner == kind.value_type else pa.large_list(inner)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_decimal(kind):
        return pa.float64()
    return pa.float32() if types.is_float16(kind) else kind


def is_list_type(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's lists."""
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def is_number_type(kind: pa.DataType) -> bool:
    """Whether a type, in any form, is a number."""
    plain = plain_type(kind)
    return bool(types.is_integer(plain) or types.is_floating(plain))


def is_text_type(kind: pa.DataType) -> bool:
    """Whether a type, in any form, is text."""
    plain = plain_type(kind)
    return bool(types.is_string(plain) or types.is_large_string(plain))


def list_sizes(lists: pa.Array) -> np.ndarray:
    """Return the length of each list, 0 for null, int64 [n]."""
    return np.asarray(pc.list_value_length(lists).fill_null(0), dtype=np.int64)


def _lists(lists: pa.Array) -> pa.Array:
    """Return lists as large_list; Arrow's own cast of list views loses values beside nulls."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(list_sizes(lists))])
    inner = plain_array(lists.flatten())
    return pa.LargeListArray.from_arrays(pa.array(offsets), inner, mask=lists.is_null())


def _tensors(tensors: pa.Array) -> pa.Array:
    """Return tensors of one shape as lists, those of two dimensions as lists of lists."""
    lists = _lists(tensors.storage)
    shape = tensors.type.shape
    if len(shape) != 2:
        return lists
    values = lists.flatten()
    inner_ends = np.arange(0, len(values) + 1, shape[1])
    inner = pa.LargeListArray.from_arrays(pa.array(inner_ends), values)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(list_sizes(lists) // shape[1])])
    return pa.LargeListArray.from_arrays(pa.array(offsets), inner, mask=lists.is_null())
