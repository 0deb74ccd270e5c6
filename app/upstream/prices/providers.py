"""The providers behind hosts and vendor names, by their ids in genai-prices."""

from urllib.parse import urlsplit

PROVIDER_BY_HOST = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "api.z.ai": "zai",
    "azure-api.net": "azure",
    "cognitiveservices.azure.com": "azure",
    "googleapis.com": "google",
    "openai.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "services.ai.azure.com": "azure",
}
"""Hosts (and every host below them) of providers whose prices are in the data."""

PROVIDER_BY_VENDOR = {
    "amazon": "aws",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "google": "google",
    "meta": "meta",
    "minimax": "minimax",
    "mistral": "mistral",
    "mistralai": "mistral",
    "moonshotai": "moonshotai",
    "openai": "openai",
    "perplexity": "perplexity",
    "x-ai": "x-ai",
    "xai": "x-ai",
    "z-ai": "zai",
}
"""Vendor prefixes of model names. Vendors that do not sell their models themselves (meta-llama, qwen) are not here:
each host of such a model sets its own price, and a wrong price is worse than none."""


def provider_of(base_url: str) -> str | None:
    """The id of the provider that answers at `base_url`; None if the host is unknown."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return None
    labels = host.rstrip(".").split(".")
    names = (".".join(labels[start:]) for start in range(len(labels)))
    return next((PROVIDER_BY_HOST[name] for name in names if name in PROVIDER_BY_HOST), None)
