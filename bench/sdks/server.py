"""`python -m bench.sdks.server`: answers chat completions with fixed bytes, as fast as Python can. Prints its port.

A request that asks for a stream gets CHUNKS chunks and [DONE], in one write.
"""

import asyncio
import json
import re
from typing import Final

CHUNKS: Final = 100
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAM: Final = re.compile(rb'"stream": ?true')
_COMMON: Final = {"id": "chatcmpl-0198b0c9f0a07d5c8e9b6c2a4d1e3f50", "created": 1677652288, "model": "gpt-3.5-turbo"}


def _head(kind: str, length: int) -> bytes:
    lines = [
        "HTTP/1.1 200 OK",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        "X-Request-ID: req_0198b0c9f0a07d5c8e9b6c2a4d1e3f50",
        "X-RateLimit-Limit: 1000",
        "X-RateLimit-Remaining: 999",
        "X-RateLimit-Reset: 1640995200",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _completion() -> bytes:
    message = {"role": "assistant", "content": "Hello! How can I help you today? " * 8}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 64, "total_tokens": 73}
    return json.dumps(_COMMON | {"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def _stream() -> bytes:
    def chunk(delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        data = _COMMON | {"object": "chat.completion.chunk", "choices": [choice]}
        return b"data: %s\n\n" % json.dumps(data).encode()

    chunks = [chunk({"content": f" word{number}"}, None) for number in range(CHUNKS - 1)]
    return b"".join([*chunks, chunk({}, "stop"), b"data: [DONE]\n\n"])


_ANSWER: Final = _head("application/json", len(_completion())) + _completion()
_EVENTS: Final = _head("text/event-stream", len(_stream())) + _stream()


class Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, blank, body = self.got.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if blank and found and len(body) >= int(found[1]):
            self.transport.write(_EVENTS if _STREAM.search(body) else _ANSWER)
            self.got = b""


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
