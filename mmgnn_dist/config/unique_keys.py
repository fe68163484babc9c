"""YAML as `yaml.safe_load` reads it, except that a key which stands twice in a mapping is refused.

The YAML standard forbids such a mapping; PyYAML keeps the last value in silence, so that a recipe with two
sections `train` would lose the first one.
"""

from __future__ import annotations

from typing import Any

import yaml


class _UniqueKeys(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            word, line = (key.tag, key.value), key.start_mark.line + 1
            if word in lines:
                first = lines[word]
                where = f"lines {first} and {line}" if line != first else f"line {line}"
                raise yaml.YAMLError(f"key '{key.value}' stands twice ({where}): join or rename them")
            lines[word] = line
        return node


def load_yaml(text: str) -> Any:
    """Read one YAML document of plain values.

    Raises:
        yaml.YAMLError: it is no YAML, or a key stands twice in a mapping.
    """
    return yaml.load(text, Loader=_UniqueKeys)
