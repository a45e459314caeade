"""What is Python's own and no other SDK's business: `python -m unittest sdks/python/tests/test_package.py`."""

import asyncio
import copy
import io
import json
import logging
import os
import pickle
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

import httpx

import helixflow
from helixflow._sse import Decoder

KEY = "hflow_test_key_that_opens_nothing"
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi", "mood": ["new", {"a": 1}]}}],
    "usage": {"total_tokens": 3},
    "made_of": {"stars": True},
}
MESSAGES = [{"role": "user", "content": "Hello"}]


class Api:
    """Answers with ``answers`` in turn, the last of them for good, and keeps the requests."""

    def __init__(self, *answers):
        self.answers = list(answers) or [httpx.Response(200, json=CHAT, headers={"x-request-id": "req_1"})]
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self, **settings):
        http = httpx.Client(transport=httpx.MockTransport(self))
        client = helixflow.Client(api_key=KEY, base_url="http://api.test/v1", http_client=http, **settings)
        client._sleep = lambda seconds: None
        return client


def chat(client, **options):
    return client.chat.completions.create(model="gpt-4", messages=MESSAGES, **options)


class Answers(unittest.TestCase):
    def setUp(self):
        self.answer = chat(Api().client())

    def test_fields_are_attributes_and_items(self):
        self.assertEqual(self.answer.choices[0].message.content, "Hi")
        self.assertEqual(self.answer["choices"][0]["message"]["content"], "Hi")
        self.assertEqual(self.answer.made_of.stars, True)
        self.assertEqual(self.answer.choices[0].message.mood[1].a, 1)
        self.assertEqual(self.answer.request_id, "req_1")
        self.assertIsNone(self.answer.system_fingerprint)
        with self.assertRaises(AttributeError):
            self.answer.nonsense  # noqa: B018
        with self.assertRaises(KeyError):
            self.answer["system_fingerprint"]

    def test_it_is_a_dictionary(self):
        self.assertEqual(self.answer, CHAT)
        self.assertEqual(json.loads(json.dumps(self.answer)), CHAT)
        plain = self.answer.to_dict()
        self.assertIs(type(plain["choices"][0]["message"]), dict)
        self.assertTrue(repr(self.answer).startswith("ChatCompletion(id='chatcmpl-1', "))
        self.assertIn("Message(role='assistant', content='Hi'", repr(self.answer))

    def test_it_can_be_copied_and_pickled(self):
        for copied in (copy.deepcopy(self.answer), pickle.loads(pickle.dumps(self.answer))):
            self.assertEqual(copied, self.answer)
            self.assertIs(type(copied.choices[0]), helixflow.types.Choice)

    def test_the_field_named_keys(self):
        usage = helixflow.types.Usage.read({"requests": 1, "keys": [{"id": "key_1", "tokens": {"total": 2}}]})
        self.assertEqual(usage.keys[0].tokens.total, 2)
        self.assertEqual(dict(usage), json.loads(json.dumps(usage)))

    def test_a_message_goes_back(self):
        api = Api()
        client = api.client()
        client.chat.completions.create(model="gpt-4", messages=(m for m in [self.answer.choices[0].message]))
        sent = json.loads(api.requests[0].content)["messages"]
        self.assertEqual(sent, [CHAT["choices"][0]["message"]])

    def test_pages_follow_each_other(self):
        def page(name, more):
            return httpx.Response(200, json={"data": [{"id": name}], "last_id": name, "has_more": more})

        api = Api(page("a", True), page("b", False))
        self.assertEqual([each.id for each in api.client().batches.list(limit=1)], ["a", "b"])
        self.assertEqual([request.url.query for request in api.requests], [b"limit=1", b"limit=1&after=a"])


class Errors(unittest.TestCase):
    def test_they_can_be_pickled(self):
        body = {"error": {"code": "insufficient_quota", "message": "Spent.", "details": {"a": "b"}}}
        api = Api(httpx.Response(429, json=body, headers={"x-should-retry": "false", "x-request-id": "req_9"}))
        with self.assertRaises(helixflow.RateLimitError) as caught:
            chat(api.client())
        self.assertEqual(str(caught.exception), "Spent. (429, insufficient_quota, req_9)")
        again = pickle.loads(pickle.dumps(caught.exception))
        self.assertIs(type(again), helixflow.InsufficientQuotaError)
        self.assertEqual((str(again), again.details, again.status_code), (str(caught.exception), {"a": "b"}, 429))

    def test_bad_settings_are_told_without_the_key(self):
        urls = ("api.test/v1", "http://api.test:port/v1", f"http://{KEY}@api.test/v1", "http://api.test/v1?a=b")
        bad = [{"api_key": ""}, {"api_key": f"{KEY}\n{KEY}"}, *({"api_key": KEY, "base_url": url} for url in urls)]
        for settings in bad:
            with self.assertRaises(helixflow.HelixFlowError) as caught:
                helixflow.Client(**settings)
            self.assertNotIn(KEY, str(caught.exception))
        with self.assertRaises(TypeError):
            helixflow.Client(api_key=KEY).with_options(max_retry=1)
        with self.assertRaises(ValueError):
            chat(Api().client(), temperature=float("nan"))


class Settings(unittest.TestCase):
    def test_options_of_a_client_and_of_a_call(self):
        api = Api(httpx.Response(503), httpx.Response(503), httpx.Response(503))
        client = api.client(max_retries=0, default_headers={"X-Team": "a"}).with_options(max_retries=1)
        with self.assertRaises(helixflow.ServiceUnavailableError):
            chat(client, extra_headers={"X-Team": "b", "User-Agent": "mine"}, extra_body={"new": 1})
        self.assertEqual(len(api.requests), 2)
        self.assertEqual(api.requests[0].headers["x-team"], "b")
        self.assertEqual(api.requests[0].headers["user-agent"], "mine")
        self.assertEqual(json.loads(api.requests[0].content)["new"], 1)
        keys = {request.headers["idempotency-key"] for request in api.requests}
        self.assertEqual(len(keys), 1)

    def test_a_broken_hook_breaks_nothing(self):
        def broken(attempt):
            raise ZeroDivisionError

        with self.assertLogs("helixflow", logging.ERROR):
            self.assertEqual(chat(Api().client(on_attempt=broken)), CHAT)

    def test_the_log_tells_neither_key_nor_contents(self):
        with self.assertLogs("helixflow", logging.DEBUG) as logs:
            chat(Api().client())
        self.assertIn("req_1", logs.output[0])
        self.assertNotIn(KEY, logs.output[0])
        self.assertNotIn("Hello", logs.output[0])

    def test_the_cache_forgets(self):
        now = [0.0]
        cache = helixflow.Cache(max_entries=2, ttl_s=10, now=lambda: now[0])
        api = Api()
        client = api.client(cache=cache)
        first = chat(client)
        first.choices[0].message["content"] = "changed by the caller"
        self.assertEqual(chat(client), CHAT)
        for model in ("a", "b"):
            client.embeddings.create(model=model, input="x")
        chat(client)
        self.assertEqual((len(api.requests), len(cache)), (4, 2))
        now[0] = 11.0
        chat(client)
        chat(client.with_options(api_key="hflow_another"))
        self.assertEqual(len(api.requests), 6)

    def test_the_module_stands_for_a_client(self):
        os.environ.update(HELIXFLOW_API_KEY=KEY, HELIXFLOW_BASE_URL="http://api.test/v1")
        self.assertTrue(callable(helixflow.batch.process))
        self.assertFalse(hasattr(helixflow, "nonsense"))


class Streams(unittest.TestCase):
    def test_the_decoder_does_not_mind_where_bytes_are_cut(self):
        stream = (
            b"\xef\xbb\xbfdata: one\r\n\r\n: comment\ndata:two\ndata: lines\n\ndata: \xe2\x80\xa8\xc3\xa9\r\r"
            b"event: x\ndata\n\ndata:  [DONE]\r\n\r\n"
        )
        expected = [b"one", b"two\nlines", b"\xe2\x80\xa8\xc3\xa9", b"", b" [DONE]"]
        for size in range(1, len(stream) + 1):
            decoder = Decoder()
            pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
            self.assertEqual([event for piece in pieces for event in decoder.feed(piece)], expected, size)

    def test_next_text_and_the_hook(self):
        told = []
        lines = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in "abc"]
        lines.append({"choices": [], "usage": {"total_tokens": 5}})
        body = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        stream = chat(Api(httpx.Response(200, text=body)).client(on_attempt=told.append), stream=True)
        self.assertEqual(next(stream).choices[0].delta.content, "a")
        self.assertEqual(told, [])
        self.assertEqual("".join(stream.text()), "bc")
        self.assertEqual([(one.usage["total_tokens"], one.error) for one in told], [(5, None)])


class Places(unittest.TestCase):
    """Threads, processes and event loops. A real server, as these are about connections."""

    def setUp(self):
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = json.dumps({"id": "gpt-4", "peer": self.client_address[1]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.settings = {"api_key": KEY, "base_url": f"http://127.0.0.1:{self.server.server_port}/v1"}

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()

    def test_threads_share_a_client(self):
        from concurrent.futures import ThreadPoolExecutor

        with helixflow.Client(**self.settings) as client, ThreadPoolExecutor(8) as pool:
            models = list(pool.map(lambda _: client.models.retrieve("gpt-4"), range(40)))
        self.assertEqual({model.id for model in models}, {"gpt-4"})

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_a_forked_process_makes_connections_of_its_own(self):
        with helixflow.Client(**self.settings) as client:
            peer = client.models.retrieve("gpt-4").peer
            read, write = os.pipe()
            if os.fork() == 0:
                os.write(write, str(client.models.retrieve("gpt-4").peer).encode())
                os._exit(0)
            child = int(os.read(read, 20))
            os.wait()
            self.assertNotEqual(child, peer)
            self.assertEqual(client.models.retrieve("gpt-4").peer, peer)
            os.close(read)
            os.close(write)

    def test_an_async_client_outlives_its_loop(self):
        client = helixflow.AsyncClient(**self.settings)

        async def ask():
            answers = await asyncio.gather(*(client.models.retrieve("gpt-4") for _ in range(5)))
            await client.close()
            return {answer.id for answer in answers}

        self.assertEqual(asyncio.run(ask()), {"gpt-4"})
        self.assertEqual(asyncio.run(ask()), {"gpt-4"})


class Batches(unittest.TestCase):
    def test_a_batch_that_takes_too_long_goes_on(self):
        batch = {"id": "batch_1", "status": "in_progress", "request_counts": {"total": 1, "completed": 0, "failed": 0}}
        api = Api(httpx.Response(200, json=batch))
        client = api.client()
        told = []
        with self.assertRaises(helixflow.BatchTimeoutError) as caught:
            client.batch.process(({"model": "m", "messages": MESSAGES} for _ in "a"), timeout=0.1, progress=told.append)
        self.assertEqual((caught.exception.batch_id, told[0].id), ("batch_1", "batch_1"))
        self.assertEqual(pickle.loads(pickle.dumps(caught.exception)).batch_id, "batch_1")

    def test_the_whole_of_the_timeout_is_waited_and_no_look_takes_longer(self):
        batch = {"id": "batch_1", "status": "in_progress", "request_counts": {"total": 1, "completed": 0, "failed": 0}}
        now, pauses, looks = [0.0], [], []

        def look(request):
            looks.append(request.extensions["timeout"]["read"])
            return httpx.Response(200, json=batch)

        client = helixflow.Client(api_key=KEY, http_client=httpx.Client(transport=httpx.MockTransport(look)))
        client._sleep = lambda seconds: (pauses.append(seconds), now.__setitem__(0, now[0] + seconds))
        clock = unittest.mock.patch("helixflow._batches.time.monotonic", lambda: now[0])
        with clock, self.assertRaises(helixflow.BatchTimeoutError):
            client.batch.wait("batch_1", timeout=30)
        self.assertEqual((sum(pauses), looks[-1]), (30, 1))
        self.assertTrue(all(each <= 30 for each in looks))

    def test_progress_that_is_interrupted_ends_its_line(self):
        batch = {"id": "batch_1", "status": "in_progress", "request_counts": {"total": 1, "completed": 0, "failed": 0}}
        client = Api(httpx.Response(200, json=batch)).client()

        def interrupted(seconds):
            raise KeyboardInterrupt

        client._sleep = interrupted
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        with unittest.mock.patch("sys.stderr", terminal):
            try:
                client.batch.wait("batch_1")
            except KeyboardInterrupt:
                told = terminal.getvalue()
        self.assertTrue(told.endswith("0/1 done\n"), told)


class Loading(unittest.TestCase):
    def test_httpx_is_loaded_with_the_first_call(self):
        import subprocess

        home = os.path.dirname(os.path.dirname(helixflow.__file__))
        code = "import sys, helixflow; helixflow.Client(api_key='k'); sys.exit('httpx' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd=home, check=False).returncode, 0)


class Timeouts(unittest.TestCase):
    def test_an_answer_that_drips_is_bounded_as_a_whole(self):
        import socket

        def drip(server):
            connection = server.accept()[0]
            connection.recv(65536)
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
                for _ in range(100):
                    connection.sendall(b" ")
                    time.sleep(0.05)
            except OSError:
                pass
            connection.close()

        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=drip, args=(server,), daemon=True).start()
            client = helixflow.Client(
                api_key=KEY, base_url=f"http://127.0.0.1:{server.getsockname()[1]}/v1", timeout=0.3, max_retries=0
            )
            with client, self.assertRaises(helixflow.APITimeoutError):
                client.models.retrieve("gpt-4")


class CommandLine(unittest.TestCase):
    LINE = '{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "é"}}'

    def requests(self, content):
        from helixflow import __main__ as command

        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            try:
                return command._requests(file.name)
            except command.Misuse as problem:
                return str(problem).replace(file.name, "it")

    def test_lines_go_to_the_endpoint_that_they_name(self):
        body = {"custom_id": "a", "model": "m", "input": "é"}
        for content in (self.LINE.encode(), f"{self.LINE}\r\n\r\n".encode("utf-8-sig")):
            self.assertEqual(self.requests(content), ([body], "/v1/embeddings"))
        self.assertEqual(self.requests(b'{"model": "m"}'), ([{"model": "m"}], None))
        two = self.requests(f"{self.LINE}\n{self.LINE.replace('embeddings', 'completions')}".encode())
        self.assertEqual(
            two, "it has more than one url (/v1/completions, /v1/embeddings): give each a file of its own."
        )

    def test_what_is_no_file_of_lines_is_told(self):
        for content in (self.LINE.encode("utf-16"), self.LINE.encode("latin-1")):
            self.assertEqual(self.requests(content), "it is not in UTF-8: save it as UTF-8.")
        self.assertIn("line 1: not a JSON object. Write each", self.requests(b'[\n{"model": "m"}\n]'))

    def test_all_mistakes_are_told(self):
        from helixflow.__main__ import _others

        self.assertEqual(_others(helixflow.APIError("No", details={"a": "one"})), [])
        self.assertEqual(_others(helixflow.APIError("No", details={"a": "one", "b": "two"})), ["  a: one", "  b: two"])


if __name__ == "__main__":
    unittest.main()
