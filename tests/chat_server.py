"""A real OpenAI-compatible server on this machine, to test remote judges and players against, and to try one out.

``python -m tests.chat_server`` serves the embedded model and prints the address; ``--says TEXT`` serves a judge that
always says ``TEXT``. In tests a script decides what each request gets: a reply, an error, garbage, or silence.
"""

from __future__ import annotations

import argparse
import json
import string
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

POINTS_5 = "Fine.\n<calculation>1+1+1+1+1+0+0=5</calculation>\n<score>5</score>"
"""A verdict in full form: five of seven points."""


@dataclass(frozen=True)
class Asked:
    """One request: its place in the order of arrival, its body, and its headers in lower case."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Answer:
    """What a request gets, ``after`` seconds later: ``text`` as the model's reply, which ended by ``finish``, or
    ``raw`` as the whole body. With ``drip`` it gets headers that never end, ``drip`` seconds between two."""

    text: str = POINTS_5
    finish: str = "stop"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: bytes | None = None
    after: float = 0.0
    drip: float = 0.0


Script = Callable[[Asked], Answer]

NO_SUCH_PATH = Answer(status=404, raw=b'{"error": {"message": "no such path"}}')


class ChatServer:
    """Serves ``/v1/chat/completions`` at ``url`` until it is closed; ``asked`` holds all requests so far, ``at_once``
    the most that were under way together. Ten tokens in and five out are counted for each. ``/v1/models`` lists
    ``models`` with their context, unless that is None; ``looks`` counts who looked."""

    def __init__(
        self, script: Script | str = POINTS_5, port: int = 0, models: Mapping[str, int | None] | None = None
    ) -> None:
        self.script: Script = (lambda _: Answer(script)) if isinstance(script, str) else script
        self.asked: list[Asked] = []
        self.models, self.looks = models, 0
        self.at_once = self._under_way = 0
        self._lock, self._closing = threading.Lock(), threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm = "HTTP/1.1", True  # else every second answer waits for 40 ms

            def do_GET(self) -> None:
                owner.show(self)

            def do_POST(self) -> None:
                owner.serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close, request_queue_size = True, False, 64

            def handle_error(self, request: object, client_address: object) -> None:
                if not isinstance(sys.exc_info()[1], OSError):  # a client that has gone is what some tests want
                    super().handle_error(request, client_address)  # type: ignore[arg-type]

        self._server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> ChatServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End, with whatever waits to be answered."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def show(self, handler: BaseHTTPRequestHandler) -> None:
        """The list of models, as vLLM gives it."""
        self.looks += 1
        if handler.path != "/v1/models" or self.models is None:
            self._send(handler, NO_SUCH_PATH)
            return
        listed = [{"id": name, "object": "model", "max_model_len": context} for name, context in self.models.items()]
        self._send(handler, Answer(raw=json.dumps({"object": "list", "data": listed}).encode()))

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """One request, in its own thread."""
        data = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if handler.path != "/v1/chat/completions":
            self._send(handler, NO_SUCH_PATH)
            return
        with self._lock:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            asked = Asked(len(self.asked), json.loads(data), headers)
            self.asked.append(asked)
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
        try:
            answer = self.script(asked)
            if answer.after:
                self._closing.wait(answer.after)
        finally:
            with self._lock:
                self._under_way -= 1
        self._send(handler, answer)

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        content = answer.raw if answer.raw is not None else completion(answer.text, answer.finish)
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        if not answer.drip:
            handler.end_headers()
            handler.wfile.write(content)
            return
        for number in range(1_000):  # the header's lines never end
            if self._closing.wait(answer.drip):
                return
            handler.wfile.write(f"X-{number}: 1\r\n".encode())


Serve = Callable[..., ChatServer]
"""What the fixture ``serve`` gives: the server, running."""
SECRET = "sk-a-key-that-nobody-may-read-0123456789"


def completion(
    text: str | None, finish: str = "stop", first: Sequence[tuple[str, float]] | None = None, **usage: int
) -> bytes:
    """The body of a chat completion; ``first`` are the likeliest first tokens with their log-probabilities."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if first is not None:
        likely = [{"token": token, "logprob": logprob} for token, logprob in first]
        choice["logprobs"] = {"content": [{**likely[0], "top_logprobs": likely}]}
    counted = usage or {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": counted}).encode()


def three_together() -> Script:
    """The first three requests wait for one another, so that fewer at once would be late."""
    together = threading.Barrier(3)

    def script(asked: Asked) -> Answer:
        if asked.number < 3:
            together.wait(60.0)
        return Answer(after=0.02)

    return script


def embedded() -> Script:
    """The embedded model as a server's: greedy unless it is asked otherwise, one request at a time."""
    import models

    engine, lock = models.load("tiny", dtype="float32", device="cpu"), threading.Lock()
    letters = [*string.digits, *string.ascii_letters, "+", "-", "*", "="]

    def answer(asked: Asked) -> Answer:
        told = {message["role"]: str(message["content"]) for message in asked.body["messages"]}
        chat = {"system": told.get("system", ""), "user": told.get("user", "")}
        most = int(asked.body.get("max_tokens", 16))
        with lock:
            if not engine.fits([chat], most)[0]:
                error = {"message": "the prompt is too long", "code": "context_length_exceeded"}
                return Answer(status=400, raw=json.dumps({"error": error}).encode())
            temperature, seed = float(asked.body.get("temperature", 1.0)), int(asked.body.get("seed", 0))
            top_p = float(asked.body.get("top_p", 1.0))
            said = engine.generate([chat], temperature=temperature, top_p=top_p, max_tokens=most, seeds=[seed])[0]
            first = None
            if asked.body.get("logprobs"):
                likely = zip(letters, engine.choices([chat], letters)[0], strict=True)
                first = sorted(likely, key=lambda pair: -pair[1])[: int(asked.body["top_logprobs"])]
        counted = {"prompt_tokens": len(said.prompt_ids), "completion_tokens": len(said.token_ids)}
        return Answer(raw=completion(said.text, said.finish, first, **counted))

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chat_server", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--says", metavar="TEXT", help="always the same reply, instead of the embedded model's")
    words = parser.parse_args()
    script = words.says if words.says is not None else embedded()
    with ChatServer(script, words.port, {"tiny": None}) as server:
        print(server.url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
