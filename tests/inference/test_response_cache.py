"""The response cache: what may be stored, who may read it, and for how long."""

import asyncio
import time
import uuid

import msgspec
import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from inference.keeping.kept import MAX_BODY, KeptAnswer, Recording, pack, unpack
from inference.keeping.response_cache import Directives, Entry, cacheable, canonical
from inference.schemas import parse_chat_request
from tests.inference.kept_answers import ORGANIZATION, SECRET_TEXT, answer, booked, client, stored

OTHER_ORGANIZATION = uuid.UUID("018f0000-0000-7000-8000-000000000009")
EVERYTHING = Directives()
CHAT = "chat completions"


def chat(**fields: object):
    body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
    return parse_chat_request(msgspec.json.encode(body | fields))


def put(entry: Entry, kept: KeptAnswer, directives: Directives = EVERYTHING, ttl_s: int = 600) -> None:
    asyncio.run(entry.put(kept, directives, ttl_s))


def get(entry: Entry, directives: Directives = EVERYTHING, ttl_s: int = 600) -> KeptAnswer | None:
    return asyncio.run(entry.get(directives, ttl_s))


def entry(organization_id: uuid.UUID = ORGANIZATION, operation: str = CHAT, **fields: object) -> Entry:
    return Entry(organization_id, operation, chat(**fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": 0.1}, False),
        ({"temperature": None}, False),
        ({"temperature": None, "seed": 0}, True),
        ({"temperature": 1, "seed": 7}, True),
        ({"store": True}, False),
        ({"store": False}, True),
        ({"web_search_options": {}}, False),
    ],
)
def test_what_would_be_answered_the_same_again_is_cacheable(fields, expected):
    assert cacheable(chat(**fields)) is expected


class Embedding(msgspec.Struct):
    input: str
    user: str | None = None


def test_embeddings_always_are():
    assert cacheable(Embedding("Hello"))
    assert canonical(Embedding("Hello", "a")) == canonical(Embedding("Hello"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_gets_the_same_answer(stream):
    kept = answer(content_type="text/event-stream" if stream else "application/json")
    assert get(entry(stream=stream)) is None
    put(entry(stream=stream), kept)
    found = get(entry(stream=stream))
    assert found == kept
    assert found is not None
    assert found.streamed is stream


@pytest.mark.parametrize(
    "other",
    [
        {"model": "gpt-4"},
        {"messages": [{"role": "user", "content": "Hello!"}]},
        {"n": 2},
        {"seed": 1},
        {"max_tokens": 5},
        {"stream": True},
        {"stop": "x"},
        {"logit_bias": {"5": 1}},
    ],
)
def test_another_request_does_not(other):
    put(entry(), answer())
    assert get(entry(**other)) is None


def test_streams_with_usage_are_apart_from_those_without():
    put(entry(stream=True), answer())
    assert get(entry(stream=True, stream_options={"include_usage": True})) is None


@pytest.mark.parametrize(
    "same",
    [
        {"user": "somebody"},
        {"metadata": {"a": "b"}},
        {"safety_identifier": "x"},
        {"stream": False},
        {"stream_options": {"include_usage": True}},
        {"temperature": 0.0},
        {"seed": None},
    ],
)
def test_what_does_not_change_the_answer_does_not_count(same):
    put(entry(), answer())
    assert get(entry(**same)) == answer()


def test_another_organization_or_operation_never_gets_it():
    put(entry(), answer())
    assert get(entry(OTHER_ORGANIZATION)) is None
    assert get(entry(operation="completions")) is None
    assert get(entry()) == answer()


def test_redis_alone_opens_nothing():
    put(entry(), answer(SECRET_TEXT))
    ((name, sealed),) = stored().items()
    assert SECRET_TEXT not in sealed
    assert "gpt" not in name
    client().set(name, sealed[:-1] + b"x")
    assert get(entry()) is None


def test_an_answer_of_another_request_in_its_place_is_a_miss():
    put(entry(), answer())
    (mine,) = stored()
    put(entry(n=2), answer(b"other"))
    server = client()
    (other,) = set(stored()) - {mine}
    server.set(mine, server.get(other))
    assert get(entry()) is None


def test_it_is_kept_as_long_as_the_organization_says():
    put(entry(), answer(), ttl_s=90)
    (name,) = stored()
    assert 60 < client().ttl(name) <= 90


def test_a_shorter_time_holds_at_once_for_what_is_there():
    now = time.time()
    put(entry(), answer(kept_at=now))
    with time_machine.travel(now + 100, tick=False):
        assert get(entry(), ttl_s=100) is not None
        assert get(entry(), ttl_s=99) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ([], Directives()),
        ([b""], Directives()),
        ([b"no-store"], Directives(reads=False, writes=False)),
        ([b"NO-STORE"], Directives(reads=False, writes=False)),
        ([b"no-cache"], Directives(reads=False)),
        ([b"max-age=60"], Directives(max_age_s=60)),
        ([b'max-age="60"'], Directives(max_age_s=60)),
        ([b"max-age=0"], Directives(reads=False, max_age_s=0)),
        ([b"max-age=60, max-age=30"], Directives(max_age_s=30)),
        ([b"max-age=60", b"no-cache"], Directives(reads=False, max_age_s=60)),
        ([b"max-age=99999999999999999999"], Directives(max_age_s=2**31)),
        ([b"max-age=-1"], Directives()),
        ([b"max-age=1.5"], Directives()),
        ([b"max-age"], Directives()),
        ([b"max-age= 5"], Directives()),
        ([b"max-age=\xd9\xa3"], Directives()),
        ([b"no-stores, private, max-stale=5"], Directives()),
        ([b'extension="no-store, no-cache"'], Directives()),
        ([b",, no-store ,"], Directives(reads=False, writes=False)),
        ([b"broken=(x), no-cache"], Directives(reads=False)),
    ],
)
def test_cache_control(header, expected):
    assert Directives.parse(header) == expected


@given(values=st.lists(st.binary(max_size=60), max_size=3))
def test_any_header_is_understood_somehow(values):
    found = Directives.parse(values)
    assert found.writes or not found.reads
    assert found.max_age_s is None or 0 <= found.max_age_s <= 2**31


@given(
    noise=st.lists(st.from_regex(rb"[a-z]{1,8}(=([a-z0-9]{1,5}|\"[a-z, =]{0,9}\"))?", fullmatch=True), max_size=4),
    directive=st.sampled_from([b"no-store", b"no-cache", b"max-age=17"]),
    place=st.integers(0, 4),
)
def test_a_directive_is_found_among_others(noise, directive, place):
    alone = Directives.parse([directive])
    noise = [each for each in noise if not each.startswith((b"no-", b"max-age"))]
    noise.insert(place, directive)
    assert Directives.parse([b", ".join(noise)]) == alone


def test_no_store_neither_reads_nor_writes():
    no_store = Directives.parse([b"no-store"])
    put(entry(), answer(), no_store)
    assert not stored()
    put(entry(), answer())
    assert get(entry(), no_store) is None


def test_no_cache_writes_and_does_not_read():
    no_cache = Directives.parse([b"no-cache"])
    put(entry(), answer(b"old"))
    assert get(entry(), no_cache) is None
    put(entry(), answer(b"new"), no_cache)
    assert get(entry()) == answer(b"new")
    assert booked()[0] == 1


def test_max_age_takes_only_young_answers():
    now = time.time()
    put(entry(), answer(kept_at=now - 30))
    with time_machine.travel(now, tick=False):
        assert get(entry(), Directives.parse([b"max-age=29"])) is None
        assert get(entry(), Directives.parse([b"max-age=30"])) is not None


def test_what_is_too_large_is_not_stored():
    put(entry(), answer(bytes(MAX_BODY + 1)))
    assert not stored()


def test_without_redis_everything_is_a_miss(settings):
    put(entry(), answer())
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    put(entry(), answer(b"new"))
    assert get(entry()) is None


def test_a_hit_is_replayed_under_the_id_and_time_of_its_own_request():
    """What the model says of times stays: in a text, quotes have a backslash."""
    frame = rb'data: {"id":"%b","created":%d,"choices":["\"created\":1700000000, 1700000000"]}'
    kept = answer(frame % (b"chatcmpl-old", 1_700_000_000) * 2)
    renamed = kept.renamed("chatcmpl-new", 1_800_000_000)
    assert renamed.body == frame % (b"chatcmpl-new", 1_800_000_000) * 2
    assert (renamed.id, renamed.created) == ("chatcmpl-new", 1_800_000_000)
    assert renamed.kept_at == kept.kept_at


def test_an_answer_without_an_id_stays_as_it_is():
    kept = answer(b'{"object":"list"}', id="", created=0)
    assert kept.renamed("chatcmpl-new", 5) == kept


@given(st.binary(max_size=5_000))
def test_packing_gives_back_what_was_packed(body):
    assert unpack(pack(answer(body))) == answer(body)


@pytest.mark.parametrize("damaged", [b"", b"\0", b"\0\xff", b"\1x", b"\1"])
def test_what_is_no_packed_answer_is_refused(damaged):
    with pytest.raises(ValueError, match=r".+"):
        unpack(damaged)


@given(st.lists(st.binary(min_size=1, max_size=50)))
def test_a_recording_has_all_that_was_sent(parts):
    recording = Recording()
    for part in parts:
        recording.add(part)
    assert recording.body() == b"".join(parts)


def test_a_recording_of_what_is_too_large_holds_nothing():
    recording = Recording()
    for _ in range(3):
        recording.add(bytes(MAX_BODY // 2))
    assert recording.body() is None
    assert not recording._parts
