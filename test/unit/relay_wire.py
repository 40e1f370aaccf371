"""The worker's side of the relay's socket, and receivers that behave badly.  For relay_test.py."""

import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

TAGS = {name: number for number, name in enumerate(
    "VERSION SOURCE DESTINATION_ID GENERATION SINK CONFIG IN_FLIGHT TOKEN TIMEOUT_MS ATTEMPT "
    "EVENT_ID EVENT_TYPE TIME ORDER_KEY TENANT SUBJECT REGION TRACE_ID TRACEPARENT HEADERS "
    "SCHEMA_VERSION EXPIRES_AT DATA OK STATUS CODE REASON RETRY_AFTER_MS DURATION_US RESPONSE "
    "LEVEL".split(), 1)}
NAMES = {number: name for name, number in TAGS.items()}
NUMBERS = set("VERSION DESTINATION_ID GENERATION IN_FLIGHT TOKEN TIMEOUT_MS ATTEMPT OK STATUS "
              "RETRY_AFTER_MS DURATION_US".split())


def frame(kind, **fields):
    body = kind.encode()
    for name, value in fields.items():
        if name in NUMBERS:
            value = struct.pack(">q", value)
        elif isinstance(value, str):
            value = value.encode()
        body += struct.pack(">BI", TAGS[name], len(value)) + value
    return struct.pack(">I", len(body)) + body


def parse(body):
    fields, at = {"kind": chr(body[0])}, 1
    while at < len(body):
        tag, length = struct.unpack_from(">BI", body, at)
        value = body[at + 5:at + 5 + length]
        name = NAMES[tag]
        assert name not in fields
        fields[name] = struct.unpack(">q", value)[0] if name in NUMBERS else value.decode()
        at += 5 + length
    return fields


class Relay:
    """A running relay; event() sends, result() waits for the answer of a token."""

    def __init__(self, program, env=None, greet=True):
        self.socket, theirs = socket.socketpair()
        self.log_path = os.environ.get("RELAY_LOG", os.devnull)
        self.stderr = open(self.log_path, "ab")
        self.process = subprocess.Popen([program, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                        stderr=self.stderr, env=dict(os.environ, **(env or {})))
        theirs.close()
        self.buffer = b""
        self.results, self.states, self.pongs, self.logs = {}, {}, [], []
        self.token = 0
        if greet:
            self.send(frame("H", VERSION=1, SOURCE="/pg_failsafe/test"))

    def send(self, data):
        self.socket.sendall(data)

    def read(self, timeout):
        """One read; false when nothing came or the other end is closed."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(1 << 20)
        except (socket.timeout, BlockingIOError):
            return False
        except ConnectionResetError:
            return False
        finally:
            self.socket.settimeout(None)
        self.buffer += data
        while len(self.buffer) >= 4:
            length = struct.unpack_from(">I", self.buffer)[0]
            if len(self.buffer) < 4 + length:
                break
            self.take(parse(self.buffer[4:4 + length]))
            self.buffer = self.buffer[4 + length:]
        return bool(data)

    def take(self, fields):
        kind = fields["kind"]
        if kind == "r":
            assert fields["TOKEN"] not in self.results, "answered twice"
            self.results[fields["TOKEN"]] = fields
        elif kind == "d":
            self.states[fields["DESTINATION_ID"]] = fields
        elif kind == "p":
            self.pongs.append(fields["TOKEN"])
        elif kind == "l":
            self.logs.append(fields["REASON"])

    def wait(self, condition, seconds=20):
        until = time.monotonic() + seconds
        while not condition():
            left = until - time.monotonic()
            if left <= 0 or (not self.read(left) and self.process.poll() is not None):
                return False
        return True

    def destination(self, number, config, in_flight=4, sink="http"):
        self.states.pop(number, None)
        self.send(frame("D", DESTINATION_ID=number, GENERATION=1, SINK=sink, CONFIG=config,
                        IN_FLIGHT=in_flight))
        assert self.wait(lambda: number in self.states), "no DESTINATION_STATE"
        return self.states[number]

    def event(self, destination, timeout_ms=5000, **more):
        self.token += 1
        fields = dict(TOKEN=self.token, DESTINATION_ID=destination, TIMEOUT_MS=timeout_ms, ATTEMPT=1,
                      EVENT_ID="0190b4a0-0000-7000-8000-%012d" % self.token, EVENT_TYPE="test.event",
                      TIME="2026-01-01T00:00:00Z", ORDER_KEY="acc_1", TENANT="default",
                      DATA='{"number":%d}' % self.token)
        fields.update(more)
        self.send(frame("E", **fields))
        return self.token

    def result(self, token, seconds=20):
        if not self.wait(lambda: token in self.results, seconds):
            return {"OK": None, "STATUS": None, "CODE": "no answer", "REASON": "", "RESPONSE": ""}
        return self.results[token]

    def ask(self, destination, **more):
        return self.result(self.event(destination, **more))

    def memory_kb(self):
        with open("/proc/%d/status" % self.process.pid) as status:
            return max(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    def end(self, how="close"):
        """Ends it and returns its exit status."""
        if how == "term":
            self.process.send_signal(signal.SIGTERM)
        else:
            self.socket.close()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "hangs"


class Request:
    def __init__(self, head, body, connection):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.path = lines[0].split(" ")[1]
        self.headers = {}
        self.repeated = []
        for line in lines[1:]:
            name, value = line.split(":", 1)
            if name.lower() in self.headers:
                self.repeated.append(name)
            self.headers[name.lower()] = value.strip(" ")
        self.body = body
        self.connection = connection
        self.at = time.monotonic()


class Receiver:
    """A server of threads: answers by the first part of the path."""

    def __init__(self, context=None):
        self.context = context
        self.mute = False
        self.requests = []
        self.lock = threading.Lock()
        self.now = self.most = self.connections = 0
        self.gate = threading.Event()
        self.gate.set()
        self.behaviours = {}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def url(self, path="/ok", host="127.0.0.1"):
        return "%s://%s:%d%s" % ("https" if self.context else "http", host, self.port, path)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            client.settimeout(60)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            with self.lock:
                self.connections += 1
                number = self.connections
            if self.context and client.selected_alpn_protocol() == "h2":
                self.behaviours["h2"](self, client)
            else:
                while self.one(client, number):
                    pass
        except (OSError, ssl.SSLError, ValueError, EOFError):
            pass
        finally:
            client.close()

    def one(self, client, number):
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(65536)
            if not part:
                return False
            data += part
            if data[:1] == b"\x16" and not self.mute:
                client.sendall(b"HTTP/1.1 400 This is not TLS\r\n\r\n")
                return False
        head, body = data.split(b"\r\n\r\n", 1)
        request = Request(head, body, number)
        length = int(request.headers.get("content-length", 0))
        pieces, have = [body], len(body)
        while have < length:
            part = client.recv(1 << 20)
            if not part:
                return False
            pieces.append(part)
            have += len(part)
        request.body = b"".join(pieces)
        with self.lock:
            self.requests.append(request)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            name = request.path.split("?")[0].strip("/").split("/")[0]
            return self.behaviours.get(name, answer_status)(self, client, request)
        finally:
            with self.lock:
                self.now -= 1


def reply(client, status, body=b"", headers=()):
    lines = ["HTTP/1.1 %d Something" % status, "Content-Length: %d" % len(body)] + list(headers)
    client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return True


def answer_status(server, client, request):
    """/ok is 200, /503 is 503."""
    name = request.path.strip("/").split("/")[0].split("?")[0]
    return reply(client, int(name) if name.isdigit() else 200, b"thank you")


def first_frames(client):
    """HTTP/2 by hand: enough for requests that fit into a few frames."""
    data = b""

    def exactly(count):
        nonlocal data
        while len(data) < count:
            part = client.recv(65536)
            if not part:
                raise EOFError
            data += part
        taken, data = data[:count], data[count:]
        return taken

    if exactly(24) != b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
        raise ValueError("no HTTP/2")
    client.sendall(b"\0\0\0\4\0\0\0\0\0")
    while True:
        head = exactly(9)
        body = exactly(int.from_bytes(head[:3], "big"))
        yield head[3], head[4], int.from_bytes(head[5:9], "big"), body


def http2(server, client):
    for kind, flags, stream, _ in first_frames(client):
        if kind == 4 and not flags & 1:
            client.sendall(b"\0\0\0\4\1\0\0\0\0")
        if kind in (0, 1) and flags & 1:
            with server.lock:
                server.requests.append(stream)
            # HEADERS, END_STREAM and END_HEADERS, ":status: 200" of the static table
            client.sendall(b"\0\0\1\1\5" + stream.to_bytes(4, "big") + b"\x88")
