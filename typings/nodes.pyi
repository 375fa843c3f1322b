from typing import Any

NODE_CLASS_MAPPINGS: dict[str, type[Any]]
