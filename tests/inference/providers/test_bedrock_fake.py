"""The fake is held to AWS's own client: it takes what that sends, and that reads what it answers."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from tests.fakes import aws, bedrock
from tests.fakes.bedrock import KEY_ID, REGION, SECRET, TEXT, THOUGHT, Bedrock

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO = [{"role": "user", "content": [{"text": "Hello"}]}]


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch) -> None:
    """AWS's client looks for credentials in files of the user and asks the machine's metadata server."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)


@pytest.fixture
def cloud() -> Iterator[Bedrock]:
    with Bedrock() as server:
        yield server


def client(cloud: Bedrock, name: str = "bedrock-runtime", *, secret: str = SECRET) -> Any:
    return Session().create_client(
        name,
        region_name=REGION,
        endpoint_url=cloud.url,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_conversation(cloud):
    answer = client(cloud).converse(modelId=MODEL, messages=HELLO, inferenceConfig={"maxTokens": 9})
    blocks = answer["output"]["message"]["content"]
    assert blocks[0]["reasoningContent"]["reasoningText"]["text"] == THOUGHT
    assert "".join(block.get("text", "") for block in blocks) == TEXT


def test_a_streamed_one(cloud):
    events = list(client(cloud).converse_stream(modelId=MODEL, messages=HELLO)["stream"])
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert "".join(delta.get("text", "") for delta in deltas) == TEXT
    assert events[-1]["metadata"]["usage"] == bedrock.USAGE


def test_a_stream_that_fails(cloud):
    cloud.script(bedrock.stream(bedrock.events()[:2], aws.exception("throttlingException", "Too many")))
    with pytest.raises(ClientError, match="throttlingException"):
        list(client(cloud).converse_stream(modelId=MODEL, messages=HELLO)["stream"])


def test_its_models(cloud):
    listed = client(cloud, "bedrock").list_foundation_models()["modelSummaries"]
    assert [model["modelId"] for model in listed] == [model["modelId"] for model in bedrock.MODELS]


def test_strangers_and_nonsense(cloud):
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        client(cloud, secret="another").converse(modelId=MODEL, messages=HELLO)
    with pytest.raises(ClientError, match="ValidationException"):
        client(cloud).converse(modelId=MODEL, messages=HELLO * 2)
