"""A llama.cpp server for the small embedded model: ``python embedded_model.py WEIGHTS PORT KEY_FILE NAME``.

Run by path (``helixflow.stack.embedded.model``), so that it imports nothing of the platform. The default action of
SIGTERM ends it in milliseconds; freeing the server object could hang, so it never is.
"""

import os
import signal
import sys
from pathlib import Path

import xllamacpp

CONTEXT_TOKENS = 8192  # what the model was trained with; shared by the requests in progress
EMBEDDED_TOKENS = 1024  # of one input: all of it is worked on at once, at 400 KB of memory a token
WARNINGS = 2


def parameters(weights: str, port: int, api_key: str, name: str) -> xllamacpp.CommonParams:
    wanted = xllamacpp.CommonParams()
    wanted.model.path = weights
    wanted.model_alias = {name}  # else the file's path is the model's name
    wanted.port = port
    wanted.api_keys = [api_key]
    wanted.n_parallel = 4
    wanted.n_ctx = CONTEXT_TOKENS
    wanted.kv_unified = True
    wanted.embedding = True  # chat and completions are the same with it
    wanted.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN  # one vector for an input
    wanted.n_ubatch = EMBEDDED_TOKENS
    # Half the cores, and no spinning: threads that wait for each other on busy cores made tokens 20 times slower.
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 1) // 2)
    wanted.cpuparams.poll = wanted.cpuparams_batch.poll = 0
    wanted.cache_ram_mib = 0  # else memory grows with every prompt
    wanted.cache_idle_slots = False
    wanted.ui = wanted.endpoint_slots = wanted.endpoint_props = False
    wanted.verbosity = WARNINGS
    return wanted


if __name__ == "__main__":
    os.nice(5)  # pages and the gateway come before tokens when cores are few
    weights, port, key_file, name = sys.argv[1:]
    server = xllamacpp.Server(parameters(weights, int(port), Path(key_file).read_text().strip(), name))
    while True:
        signal.pause()
