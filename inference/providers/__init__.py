"""One module for each protocol that providers speak; ``adapter_for`` finds the one for an account."""

from functools import lru_cache
from typing import Final

from inference.models import ProviderKind
from inference.providers.adapter import Account, Adapter
from inference.providers.anthropic import AnthropicAdapter
from inference.providers.azure import AzureAdapter
from inference.providers.bedrock import BedrockAdapter
from inference.providers.gemini import GeminiAdapter
from inference.providers.openai import CompatibleAdapter, OpenAIAdapter
from inference.providers.vertex import VertexAdapter

KINDS: Final[dict[str, type[Adapter]]] = {
    ProviderKind.COMPATIBLE: CompatibleAdapter,
    ProviderKind.OPENAI: OpenAIAdapter,
    ProviderKind.AZURE: AzureAdapter,
    ProviderKind.ANTHROPIC: AnthropicAdapter,
    ProviderKind.BEDROCK: BedrockAdapter,
    ProviderKind.GEMINI: GeminiAdapter,
    ProviderKind.VERTEX: VertexAdapter,
}


@lru_cache(maxsize=1000)
def adapter_for(account: Account) -> Adapter:
    """The same adapter for the same settings, so that what it holds (tokens) outlives a reading of the catalogue.

    Raises ValueError.
    """
    kind = KINDS.get(account.kind)
    if kind is None:
        raise ValueError(f"There is no adapter for providers of the kind {account.kind!r}.")
    return kind(account)
