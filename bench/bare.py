"""The loop that deliveries are measured beside: `python bench/bare.py URL HOW_MANY`, headers and body on its input.

Prints how many it made a second, and the microseconds of processor time that one took. Nothing is claimed, signed,
judged or written down.
"""

import json
import sys
import time

import requests


def main() -> None:
    url, count = sys.argv[1], int(sys.argv[2])
    request = json.load(sys.stdin)
    body, headers = request["body"].encode(), request["headers"]
    began, spent = time.monotonic(), time.process_time()
    for _ in range(count):
        requests.post(url, data=body, headers=headers, timeout=15).raise_for_status()
    print(count / (time.monotonic() - began), (time.process_time() - spent) / count * 1e6)


if __name__ == "__main__":
    main()
