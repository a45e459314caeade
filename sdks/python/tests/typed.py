"""What a type checker makes of programs like our users'. `make check` reads it; nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Union

import helixflow
from helixflow import types

if TYPE_CHECKING:
    from typing_extensions import assert_type

    client = helixflow.Client(on_attempt=lambda attempt: print(attempt.duration_s), cache=helixflow.Cache())
    answer = client.chat.completions.create(
        model="gpt-4",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        ],
        temperature=0.5,
        stop=["\n"],
        response_format={"type": "json_object"},
        tools=[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        timeout=5,
        idempotency_key="order-4711",
    )
    assert_type(answer, types.ChatCompletion)
    assert_type(answer.choices[0].message.content, Union[str, None])
    assert_type(answer.usage.total_tokens, int)
    assert_type(answer.request_id, Union[str, None])
    print(answer["usage"], answer.newer_than_this_package)

    messages = [{"role": "user", "content": "Built elsewhere"}]
    stream = client.chat.completions.create(model="gpt-4", messages=messages, stream=True)
    assert_type(stream, helixflow.Stream[types.ChatCompletionChunk])
    with stream:
        for chunk in stream:
            assert_type(chunk.choices[0].delta.content, Union[str, None])
    client.chat.completions.create(model="gpt-4", messages=[*messages, answer.choices[0].message])

    client.chat.completions.create(model="gpt-4")  # type: ignore[call-overload]
    client.chat.completions.create(model="gpt-4", messages=[], temprature=1)  # type: ignore[call-overload]
    client.chat.completions.create(model="gpt-4", messages=[], temperature="hot")  # type: ignore[call-overload]

    results = client.batch.process([{"model": "gpt-4", "messages": [{"role": "user", "content": "Hi"}]}], timeout=60)
    assert_type(results.failed, List[types.BatchResult])
    for model in client.models.list():
        assert_type(model, types.Model)
    try:
        client.usage.timeseries(bucket="hour", group_by="model")
    except helixflow.RateLimitError as error:
        assert_type(error.retry_after, Union[float, None])
    event = helixflow.webhooks.verify(b"{}", {}, ["whsec_new", "whsec_old"])
    assert_type(event.event, str)

    async def asynchronous() -> None:
        async with helixflow.AsyncClient() as client:
            answer = await client.chat.completions.create(model="gpt-4", messages=messages)
            assert_type(answer, types.ChatCompletion)
            stream = await client.completions.create(model="gpt-4", prompt="One,", stream=True)
            assert_type(stream, helixflow.AsyncStream[types.Completion])
            async for text in stream.text():
                assert_type(text, str)
            async for model in await client.models.list():
                assert_type(model, types.Model)
