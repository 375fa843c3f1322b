"""Values that fit a JSON schema, chosen by a seed: what structured output and tool arguments are made of."""

from __future__ import annotations

import zlib
from typing import Any

from lmbridge.emulator.errors import EmulatedError

Schema = dict[str, Any]
MAX_DEPTH = 24
_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "email": "ada@example.org",
    "uri": "https://example.org/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "ipv4": "192.0.2.1",
    "hostname": "example.org",
}


def example(schema: Schema, salt: str) -> Any:
    """Return a value that the schema accepts.

    Handles type (also lists of types), properties, required, items, prefixItems, enum, const, anyOf, oneOf,
    allOf, $ref, numeric and length bounds, multipleOf and common formats; `pattern` and `not` are ignored.

    Args:
        schema: the schema; local references are resolved in it.
        salt: another salt gives other values.

    Raises:
        EmulatedError: it is no schema (the text is assumed).
    """
    try:
        return _Maker(schema, salt).value(schema, "value", 0)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as problem:
        raise EmulatedError(f"Invalid JSON schema: {problem}", code="invalid_schema") from None


class _Maker:
    def __init__(self, root: Schema, salt: str) -> None:
        self._root = root
        self._salt = salt

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._pick(name, len(schema["enum"]))]
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                # Beyond half the depth the shortest way out of a recursion is the last alternative.
                choice = schema[key][-1 if depth > MAX_DEPTH // 2 else self._pick(name, len(schema[key]))]
                return self.value(choice, name, depth + 1)
        kind = self._kind(schema)
        make = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
        }.get(kind)
        if make:
            return make(schema, name, depth)
        return bool(self._pick(name, 2)) if kind == "boolean" else None

    def _pick(self, name: str, choices: int) -> int:
        return zlib.crc32(f"{self._salt}/{name}".encode("utf-8", "surrogatepass")) % choices

    def _resolve(self, schema: Schema) -> Schema:
        for _ in range(MAX_DEPTH):
            if "$ref" in schema:
                schema = self._lookup(str(schema["$ref"]))
            elif schema.get("allOf"):
                schema = self._merged(schema)
            else:
                break
        return schema

    def _lookup(self, reference: str) -> Schema:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                found = found.get(part, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def _merged(self, schema: Schema) -> Schema:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            part = self._resolve(part)  # noqa: PLW2901 - the reference is replaced by what it means
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", []), *part.get("required", [])]
            merged = {**merged, **part}
            if properties:
                merged["properties"], merged["required"] = properties, required
        return merged

    @staticmethod
    def _kind(schema: Schema) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((entry for entry in kind if entry != "null"), "null")
        if isinstance(kind, str):
            return kind
        return (
            "array" if "items" in schema else "object" if "properties" in schema or not schema else "string"
        )

    def _object(self, schema: Schema, name: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        wanted = [key for key in properties if key in required or depth <= MAX_DEPTH // 4]
        wanted += [key for key in required if key not in properties]
        if not all(isinstance(key, str) for key in wanted):
            raise TypeError("'required' holds something else than names")
        return {key: self.value(properties.get(key, {}), f"{name}.{key}", depth + 1) for key in wanted}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        fixed = schema.get("prefixItems") or []
        values = [self.value(entry, f"{name}[{index}]", depth + 1) for index, entry in enumerate(fixed)]
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 2)))
        target = least if depth > MAX_DEPTH // 4 else max(least, min(most, 2))
        items = schema.get("items", {})
        while len(values) < min(target, 1000) and items is not False:
            values.append(self.value(items, f"{name}[{len(values)}]", depth + 1))
        return values

    def _string(self, schema: Schema, name: str, _depth: int) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        leaf = name.rpartition(".")[2]
        text = f"{leaf} {self._pick(name, 10_000):04d}"
        text = text.ljust(min(int(schema.get("minLength", 0)), 100_000), "x")
        return text[: int(schema.get("maxLength", len(text)))]

    def _integer(self, schema: Schema, name: str, _depth: int) -> int:
        step = int(schema.get("multipleOf", 1)) or 1
        low, high = self._bounds(schema)
        first = -(-low // step)
        return int((first + self._pick(name, max(int(high // step - first) + 1, 1))) * step)

    def _number(self, schema: Schema, name: str, _depth: int) -> float:
        if "multipleOf" in schema:
            return float(schema["multipleOf"]) * max(
                self._bounds(schema)[0] // float(schema["multipleOf"]), 1
            )
        low, high = self._bounds(schema)
        return float(low + (high - low) * (1 + self._pick(name, 8)) / 10)

    @staticmethod
    def _bounds(schema: Schema) -> tuple[float, float]:
        integer = schema.get("type") == "integer"
        margin = 1 if integer else 1e-6
        low = schema.get("minimum", schema.get("exclusiveMinimum", -margin) + margin)
        high = schema.get("maximum", schema.get("exclusiveMaximum", max(low, 0) + 100 + margin) - margin)
        return low, max(low, high)
