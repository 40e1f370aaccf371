#!/usr/bin/env python3
"""A webhook receiver that records what arrives, and fails on purpose.

    receiver.py --log FILE [--port N] [--fail KIND=SHARE ...] [--poison TYPE] [--seed N]

Prints "port N" when it listens.  Kinds, each with its share of requests, 0 to 1:

    500       answers 500
    429       answers 429 with Retry-After: 1
    timeout   answers after --slow seconds
    close     closes the connection without an answer
    lost      takes the event, and closes the connection without an answer

--poison TYPE: events of this type are refused with 422 until FILE.cured exists.

Each request is one line of FILE, a JSON object: at, status, event_id, event_type, key,
attempt, and, where the event was taken (status 200, or lost), taken: true and the body.
--secret FILE: signatures are checked (Standard Webhooks, v1); a wrong one is answered
with 401 and the line has "signature": "wrong".
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import random
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass                            # the other side may go away at any time


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *args):
        pass

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def signature_is_right(self, body):
        if options.key is None:
            return True
        signed = b".".join([self.headers.get("webhook-id", "").encode(),
                            self.headers.get("webhook-timestamp", "").encode(), body])
        wanted = base64.b64encode(hmac.new(options.key, signed, hashlib.sha256).digest()).decode()
        given = self.headers.get("webhook-signature", "").split()
        return any(hmac.compare_digest(one, "v1," + wanted) for one in given)

    def choose(self, event_type):
        if event_type == options.poison and not os.path.exists(options.log + ".cured"):
            return "422"
        with lock:
            number = dice.random()
        for kind, share in options.failures:
            if number < share:
                return kind
            number -= share
        return "200"

    def record(self, kind, body, taken, signature):
        status = int(kind) if kind.isdigit() else 0
        line = {"at": time.time(), "status": status, "kind": kind,
                "event_id": self.headers.get("ce-id"), "event_type": self.headers.get("ce-type"),
                "attempt": int(self.headers.get("x-failsafe-attempt", "0")), "taken": taken}
        if not signature:
            line["signature"] = "wrong"
        if taken:
            line["event"] = json.loads(body)
        with lock:
            log.write(json.dumps(line) + "\n")
            log.flush()

    def answer(self, status, headers=()):
        body = b"{}" if status == 200 else b'{"error":"refused on purpose"}'
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        signature = self.signature_is_right(body)
        kind = self.choose(self.headers.get("ce-type")) if signature else "401"
        taken = kind in ("200", "lost")
        self.record(kind, body, taken, signature)
        if kind in ("close", "lost"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "timeout":
            time.sleep(options.slow)
            self.close_connection = True
        elif kind == "429":
            self.answer(429, [("Retry-After", "1")])
        else:
            self.answer(int(kind))


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fail", action="append", default=[])
    parser.add_argument("--poison")
    parser.add_argument("--slow", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--secret")
    arguments = parser.parse_args()
    arguments.failures = [(kind, float(share)) for kind, share in
                          (failure.split("=") for failure in arguments.fail)]
    arguments.key = None
    if arguments.secret:
        text = open(arguments.secret).read().strip()
        arguments.key = base64.b64decode(text.removeprefix("whsec_"))
    return arguments


options = read_arguments()
dice = random.Random(options.seed)
lock = threading.Lock()
log = open(options.log, "a")
server = Receiver(("127.0.0.1", options.port), Handler)
print("port", server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
