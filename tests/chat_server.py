"""A real OpenAI-compatible server on this machine, for the tests of remote judges and for trying one out.

``python -m tests.chat_server`` serves the embedded model and prints the address; ``--says TEXT`` serves a judge that
always says ``TEXT``. In tests a script decides what each request gets: a reply, an error, garbage, or silence.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable, Mapping
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
    """What a request gets, ``after`` seconds later: ``text`` as the model's reply, or ``raw`` as the whole body. With
    ``drip`` it gets headers that never end, ``drip`` seconds between two."""

    text: str = POINTS_5
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: bytes | None = None
    after: float = 0.0
    drip: float = 0.0


Script = Callable[[Asked], Answer]


class ChatServer:
    """Serves ``/v1/chat/completions`` at ``url`` until it is closed; ``asked`` holds all requests so far, ``at_once``
    the most that were under way together. Ten tokens in and five out are counted for each."""

    def __init__(self, script: Script | str = POINTS_5, port: int = 0) -> None:
        self.script: Script = (lambda _: Answer(script)) if isinstance(script, str) else script
        self.asked: list[Asked] = []
        self.at_once = self._under_way = 0
        self._lock, self._closing = threading.Lock(), threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

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

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """One request, in its own thread."""
        data = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if handler.path != "/v1/chat/completions":
            self._send(handler, Answer(status=404, raw=b'{"error": {"message": "no such path"}}'))
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
        content = answer.raw if answer.raw is not None else completion(answer.text)
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


def completion(text: str, **usage: int) -> bytes:
    """The body of a chat completion."""
    message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    counted = usage or {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"object": "chat.completion", "choices": [message], "usage": counted}).encode()


def embedded() -> Script:
    """The embedded model as a server's: greedy unless it is asked otherwise, one request at a time."""
    import models

    engine, lock = models.load("tiny", dtype="float32", device="cpu"), threading.Lock()

    def answer(asked: Asked) -> Answer:
        chat = {"system": "", "user": asked.prompt}
        most = int(asked.body.get("max_tokens", 16))
        with lock:
            if not engine.fits([chat], most)[0]:
                return Answer(status=400, raw=b'{"error": {"message": "the prompt is too long"}}')
            temperature, seed = float(asked.body.get("temperature", 1.0)), int(asked.body.get("seed", 0))
            said = engine.generate([chat], temperature=temperature, top_p=1.0, max_tokens=most, seeds=[seed])[0]
        counted = {"prompt_tokens": len(said.prompt_ids), "completion_tokens": len(said.token_ids)}
        return Answer(raw=completion(said.text, **counted))

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chat_server", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--says", metavar="TEXT", help="always the same reply, instead of the embedded model's")
    words = parser.parse_args()
    with ChatServer(words.says if words.says is not None else embedded(), words.port) as server:
        print(server.url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
