# ruff: noqa: INP001  # run by itself, in environments that have no bench
"""`client.py helixflow|openai BASE_URL`: reads `calls N` and `streams N` from stdin, prints what they took as JSON."""

import importlib
import json
import sys
import time

package, base_url = sys.argv[1:]
module = importlib.import_module(package)
client = getattr(module, {"helixflow": "Client", "openai": "OpenAI"}[package])(api_key="bench", base_url=base_url)
create = client.chat.completions.create
request = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hello, world!"}]}


def calls(count: int) -> int:
    for _ in range(count):
        assert create(**request).choices[0].message.content
    return count


def streams(count: int) -> int:
    seen = 0
    for _ in range(count):
        for chunk in create(**request, stream=True):
            seen += chunk.choices[0].delta.content != ""
    return seen


for line in sys.stdin:
    name, count = line.split()
    wall, cpu = time.perf_counter(), time.process_time()
    done = {"calls": calls, "streams": streams}[name](int(count))
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps({"done": done, **spent}), flush=True)
