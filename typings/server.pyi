from typing import Any

class PromptServer:
    instance: Any
