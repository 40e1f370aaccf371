#!/usr/bin/env python3
"""A webhook receiver that records what arrives, and fails on purpose.

    receiver.py --log FILE [--port N] [--fail KIND=SHARE ...] [--poison TYPE] [--seed N]
                [--rules FILE] [--secret FILE] [--show HEADER ...]

Prints "port N" when it listens.  Kinds, each with its share of requests, 0 to 1:

    500       answers 500
    429       answers 429 with Retry-After: 1
    timeout   answers after --slow seconds
    close     closes the connection without an answer
    lost      takes the event, and closes the connection without an answer
    partial   sends half of an answer and closes the connection
    hold      takes the event, and answers 200 as soon as no rule says hold any more
    302 ...   any other status; 3xx has the Location that the rule gives

--poison TYPE: events of this type are refused with 422 until FILE.cured exists.

--rules FILE: a JSON array, read again when the file is replaced.  The first rule that fits
decides, before the shares do: {"if": {NAME: VALUE ...}, "kind": KIND, "times": N,
"retry_after": SECONDS, "delay": SECONDS, "location": URL}.  NAME is path, key, type or a
member of the event; a rule with times fits each event that often only.  delay: the answer
waits that long.

Each request is one line of FILE, a JSON object: at, status, kind, path, event_id,
event_type, key, attempt, and, where the event was taken (status 200, lost or hold), taken:
true and the body.  open and open_of_key count the requests, this one included, that have
no answer yet; of its path, and of its path and key.
--show HEADER: the line has it in "headers", where it was there.
--secret FILE: signatures are checked (Standard Webhooks, v1); a wrong one is answered
with 401 and the line has "signature": "wrong".
"""

import argparse
import base64
import collections
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

    def facts(self, body):
        known = json.loads(body) if options.rules is not None else {}
        known.update(path=self.path, key=self.headers.get("ce-partitionkey"),
                     type=self.headers.get("ce-type"))
        return known

    def choose(self, facts, event_id):
        rule = rules.find(facts, event_id)
        if rule is not None:
            return rule
        if facts["type"] == options.poison and not os.path.exists(options.log + ".cured"):
            return {"kind": "422"}
        with lock:
            number = dice.random()
        for kind, share in options.failures:
            if number < share:
                return {"kind": kind}
            number -= share
        return {"kind": "200"}

    def record(self, kind, body, taken, signature):
        status = int(kind) if kind.isdigit() else 0
        line = {"at": time.time(), "status": status, "kind": kind, "path": self.path,
                "event_id": self.headers.get("ce-id"), "event_type": self.headers.get("ce-type"),
                "key": self.headers.get("ce-partitionkey"),
                "attempt": int(self.headers.get("x-failsafe-attempt", "0")), "taken": taken}
        if options.show:
            line["headers"] = {name: self.headers[name] for name in options.show if name in self.headers}
        if not signature:
            line["signature"] = "wrong"
        if taken:
            line["event"] = json.loads(body)
        with lock:
            for name, place in (("open", self.path), ("open_of_key", (self.path, line["key"]))):
                open_requests[place] += 1
                line[name] = open_requests[place]
            log.write(json.dumps(line) + "\n")
            log.flush()

    def closing(self):
        """From here on the other side may know the answer."""
        with lock:
            open_requests[self.path] -= 1
            open_requests[self.path, self.headers.get("ce-partitionkey")] -= 1

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
        facts = self.facts(body)
        event_id = self.headers.get("ce-id")
        rule = self.choose(facts, event_id) if signature else {"kind": "401"}
        kind = rule["kind"]
        self.record(kind, body, kind in ("200", "lost", "hold"), signature)
        time.sleep(rule.get("delay", 0))
        while kind == "hold" and rules.has(facts, "hold"):
            time.sleep(0.01)
        if kind == "timeout":
            time.sleep(options.slow)
        self.closing()
        self.behave(rule, kind)

    def behave(self, rule, kind):
        if kind in ("close", "lost"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "timeout":
            self.close_connection = True
        elif kind == "partial":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        elif kind.startswith("3"):
            self.answer(int(kind), [("Location", rule.get("location", "/elsewhere"))])
        elif kind == "429" or "retry_after" in rule:
            self.answer(int(kind), [("Retry-After", str(rule.get("retry_after", 1)))])
        else:
            self.answer(200 if kind == "hold" else int(kind))

    do_GET = do_POST


class Rules:
    def __init__(self):
        self.seen = None
        self.rules = []
        self.fitted = collections.Counter()

    def read(self):
        try:
            now = os.stat(options.rules)
        except FileNotFoundError:
            return
        if self.seen != (now.st_ino, now.st_mtime_ns):
            self.seen = (now.st_ino, now.st_mtime_ns)
            with open(options.rules) as file:
                self.rules = json.load(file)

    def fitting(self, facts):
        if options.rules is not None:
            self.read()
        return (rule for rule in self.rules
                if all(facts.get(name) == value for name, value in rule.get("if", {}).items()))

    def find(self, facts, event_id):
        with lock:
            for rule in self.fitting(facts):
                place = (json.dumps(rule, sort_keys=True), event_id)
                if self.fitted[place] < rule.get("times", 1 << 30):
                    self.fitted[place] += 1
                    return rule
        return None

    def has(self, facts, kind):
        with lock:
            return any(rule["kind"] == kind for rule in self.fitting(facts))


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fail", action="append", default=[])
    parser.add_argument("--poison")
    parser.add_argument("--slow", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rules")
    parser.add_argument("--secret")
    parser.add_argument("--show", action="append", default=[])
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
rules = Rules()
open_requests = collections.Counter()   # by path, and by path and key
log = open(options.log, "a")
server = Receiver(("127.0.0.1", options.port), Handler)
print("port", server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
