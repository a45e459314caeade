"""The data plane, models and health: OpenAI's shapes, and the reference's."""

from typing import Any, Final

from rest_framework import serializers

from helixflow.lib.serializers import StrictSerializer
from helixflow.site.openapi import answers
from helixflow.site.openapi.operations import Operation, Tag
from inference.completions import Completion
from inference.schemas import ChatRequest
from inference.text_answers import TextCompletion
from inference.text_schemas import CompletionRequest, EmbeddingRequest

MODEL: Final = "gpt-3.5-turbo"
REQUEST_HEADERS: Final = ("IdempotencyKey", "Fallback", "Timeout", "CacheControl")
CREATED: Final = 1767225600


class ModelParameters(StrictSerializer):
    """As ``inference.api`` reads them."""

    status = serializers.BooleanField(required=False)


_MODEL: Final = {"id": MODEL, "object": "model", "created": 1677610602, "owned_by": "openai"}


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


CHAT: Final = Operation(
    method="post",
    path="/chat/completions",
    id="createChatCompletion",
    tag="Chat",
    summary="Create a chat completion",
    text="Asks a model for the next message of a conversation. With `stream` set the answer is `text/event-stream`: "
    "one `data:` line for each chunk, then `data: [DONE]`. An error on the way is an event with an `error` object, "
    "and no `[DONE]` follows it. OpenAI's documented parameters are checked for type and passed on to the model, "
    "which may not support them all; anything else is an `invalid_request` that names the field.",
    auth="key",
    body=ChatRequest,
    answer=Completion,
    shape="plain",
    stream=answers.ChatCompletionChunk,
    errors=(403, 404, 503),
    headers=REQUEST_HEADERS,
    anchors=("chat", "chat-stream"),
    example_body={"model": MODEL, "messages": [{"role": "user", "content": "Say hello in one line."}]},
    example={
        "id": "chatcmpl-…",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello, and welcome!"}, "finish_reason": "stop"}
        ],
        "usage": _usage(14, 6),
    },
)

COMPLETION: Final = Operation(
    method="post",
    path="/completions",
    id="createCompletion",
    tag="Completions",
    summary="Complete a text",
    text="Asks a model to go on with a text. It streams as chat does, in chunks that hold `text` in place of `delta`.",
    auth="key",
    body=CompletionRequest,
    answer=TextCompletion,
    shape="plain",
    stream=answers.TextCompletionChunk,
    errors=(403, 404, 503),
    headers=REQUEST_HEADERS,
    anchors=("completions",),
    example_body={"model": MODEL, "prompt": "The capital of France is"},
    example={
        "id": "cmpl-…",
        "object": "text_completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [{"text": " Paris.", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(5, 2),
    },
)

EMBEDDING: Final = Operation(
    method="post",
    path="/embeddings",
    id="createEmbedding",
    tag="Embeddings",
    summary="Create embeddings",
    text="Turns texts into vectors that are close to each other where the texts mean alike. They come in the order of "
    "the inputs; only input tokens are counted.",
    auth="key",
    body=EmbeddingRequest,
    answer=answers.EmbeddingList,
    shape="plain",
    errors=(403, 404, 503),
    headers=REQUEST_HEADERS,
    anchors=("embeddings",),
    example_body={"model": MODEL, "input": "Where is my order?"},
    example={
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0132, -0.0087, 0.0219]}],
        "model": MODEL,
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    },
)

MODELS: Final = (
    Operation(
        method="get",
        path="/models",
        id="listModels",
        tag="Models",
        summary="List models",
        text="The models that your organization may call with this key.",
        auth="key",
        query=ModelParameters,
        answer=answers.ModelList,
        shape="plain",
        errors=(403,),
        anchors=("models",),
        example={"object": "list", "data": [_MODEL]},
    ),
    Operation(
        method="get",
        path="/models/{name}",
        id="getModel",
        tag="Models",
        summary="Get a model",
        text="One model, or `model_not_found`. A name may hold slashes.",
        auth="key",
        query=ModelParameters,
        answer=answers.Model,
        shape="plain",
        errors=(403,),
        anchors=("model",),
        example=_MODEL,
    ),
)

HEALTH: Final = (
    Operation(
        method="get",
        path="/health",
        id="getHealth",
        tag="Service",
        summary="Health",
        text="No credentials needed. If a service is down, `status` is `unhealthy` and the answer a 503 of the same "
        "shape. For people there is the [status page](/status).",
        auth="none",
        answer=answers.Health,
        shape="plain",
        anchors=("health",),
        example={
            "status": "healthy",
            "timestamp": CREATED,
            "version": "1.1.0",
            "services": {"database": "healthy", "redis": "healthy"},
        },
    ),
    Operation(
        method="get",
        path="/openapi.json",
        id="getOpenAPI",
        tag="Service",
        summary="This description",
        text="Everything on these pages as OpenAPI 3.1, for generators of clients and for tools.",
        auth="none",
        answer=answers.OpenAPI,
        shape="plain",
        example=None,
    ),
)

TAGS: Final = (
    Tag("Chat", "chat", "Conversations with a model, whole or streamed.", (CHAT,)),
    Tag("Completions", "completions", "A text that a model goes on with.", (COMPLETION,)),
    Tag("Embeddings", "embeddings", "Texts as vectors.", (EMBEDDING,)),
    Tag("Models", "models", "What you may call.", MODELS),
)
SERVICE: Final = Tag("Service", "service", "Whether we are well, and this description for machines.", HEALTH)
