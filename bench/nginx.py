"""nginx twice: as an upstream that answers at once, and as the proxy that HelixFlow is measured beside."""

import json
from pathlib import Path

from bench.processes import program

MODEL = "bench-model"
CHUNKS = 100

_COMMON = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""

# A POST for a file is a 405 to nginx; the error page is that file, so that streams are sent at sendfile's speed.
_UPSTREAM = """
    types {{ text/event-stream sse; application/json json; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /plain/v1/chat/completions {{ default_type application/json; return 200 '{answer}'; }}
        location = /sse/v1/chat/completions {{ root {folder}; error_page 405 =200 /stream.sse; return 405; }}
        location = /stream.sse {{ root {folder}; internal; }}
    }}
"""

_PROXY = """
    upstream zero_latency {{ server 127.0.0.1:{upstream_port}; keepalive 128; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://zero_latency;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
"""


def upstream(folder: Path, port: int) -> list[str]:
    (folder / "stream.sse").parent.mkdir(parents=True, exist_ok=True)
    (folder / "stream.sse").write_text(stream())
    text = json.dumps(answer(), separators=(",", ":"))
    return _command(folder, _UPSTREAM.format(port=port, folder=folder, answer=text))


def proxy(folder: Path, port: int, upstream_port: int) -> list[str]:
    return _command(folder, _PROXY.format(port=port, upstream_port=upstream_port))


def _command(folder: Path, server: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(_COMMON.format(folder=folder, server=server))
    return [program("nginx"), "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]


def answer() -> dict[str, object]:
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": 1677652288,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello! How can I help you today?"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
    }


def stream() -> str:
    def frame(choices: list[dict[str, object]], **more: object) -> str:
        chunk = {
            "id": "chatcmpl-upstream",
            "object": "chat.completion.chunk",
            "created": 1677652288,
            "model": MODEL,
            "choices": choices,
            **more,
        }
        return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"

    words = [frame([{"index": 0, "delta": {"content": f"word{i} "}, "finish_reason": None}]) for i in range(CHUNKS - 1)]
    last = frame([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = frame([], usage={"prompt_tokens": 9, "completion_tokens": 99, "total_tokens": 108})
    return "".join([*words, last, usage, "data: [DONE]\n\n"])
