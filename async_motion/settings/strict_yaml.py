"""YAML that means what is written.

YAML 1.1 reads `1:30:00` as 5400 (base 60), `0777` as 511 (octal), and the key `on` as true. Such a number is
an error here, because a setting would silently get another value; a key stays the text that was written.
"""

from __future__ import annotations

from typing import Any

import yaml

MAX_VALUES = 200_000
"""Maximum number of values in a text, aliases expanded."""

_TEXT = "tag:yaml.org,2002:str"
_EXPECTED = "expected a decimal number, or text in quotes"


class AmbiguousNumber(ValueError):
    """A number that YAML reads as another one than people do.

    Its text does not repeat the number, which may be a secret.
    """


class StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses ambiguous numbers; a value that its tag does not fit is a ValueError."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT002  # its own
        """Return the value of a node. Raises ValueError, yaml.YAMLError, RecursionError."""
        try:
            return super().construct_object(node, deep=deep)
        except (LookupError, AttributeError):  # such as `!!bool x`, `!!int ""`, `!!timestamp x`
            raise ValueError("a value that its tag does not fit") from None

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Return an int or a float. Raises AmbiguousNumber, ValueError."""
        digits = node.value.replace("_", "").lstrip("+-")
        if ":" in digits:
            raise AmbiguousNumber(f"a number with a colon, which YAML reads in base 60, {_EXPECTED}")
        if node.tag.endswith(":float"):
            return float(self.construct_yaml_float(node))
        if digits.isdecimal() and len(digits) > 1 and digits.startswith("0"):
            raise AmbiguousNumber(f"a number with a leading zero, which YAML reads as octal, {_EXPECTED}")
        return int(self.construct_yaml_int(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT002  # its own
        """Return a mapping whose scalar keys are text, as written."""
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = _TEXT
        return super().construct_mapping(node, deep=deep)


for _kind in ("int", "float"):
    StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", StrictLoader.construct_number)


def read_yaml(text: str) -> Any:
    """Return the plain data of a YAML text.

    Raises AmbiguousNumber, ValueError, yaml.YAMLError, RecursionError.
    """
    return read_bounded(StrictLoader, text)


def read_bounded(kind: type[yaml.SafeLoader], text: str) -> Any:
    """Return the plain data of a YAML text of at most `MAX_VALUES` values, aliases expanded.

    `kind` is the loader. Raises ValueError, yaml.YAMLError, RecursionError.
    """
    loader = kind(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        # A few lines of aliases stand for billions of values, which `<<` copies.
        if _size(root, {}) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values with all aliases, expected fewer")
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values of a node, aliases expanded. Raises ValueError, RecursionError."""
    size = known.get(id(node))
    if size == 0:
        raise ValueError("an alias that contains itself, expected a value")
    if size is None:
        known[id(node)] = 0  # until its parts are counted
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        size = known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return size
