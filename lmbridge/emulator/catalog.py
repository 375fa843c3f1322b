"""The models on the emulated machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One downloaded (or downloadable) model.

    Attributes:
        key: the model key, as in `openai/gpt-oss-20b`.
        kind: `llm` or `embedding`.
        display_name: the name for people.
        architecture: as the file says it; `gptoss` changes where reasoning is put.
        quantization: name such as `Q4_K_M`, and `bits` its bits per weight.
        size_bytes: size on disk.
        params: parameter count for people, as `4B`.
        max_context_length: what the model could hold, in tokens.
        format: `gguf` or `mlx`.
        vision: whether it takes pictures.
        tools: whether it was trained for tool use.
        reasoning: the allowed values of the reasoning setting; empty: the model does not reason.
        reasoning_default: the value that applies when a request names none.
        load_steps: into how many progress steps a load is divided.
        dimensions: length of an embedding vector.
        experts: how many experts are active in a mixture of experts; 0: the model is none.
        variants: ids of the variants; the first is selected.
        downloaded: False for a model that can only be downloaded.
    """

    key: str
    kind: Literal["llm", "embedding"] = "llm"
    display_name: str = ""
    architecture: str | None = "llama"
    quantization: str | None = "Q4_K_M"
    bits: float | None = 4
    size_bytes: int = 2_000_000_000
    params: str | None = None
    max_context_length: int = 131_072
    format: Literal["gguf", "mlx"] = "gguf"
    vision: bool = False
    tools: bool = True
    reasoning: tuple[str, ...] = ()
    reasoning_default: str = "on"
    load_steps: int = 8
    dimensions: int = 768
    experts: int = 0
    variants: tuple[str, ...] = ()
    downloaded: bool = True

    @property
    def publisher(self) -> str:
        """Who published the model: the part of the key before the slash."""
        return self.key.partition("/")[0] if "/" in self.key else "lmstudio-community"

    @property
    def title(self) -> str:
        """The name for people."""
        return self.display_name or self.key.rpartition("/")[2]

    @property
    def path(self) -> str:
        """The file below the models folder."""
        stem = self.key.rpartition("/")[2]
        quantization = f"-{self.quantization}" if self.quantization else ""
        return f"{self.publisher}/{stem}-GGUF/{stem}{quantization}.{self.format}"


DEFAULT_CATALOG: tuple[CatalogModel, ...] = (
    CatalogModel(
        key="ibm/granite-4-micro",
        display_name="Granite 4 Micro",
        architecture="granite",
        params="3B",
        size_bytes=2_099_502_688,
    ),
    CatalogModel(
        key="qwen/qwen3-4b",
        display_name="Qwen3 4B",
        architecture="qwen3",
        params="4B",
        size_bytes=2_497_281_120,
        reasoning=("off", "on"),
    ),
    CatalogModel(
        key="openai/gpt-oss-20b",
        display_name="gpt-oss 20B",
        architecture="gptoss",
        quantization="MXFP4",
        params="20B",
        size_bytes=12_109_566_560,
        reasoning=("low", "medium", "high"),
        reasoning_default="low",
        experts=4,
    ),
    CatalogModel(
        key="qwen3-vl-4b",
        display_name="Qwen3 VL 4B",
        architecture="qwen3vl",
        params="4B",
        size_bytes=3_334_000_000,
        vision=True,
    ),
    CatalogModel(
        key="google/gemma-4-26b-a4b",
        display_name="Gemma 4 26B A4B",
        architecture="gemma4",
        params="26B-A4B",
        size_bytes=17_990_911_801,
        max_context_length=262_144,
        experts=8,
        vision=True,
        reasoning=("off", "on"),
        variants=("google/gemma-4-26b-a4b@q4_k_m", "google/gemma-4-26b-a4b@q8_0"),
    ),
    CatalogModel(
        key="meta/llama-3.3-70b",
        display_name="Llama 3.3 70B",
        params="70B",
        size_bytes=42_520_000_000,
        load_steps=50,
    ),
    CatalogModel(
        key="text-embedding-nomic-embed-text-v1.5",
        kind="embedding",
        display_name="Nomic Embed Text v1.5",
        architecture="nomic-bert",
        size_bytes=84_106_624,
        max_context_length=2048,
        tools=False,
        load_steps=3,
    ),
    CatalogModel(
        key="mistralai/ministral-3-3b",
        display_name="Ministral 3 3B",
        architecture="mistral3",
        params="3B",
        size_bytes=2_990_000_000,
        vision=True,
        downloaded=False,
    ),
)
"""Text, reasoning, vision, both, slow to load, embeddings, and one that is not downloaded."""
