"""Reads an offline `.wandb` file: LevelDB's log format around protobuf records, written from its description.

Blocks of 32 KiB hold pieces of records, each with a header of CRC, length and kind (1 whole, 2 first,
3 middle, 4 last); a record never begins in the last six bytes of a block. CRCs are not checked.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, pieces = HEADER, []
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        if kind == 0 and length == 0:
            return
        pieces.append(data[position + HEADER : position + HEADER + length])
        position += HEADER + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(b"".join(pieces))
            pieces = []
            yield record


def name(item: Any) -> str:
    return ".".join(item.nested_key) if item.nested_key else item.key


def read(segment: Path) -> dict[str, Any]:
    """History rows, configuration, summary, artifacts and the run's record of one offline segment."""
    (path,) = segment.glob("*.wandb")
    found: dict[str, Any] = {"history": [], "config": {}, "summary": {}, "artifacts": [], "exit": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            found["history"].append({name(i): json.loads(i.value_json) for i in record.history.item})
        elif kind == "run":
            found["run"] = record.run
            found["config"] |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
        elif kind == "summary":
            found["summary"] |= {name(i): json.loads(i.value_json) for i in record.summary.update}
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found
