import base64
from typing import Any

import pytest

from inference.providers import call_ids
from tests.inference.providers.anthropic_asked import (
    NEWER,
    OLDER,
    assistant,
    call,
    function,
    result,
    said,
    unsupported,
    user,
)

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4 nothing in it").decode()


def texts(*found: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": each} for each in found]


def turns(*messages: dict[str, Any], **changes: Any) -> list[tuple[str, Any]]:
    return [(turn["role"], turn["content"]) for turn in said(*messages, **changes)["messages"]]


def content(*parts: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = said(user(list(parts)), **changes)["messages"][0]["content"]
    return found


# Roles


def test_system_and_developer_messages_are_the_system_prompt_wherever_they_stand() -> None:
    body = said(
        {"role": "system", "content": "Be brief."},
        user(),
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Rhyme."}]},
    )
    assert body["system"] == texts("Be brief.", "Be kind.", "Rhyme.")
    assert body["messages"] == [{"role": "user", "content": texts("Hello")}]


def test_messages_of_one_role_in_a_row_are_one_turn() -> None:
    assert turns(user("a"), user("b"), assistant("c"), assistant("d"), user("e")) == [
        ("user", texts("a", "b")),
        ("assistant", texts("c", "d")),
        ("user", texts("e")),
    ]


def test_a_system_prompt_alone_is_what_the_user_says() -> None:
    body = said({"role": "system", "content": "Tell a joke."})
    assert body["messages"] == [{"role": "user", "content": texts("Tell a joke.")}]
    assert "system" not in body


def test_the_user_begins_even_if_they_did_not() -> None:
    (first, _), second, third = turns(assistant("Welcome."), user("Hi"))
    assert (first, second, third) == ("user", ("assistant", texts("Welcome.")), ("user", texts("Hi")))


def test_blank_texts_are_left_out() -> None:
    assert turns(
        user("Hi"), assistant(""), user([{"type": "text", "text": " "}, {"type": "text", "text": "there"}])
    ) == [("user", texts("Hi", "there"))]
    assert len(turns(user(""))) == 1


def test_an_answer_may_be_begun_where_the_model_goes_on_from_it() -> None:
    assert turns(user(), assistant("The answer is \n"), to=OLDER)[-1] == ("assistant", texts("The answer is"))
    messages = [user(), assistant("The answer is ")]
    assert unsupported(messages=messages) == "messages"


def test_refusals_are_said_again() -> None:
    refused = assistant([{"type": "refusal", "refusal": "I won't."}])
    assert turns(user(), refused, user("Please"))[1] == ("assistant", texts("I won't."))
    assert turns(user(), assistant(refusal="No."), user("Please"))[1] == ("assistant", texts("No."))


def test_what_an_answer_held_beside_its_words_is_left_out() -> None:
    earlier = assistant("Yes.", reasoning_content="Hm.", annotations=[], refusal=None, name="bot")
    assert turns(user(), earlier, user("Why?"))[1] == ("assistant", texts("Yes."))


# Tools


def test_results_in_a_row_are_one_turn_and_come_first() -> None:
    calls = [call(), call("now", "", called="functions.now:1")]
    found = turns(
        user(),
        assistant("Let me look.", tool_calls=calls),
        result(),
        result([{"type": "text", "text": "noon"}], called="functions.now:1"),
        user("Well?"),
        tools=[function(), function("now")],
    )
    assert found[1:] == [
        (
            "assistant",
            [
                *texts("Let me look."),
                {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Zürich"}},
                {"type": "tool_use", "id": "functions_now_1", "name": "now", "input": {}},
            ],
        ),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "call_1", "content": texts("21")},
                {"type": "tool_result", "tool_use_id": "functions_now_1", "content": texts("noon")},
                *texts("Well?"),
            ],
        ),
    ]


def test_a_result_goes_before_what_the_user_said_meanwhile() -> None:
    last = turns(user(), assistant(tool_calls=[call()]), user("Well?"), result(), tools=[function()])[-1]
    assert [block["type"] for block in last[1]] == ["tool_result", "text"]


def test_ids_of_calls_lose_what_they_carry_for_others() -> None:
    carrying = call_ids.make(call_ids.Carried("mark", signature="s" * 500))
    found = turns(user(), assistant(tool_calls=[call(called=carrying)]), result(called=carrying))
    assert found[1][1][0]["id"] == found[2][1][0]["tool_use_id"] == carrying.partition("-")[0]


def test_a_result_may_be_empty() -> None:
    last = turns(user(), assistant(tool_calls=[call()]), result(""))[-1]
    assert last == ("user", [{"type": "tool_result", "tool_use_id": "call_1"}])


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", '"x"', "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    messages = [user(), assistant(tool_calls=[call(arguments=arguments)]), result()]
    assert unsupported(messages=messages) == "messages[1].tool_calls[0].function.arguments"


def test_custom_calls_and_audio_are_refused() -> None:
    custom = {"id": "call_1", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    assert unsupported(messages=[user(), assistant(tool_calls=[custom])]) == "messages[1].tool_calls[0]"
    assert unsupported(messages=[user(), assistant(audio={"id": "audio_1"})]) == "messages[1].audio"
    heard = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert unsupported(messages=[user([heard])]) == "messages[0].content[0]"


# Pictures and files


@pytest.mark.parametrize("media_type", ["image/png", "image/jpg", "image/webp"])
def test_pictures_come_along(media_type: str) -> None:
    url = {"url": f"data:{media_type};base64,{PIXEL}", "detail": "low"}
    sent = media_type.replace("jpg", "jpeg")
    assert content({"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}) == [
        *texts("What is it?"),
        {"type": "image", "source": {"type": "base64", "media_type": sent, "data": PIXEL}},
    ]


def test_pictures_on_the_web_are_fetched_by_the_provider() -> None:
    url = "https://example.com/cat.png"
    (block,) = content({"type": "image_url", "image_url": {"url": url}})
    assert block == {"type": "image", "source": {"type": "url", "url": url}}


@pytest.mark.parametrize(
    "url", ["http://example.com/cat.png", "file:///etc/passwd", "data:image/tiff;base64,AAAA", "data:image/png,x", ""]
)
def test_other_pictures_are_refused(url: str) -> None:
    messages = [user([{"type": "image_url", "image_url": {"url": url}}])]
    assert unsupported(messages=messages) == "messages[0].content[0].image_url.url"


def test_documents() -> None:
    pdf = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}}
    note = base64.b64encode("Grüße".encode()).decode()
    text = {"type": "file", "file": {"file_data": f"data:text/markdown;charset=utf-8;base64,{note}"}}
    assert content(pdf, text) == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}},
    ]


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ({"file_id": "file-1"}, "file_id"),
        ({"file_data": "data:application/zip;base64,AAAA"}, "file_data"),
        ({"file_data": "data:text/plain;base64,/w=="}, "file_data"),
        ({"file_data": "data:text/plain;base64,x"}, "file_data"),
        ({"file_data": PDF}, "file_data"),
    ],
)
def test_other_files_are_refused(file: dict[str, str], field: str) -> None:
    messages = [user([{"type": "file", "file": file}])]
    assert unsupported(messages=messages) == f"messages[0].content[0].file.{field}"


def test_breakpoints_of_the_prompt_cache() -> None:
    marks = [{"mode": "explicit"}, {"mode": "explicit", "ttl": "30m"}, None]
    parts = [{"type": "text", "text": "x", "prompt_cache_breakpoint": mark} for mark in marks]
    found = [block.get("cache_control") for block in content(*parts, to=NEWER)]
    assert found == [{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}, None]
