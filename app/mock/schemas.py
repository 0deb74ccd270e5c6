"""Values that fit a JSON schema: arguments for tool calls, and structured output."""

import re

_PLACE = re.compile(r"\b(?:in|for|at|of) ((?:[A-Z]\w+)(?: [A-Z]\w+)*)")
_DEEPEST = 8


def example(schema: object, question: str) -> object:
    """A value that fits the schema as far as the mock understands it; strings take a proper name from the question."""
    place = _PLACE.search(question)
    return _Example(schema, place[1] if place else "mock").value(schema)


class _Example:
    def __init__(self, root: object, word: str) -> None:
        self._root = root
        self._word = word

    def value(self, schema: object, depth: int = 0) -> object:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return self._word
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            return choices[0]
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]), depth + 1)
        for union in ("anyOf", "oneOf", "allOf"):
            if choices := schema.get(union):
                return self.value(choices[0], depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, object], depth: int) -> object:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        match kind:
            case "object":
                parts = schema.get("properties")
                named = parts if isinstance(parts, dict) else {}
                return {name: self.value(part, depth + 1) for name, part in named.items()}
            case "array":
                return [self.value(schema.get("items"), depth + 1)]
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._word

    def _resolve(self, reference: object) -> object:
        found = self._root
        for step in str(reference).removeprefix("#").strip("/").split("/"):
            found = found.get(step) if isinstance(found, dict) and step else found
        return found
