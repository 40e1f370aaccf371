#!/usr/bin/env python3
"""Starts the relay with a socket pair and receivers that behave badly, checks each answer.

    relay_test.py PROGRAM [PLAIN-PROGRAM]

PROGRAM may be built with sanitizers; PLAIN-PROGRAM, where memory is measured, is not.
Prints TAP.  Nothing outside of this machine is asked.
"""

import base64
import hashlib
import hmac
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from email.utils import formatdate

sys.dont_write_bytecode = True  # other tests read every file of this directory

from relay_wire import NUMBERS, Receiver, Relay, frame, http2, reply

PROGRAM = os.path.abspath(sys.argv[1])
PLAIN = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else sys.argv[1])
WORK = tempfile.mkdtemp(prefix="relay_test.")
KEYS = ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
LOOPBACK = ["127.0.0.0/8", "::1"]
count = failed = 0


def ok(good, what, *shown):
    global count, failed
    count += 1
    failed += not good
    print("%sok %d - %s" % ("" if good else "not ", count, what), flush=True)
    if not good:
        for value in shown:
            print("# %s" % (value,))


def expect(result, what, good, status, code, *parts):
    right = (bool(result["OK"]) == good and result["STATUS"] == status and result["CODE"] == code and
             all(part in result["REASON"] for part in parts))
    ok(right, what, result)


def config(url, **more):
    return json.dumps(dict({"url": url, "allow_addresses": LOOPBACK}, **more))


def write(name, content):
    path = os.path.join(WORK, name)
    with open(path, "w") as file:
        file.write(content)
    return path


# ---- behaviours ------------------------------------------------------------------

def wait_for_gate(server, client, request):
    server.gate.wait(60)
    return reply(client, 200)


def too_many(server, client, request):
    return reply(client, 429, b"slow down", ["Retry-After: 7"])


def date(server, client, request):
    return reply(client, 503, b"", ["Retry-After: " + formatdate(time.time() + 100, usegmt=True)])


def redirect(server, client, request):
    return reply(client, 302, b"", ["Location: http://169.254.169.254/latest/meta-data/"])


def close_early(server, client, request):
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    return False


def close_at_once(server, client, request):
    return False


def not_http(server, client, request):
    client.sendall(b"220 mail.example ESMTP\r\n" * 3)
    return False


def bad_chunk(server, client, request):
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n")
    time.sleep(1)
    return False


def flood(status):
    def behave(server, client, request):
        client.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 1073741824\r\n\r\n" % status)
        for _ in range(1024):
            client.sendall(b"x" * 1048576)
        return False
    return behave


def drip(server, client, request):
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        client.sendall(b".")
        time.sleep(0.05)


def drip_head(server, client, request):
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
        client.sendall(bytes([byte]))
        time.sleep(0.05)
    return False


def silent(server, client, request):
    time.sleep(30)
    return False


def long_head(server, client, request):
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(100000):
        client.sendall(b"X-%d: %s\r\n" % (number, b"y" * 200))
    return False


def dirty(server, client, request):
    return reply(client, 422, b"bad\r\n\x00\x1b[31m\xff \xe2\x82\xac" + b"z" * 5000)


def pause(server, client, request):
    time.sleep(0.1)
    return reply(client, 200)


BEHAVIOURS = dict(gate=wait_for_gate, throttle=too_many, date=date, redirect=redirect, half=close_early,
                  none=close_at_once, mail=not_http, chunk=bad_chunk, flood=flood(200),
                  badflood=flood(500), drip=drip, driphead=drip_head, silent=silent, head=long_head,
                  dirty=dirty, pause=pause, h2=http2)


def receiver(context=None):
    server = Receiver(context)
    server.behaviours.update(BEHAVIOURS)
    return server


# ---- what is sent ----------------------------------------------------------------

def verify(request, key):
    head = request.headers
    signed = "%s.%s." % (head["webhook-id"], head["webhook-timestamp"])
    wanted = hmac.new(base64.b64decode(key), signed.encode() + request.body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(wanted).decode() in head["webhook-signature"].split(" ")


def test_request(server):
    relay = Relay(PROGRAM, env={"KEY_0": "whsec_" + KEYS[0], "KEY_1": "whsec_" + KEYS[1],
                                "PARTNER": "t0ps3cret"})
    state = relay.destination(1, config(server.url("/ok/path?a=b"), secrets=["env:KEY_0", "env:KEY_1"],
                                        headers={"X-Partner": "env:PARTNER", "X-Fixed": "1"}))
    ok(state["OK"] == 1 and state["GENERATION"] == 1, "a good destination", state)
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    started = time.time()
    result = relay.ask(1, TRACEPARENT=parent, SUBJECT="Zürich 100%", ATTEMPT=3, REGION="eu",
                       SCHEMA_VERSION="1.0.0", EXPIRES_AT="2030-01-01T00:00:00Z",
                       HEADERS='{"X-Mine":"yes","X-Fixed":"2","X-Evil":"a\\r\\nb: c"}',
                       DATA='{"amount":1,"text":"\u20ac"}')
    expect(result, "200 is delivered", True, 200, "")
    ok(0 < result["DURATION_US"] < 20000000 and result["RESPONSE"] == "thank you", "duration, excerpt",
       result)
    request = server.requests[-1]
    head = request.headers
    ok(request.line == "POST /ok/path?a=b HTTP/1.1", "a POST", request.line)
    ok(request.body == '{"amount":1,"text":"\u20ac"}'.encode(), "the body is DATA", request.body)
    ok(not request.repeated, "no header twice", request.repeated)
    event_id = "0190b4a0-0000-7000-8000-%012d" % relay.token
    wanted = {"content-type": "application/json", "ce-id": event_id, "ce-type": "test.event",
              "ce-source": "/pg_failsafe/test", "ce-specversion": "1.0", "ce-time": "2026-01-01T00:00:00Z",
              "ce-subject": "Z%C3%BCrich%20100%25", "ce-partitionkey": "acc_1", "ce-tenant": "default",
              "ce-region": "eu", "ce-schemaversion": "1.0.0", "ce-expirytime": "2030-01-01T00:00:00Z",
              "ce-traceparent": parent, "webhook-id": event_id, "idempotency-key": event_id,
              "x-failsafe-attempt": "3", "x-trace-id": "4bf92f3577b34da6a3ce929d0e0e4736",
              "x-mine": "yes", "x-fixed": "1", "x-partner": "t0ps3cret"}
    wrong = {name: head.get(name) for name, value in wanted.items() if head.get(name) != value}
    ok(not wrong, "the headers", wrong)
    ok(head["user-agent"].startswith("pg_failsafe/") and "/pg_failsafe/test" in head["user-agent"],
       "User-Agent", head["user-agent"])
    ok("x-evil" not in head and "b" not in head and "expect" not in head, "no header smuggled in", head)
    ok(any("X-Evil" in line for line in relay.logs) or relay.wait(lambda: relay.logs, 5),
       "the log says which header was left out", relay.logs)
    ok(started - 2 <= int(head["webhook-timestamp"]) <= time.time() + 2, "the time of the attempt")
    ok(all(verify(request, key) for key in KEYS), "signatures of both secrets", head)
    span = head["traceparent"].split("-")
    ok(span[1] == parent.split("-")[1] and span[2] != parent.split("-")[2], "a span of its own", span)
    expect(relay.ask(1, TRACE_ID="po 1", TRACEPARENT="nonsense"), "a bad traceparent", True, 200, "")
    ok(server.requests[-1].headers.get("x-trace-id") == "po%201" and
       "traceparent" not in server.requests[-1].headers, "is not sent, the trace id is")
    expect(relay.ask(1, EVENT_ID="a.b"), "an id with a dot", False, 0, "other", "identifier")
    ok(server.requests[-1].connection == request.connection, "the connection is kept")
    relay.destination(2, config(server.url(), mode="structured", secret="env:KEY_0"))
    expect(relay.ask(2, DATA='{"a":[1]}', SUBJECT='q"'), "structured mode", True, 200, "")
    request = server.requests[-1]
    body = json.loads(request.body)
    ok(request.headers["content-type"].startswith("application/cloudevents+json") and
       body["data"] == {"a": [1]} and body["subject"] == 'q"' and body["specversion"] == "1.0" and
       verify(request, KEYS[0]) and "ce-id" not in request.headers, "one JSON, signed", body)
    ok(relay.end() == 0, "ends with the socket")


# ---- answers ---------------------------------------------------------------------

def test_answers(server):
    relay = Relay(PROGRAM, env={"http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"})

    def to(path, **more):
        relay.destination(1, config(server.url(path)))
        return relay.ask(1, **more)

    label = "127.0.0.1:%d" % server.port
    for status in (201, 204):
        expect(to("/%d" % status), "%d, and no proxy of the environment" % status, True, status, "")
    for status in (400, 404, 410, 500, 503):
        expect(to("/%d?key=t0ps3cret" % status), "%d" % status, False, status, "status",
               "%s answered %d." % (label, status))
    result = to("/throttle")
    expect(result, "429", False, 429, "status", "asks to wait")
    ok(result.get("RETRY_AFTER_MS") == 7000 and result["RESPONSE"] == "slow down", "Retry-After", result)
    result = to("/date")
    ok(95000 <= result.get("RETRY_AFTER_MS", 0) <= 101000, "Retry-After as a date", result)
    asked = len(server.requests)
    expect(to("/redirect"), "a redirect is not followed", False, 302, "status", "redirects")
    ok(len(server.requests) == asked + 1, "one request")
    expect(to("/half"), "closed in the middle", False, 200, "closed", label)
    expect(to("/none"), "closed without an answer", False, 0, "closed", label)
    expect(to("/mail"), "not HTTP", False, 0, "protocol", label)
    expect(to("/chunk"), "a broken chunk", False, 200, "protocol", label)
    expect(to("/head"), "headers without end", False, 0, "too_large", label)
    started = time.monotonic()
    expect(to("/drip", timeout_ms=700), "byte by byte", False, 200, "timeout", "700 ms")
    expect(to("/driphead", timeout_ms=700), "the head byte by byte", False, 0, "timeout")
    expect(to("/silent", timeout_ms=700), "no answer", False, 0, "timeout", "no answer came")
    ok(2 < time.monotonic() - started < 6, "in the time that they had", time.monotonic() - started)
    result = to("/dirty")
    ok(result["RESPONSE"].startswith("bad   ") and "\u20ac" in result["RESPONSE"] and
       not any(ord(c) < 32 for c in result["RESPONSE"]) and len(result["RESPONSE"].encode()) <= 1024,
       "an excerpt that a person can read", result)
    ok(all("t0ps3cret" not in value["REASON"] for value in relay.results.values()), "no query in a reason")
    ok(relay.end("term") == 0, "SIGTERM: 0")


def test_addresses(server):
    relay = Relay(PROGRAM)

    def to(url, **more):
        state = relay.destination(1, json.dumps(dict({"url": url}, **more)))
        return relay.ask(1) if state["OK"] else {"OK": 0, "STATUS": 0, "CODE": "state",
                                                 "REASON": state["REASON"]}

    asked = len(server.requests)
    expect(to(server.url()), "loopback", False, 0, "blocked_address", "127.0.0.1 (loopback)")
    expect(to(server.url(host="localhost")), "a name of loopback", False, 0, "blocked_address", "loopback")
    expect(to(server.url(host="2130706433")), "a number of loopback", False, 0, "blocked_address", "loopback")
    expect(to(server.url(host="0x7f.1")), "hex of loopback", False, 0, "blocked_address", "loopback")
    expect(to(server.url(host="[::ffff:127.0.0.1]")), "mapped", False, 0, "blocked_address", "loopback")
    expect(to("http://169.254.169.254/"), "the cloud's", False, 0, "blocked_address", "link-local")
    expect(to("http://10.1.2.3/", allow_addresses=["192.168.0.0/16"]), "private", False, 0,
           "blocked_address", "private")
    ok(len(server.requests) == asked, "nobody was asked")
    expect(to(server.url(host="localhost"), allow_addresses=["localhost"]), "by name", True, 200, "")
    expect(to(server.url(), allow_addresses=["127.0.0.1"]), "by address", True, 200, "")
    asked = len(server.requests)
    expect(to(server.url()), "not on the connection of another destination", False, 0, "blocked_address")
    ok(len(server.requests) == asked, "nobody was asked")
    expect(to("http://name.invalid/"), "a name that is none", False, 0, "dns", "name.invalid")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        label = "127.0.0.1:%d" % closed.getsockname()[1]
        expect(to("http://%s/" % label, allow_addresses=LOOPBACK), "nobody listens", False, 0, "refused",
               label)
    ok(relay.end() == 0, "still alive")


# ---- TLS -------------------------------------------------------------------------

def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, cwd=WORK, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def certificate(name, subject, *days):
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
    write(name + ".ext", "subjectAltName=%s\n" % subject)
    openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", name + ".pem", "-extfile", name + ".ext", *(days or ("-days", "2")))


def tls_context(name, client=False, protocols=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(WORK, name + ".pem"), os.path.join(WORK, name + ".key"))
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(os.path.join(WORK, "ca.pem"))
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def test_tls():
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            "ca.key", "-out", "ca.pem", "-subj", "/CN=test", "-days", "2")
    certificate("good", "IP:127.0.0.1,DNS:localhost")
    certificate("other", "DNS:elsewhere.example")
    certificate("expired", "IP:127.0.0.1", "-days", "-1")
    path = {name: os.path.join(WORK, name) for name in os.listdir(WORK)}
    relay = Relay(PROGRAM)

    def to(server, **more):
        state = relay.destination(1, config(server.url(), **more))
        ok(state["OK"] == 1, "a destination by TLS", state)
        return relay.ask(1)

    good = receiver(tls_context("good"))
    expect(to(good), "an unknown issuer", False, 0, "tls", "127.0.0.1:%d" % good.port, "certificate")
    expect(to(good, ca_file=path["ca.pem"]), "a known issuer", True, 200, "")
    expect(to(receiver(tls_context("other")), ca_file=path["ca.pem"]), "another name", False, 0, "tls")
    expect(to(receiver(tls_context("expired")), ca_file=path["ca.pem"]), "expired", False, 0, "tls", "expired")
    expect(to(good, insecure_skip_verify=True), "not verified on request", True, 200, "")
    expect(to(good), "and verified again", False, 0, "tls")
    mutual = receiver(tls_context("good", client=True))
    result = to(mutual, ca_file=path["ca.pem"])
    ok(not result["OK"] and result["CODE"] in ("tls", "closed"), "a client certificate is wanted", result)
    expect(to(mutual, ca_file=path["ca.pem"], client_certificate=path["good.pem"],
              client_key="file:" + path["good.key"]), "and given", True, 200, "")
    plain = receiver()
    relay.destination(1, config(plain.url().replace("http:", "https:")))
    expect(relay.ask(1), "no TLS at the other end", False, 0, "tls")
    relay.destination(1, config(plain.url("/mute").replace("http:", "https:")))
    plain.mute = True
    expect(relay.ask(1, timeout_ms=500), "nothing at the other end", False, 0, "timeout", "no connection")
    two = receiver(tls_context("good", protocols=["h2", "http/1.1"]))
    relay.destination(2, config(two.url(), ca_file=path["ca.pem"]), in_flight=8)
    results = [relay.result(token) for token in [relay.event(2) for _ in range(50)]]
    ok(all(result["OK"] for result in results) and len(two.requests) == 50 and two.connections == 1,
       "HTTP/2: 50 events over one connection", two.connections, results[0])
    one = receiver(tls_context("good", protocols=["h2", "http/1.1"]))
    relay.destination(3, config(one.url(), ca_file=path["ca.pem"], http2=False))
    ok(relay.ask(3)["OK"] and one.requests[0].line.endswith("HTTP/1.1"), "http2: false")
    state = relay.destination(4, config(good.url(), ca_file="/nonexistent/ca.pem"))
    ok(not state["OK"] and '"ca_file"' in state["REASON"] and "No such file" in state["REASON"],
       "a missing ca_file is told", state)
    expect(relay.ask(4), "and is a failure of the configuration", False, 0, "config")
    ok(relay.end() == 0, "still alive")


# ---- secrets, tokens -------------------------------------------------------------

def test_secrets(server):
    relay = Relay(PROGRAM)
    path = os.path.join(WORK, "billing.key")
    state = relay.destination(1, config(server.url(), secret="file:" + path))
    ok(not state["OK"] and path in state["REASON"] and '"secret"' in state["REASON"], "no file yet", state)
    expect(relay.ask(1), "no file, no event", False, 0, "config", path)
    write("billing.key", "whsec_%s\n" % KEYS[0])
    time.sleep(1.1)
    expect(relay.ask(1), "the file is there", True, 200, "")
    ok(verify(server.requests[-1], KEYS[0]), "signed with it")
    write("billing.key", "whsec_%s\n" % KEYS[1])
    time.sleep(1.1)
    expect(relay.ask(1), "the file changed", True, 200, "")
    ok(verify(server.requests[-1], KEYS[1]), "signed with what is in it now")
    write("billing.key", "t0ps3cret without a prefix\n")
    time.sleep(1.1)
    result = relay.ask(1)
    expect(result, "no key any more", False, 0, "config", "whsec_")
    ok("t0ps3cret" not in result["REASON"], "and not shown")
    for bad in ({"secret": "whsec_" + KEYS[0]}, {"colour": 1}, {"headers": {"Authorization": "Bearer x"}}):
        state = relay.destination(2, config(server.url(), **bad))
        ok(not state["OK"] and list(bad)[0] in state["REASON"], "refused: %s" % list(bad)[0], state)
        expect(relay.ask(2), "its events too", False, 0, "config", list(bad)[0])
    state = relay.destination(3, "{}", sink="carrier pigeon")
    ok(not state["OK"] and "carrier pigeon" in state["REASON"], "an unknown sink", state)
    expect(relay.ask(99), "an unknown destination", False, 0, "config", "not known")
    ok(relay.end() == 0, "still alive")


def test_oauth2(server):
    tokens = receiver()
    relay = Relay(PROGRAM, env={"CLIENT_SECRET": "t0ps3cret/"})
    answers = {"status": 200, "body": '{"access_token":"tok-1","token_type":"Bearer","expires_in":3600}'}
    tokens.behaviours["token"] = lambda _, client, request: (
        time.sleep(0.2), reply(client, answers["status"], answers["body"].encode()))[1]
    settings = dict(token_url=tokens.url("/token"), client_id="my id", client_secret="env:CLIENT_SECRET",
                    scope="a b")
    relay.destination(1, config(server.url(), oauth2=settings), in_flight=10)
    results = [relay.result(token) for token in [relay.event(1) for _ in range(10)]]
    ok(all(result["OK"] for result in results) and len(tokens.requests) == 1, "one token for ten events",
       len(tokens.requests), results[0])
    ok(server.requests[-1].headers.get("authorization") == "Bearer tok-1", "and it is sent")
    request = tokens.requests[0]
    basic = base64.b64decode(request.headers["authorization"].split(" ")[1]).decode()
    ok(basic == "my%20id:t0ps3cret%2F" and request.body == b"grant_type=client_credentials&scope=a%20b",
       "client credentials", basic, request.body)
    relay.destination(2, config(server.url("/401"), oauth2=settings))
    expect(relay.ask(2), "401 of the destination", False, 401, "status")
    answers["body"] = '{"access_token":"tok-2"}'
    relay.ask(2)
    ok(server.requests[-1].headers.get("authorization") == "Bearer tok-2", "asks for another token")
    for status, body, part in ((400, '{"error":"invalid_client"}', "invalid_client"), (500, "", "500"),
                               (200, "<html>", "JSON"), (200, "x" * 200000, "token")):
        answers.update(status=status, body=body)
        relay.destination(3, config(server.url(), oauth2=settings), in_flight=10)
        results = [relay.result(token) for token in [relay.event(3) for _ in range(3)]]
        for result in results:
            expect(result, "no token: %s" % part, False, 0, "auth", part)
    relay.destination(4, config(server.url(), oauth2=dict(settings, token_url=tokens.url("/silent"))))
    expect(relay.ask(4, timeout_ms=500), "a token server that does not answer", False, 0, "auth")
    # replaced while its events wait for a token
    relay.destination(4, config(server.url(), oauth2=dict(settings, token_url=tokens.url("/silent"))))
    asked = len(tokens.requests)
    token = relay.event(4, timeout_ms=1500)
    until = time.monotonic() + 1
    while len(tokens.requests) == asked and time.monotonic() < until:
        time.sleep(0.01)
    relay.destination(4, config(server.url()))
    expect(relay.result(token), "a destination that was replaced meanwhile", False, 0, "auth")
    expect(relay.ask(4), "and its successor", True, 200, "")
    ok(all("t0ps3cret" not in result["REASON"] for result in relay.results.values()), "no secret is shown")
    ok(relay.end() == 0, "still alive")


# ---- order, limits, ends -----------------------------------------------------------

def test_order():
    server = receiver()
    relay = Relay(PROGRAM)
    relay.destination(1, config(server.url()), in_flight=1)
    tokens = [relay.event(1) for _ in range(300)]
    ok(all(relay.result(token)["OK"] for token in tokens), "300 events, one at a time")
    numbers = [json.loads(request.body)["number"] for request in server.requests]
    ok(numbers == tokens and server.most == 1, "in their order", server.most)
    other = receiver()
    relay.destination(2, config(other.url("/pause")), in_flight=5)
    tokens = [relay.event(2) for _ in range(40)]
    slow = time.monotonic()
    ok(relay.ask(1)["OK"] and time.monotonic() - slow < 1, "a slow destination delays no other")
    ok(all(relay.result(token)["OK"] for token in tokens) and other.most == 5, "five at once",
       other.most)
    server.behaviours["gate"] = wait_for_gate
    server.gate.clear()
    relay.destination(3, config(server.url("/gate")), in_flight=2)
    tokens = [relay.event(3) for _ in range(6)]
    until = time.monotonic() + 3
    while server.now < 2 and time.monotonic() < until:
        time.sleep(0.01)
    ok(server.now == 2, "two on their way", server.now)
    relay.send(frame("X", DESTINATION_ID=3))
    late = relay.event(3)
    expect(relay.result(late), "removed: nothing new", False, 0, "config", "not known")
    server.gate.set()
    ok(all(relay.result(token)["OK"] for token in tokens), "removed: what was there is answered")
    relay.send(frame("P", TOKEN=7))
    ok(relay.wait(lambda: relay.pongs == [7], 5), "PONG")
    ok(relay.end() == 0, "still alive")


def test_memory():
    server = receiver()
    relay = Relay(PLAIN)
    relay.destination(1, config(server.url("/flood")))
    relay.destination(2, config(server.url("/badflood")))
    expect(relay.ask(1, timeout_ms=15000), "1 GB of an answer, 200", True, 200, "")
    result = relay.ask(2, timeout_ms=15000)
    expect(result, "1 GB of an answer, 500", False, 500, "status")
    ok(result["RESPONSE"] == "x" * 1024 and relay.memory_kb() < 40000, "little memory", relay.memory_kb())
    relay.destination(3, config(server.url("/gate")), in_flight=1)
    server.gate.clear()
    data = json.dumps({"x": "y" * 100000})
    relay.socket.setblocking(False)
    written = first = relay.token + 1
    whole = True
    until = time.monotonic() + 20
    while whole and time.monotonic() < until:
        fields = dict(TOKEN=written, DESTINATION_ID=3, TIMEOUT_MS=60000, ATTEMPT=1, EVENT_ID="e-%d" % written,
                      EVENT_TYPE="t", TIME="", ORDER_KEY="", TENANT="", DATA=data)
        rest, quiet = frame("E", **fields), 0
        while rest and quiet < 20:
            try:
                rest = rest[relay.socket.send(rest):]
                quiet = 0
            except BlockingIOError:
                time.sleep(0.05)
                quiet += 1
        whole = not rest
        written += whole
    relay.socket.setblocking(True)
    events = written - first
    ok(not whole and 600 < events < 800, "stops reading at 64 MiB", events, len(rest))
    ok(relay.memory_kb() < 160000, "bounded memory", relay.memory_kb())
    server.gate.set()
    # what was cut off goes on
    threading.Thread(target=relay.socket.sendall, args=(rest,), daemon=True).start()
    ok(relay.wait(lambda: sum(token >= first for token in relay.results) == events + 1, 60) and
       all(relay.results[token]["OK"] for token in range(first, written + 1)), "all are answered",
       len(relay.results))
    relay.token = written
    big = json.dumps({"x": "y" * (20 * 1024 * 1024)})
    expect(relay.ask(3, DATA=big, timeout_ms=20000), "an event of 20 MiB", True, 200, "")
    ok(len(server.requests[-1].body) == len(big), "whole")
    server.gate.clear()
    relay.destination(4, config(server.url("/gate")), in_flight=1)
    small = b"".join(frame("E", TOKEN=n, DESTINATION_ID=4, TIMEOUT_MS=60000, ATTEMPT=1, EVENT_ID="e",
                           EVENT_TYPE="t", DATA="{}") for n in range(100000, 150000))
    relay.socket.setblocking(False)
    sent = quiet = 0
    while sent < len(small) and quiet < 20:
        try:
            sent += relay.socket.send(small[sent:])
            quiet = 0
        except BlockingIOError:
            time.sleep(0.05)
            quiet += 1
    ok(sent < len(small), "stops reading at so many events", sent * 50000 // len(small))
    relay.socket.setblocking(True)
    relay.socket.close()
    ok(relay.end() == 0, "ends with the socket, although it does not read")


def test_ends():
    for what, data in (("a frame before HELLO", frame("P", TOKEN=1)),
                       ("HELLO of another version", frame("H", VERSION=2, SOURCE="x")),
                       ("a frame that is too long", b"\x02\x00\x00\x00H"),
                       ("an empty frame", b"\0\0\0\0")):
        relay = Relay(PROGRAM, greet=False)
        relay.send(data)
        ok(relay.process.wait(10) == 1, what)
        relay.socket.close()
    for what, data in (("an unknown type", frame("?")), ("HELLO twice", frame("H", VERSION=1, SOURCE="x")),
                       ("a field that is cut off", b"\0\0\0\6E\x08\0\0\0\x08"),
                       ("an event without a token", frame("E", DESTINATION_ID=1)),
                       ("a destination without a config", frame("D", DESTINATION_ID=1, GENERATION=1,
                                                                IN_FLIGHT=1, SINK="http")),
                       ("a result", frame("r", TOKEN=1))):
        relay = Relay(PROGRAM)
        relay.send(data)
        ok(relay.process.wait(10) == 1, what)
        relay.socket.close()
    relay = Relay(PROGRAM)
    relay.send(frame("P", TOKEN=1)[:7])
    ok(relay.end() == 0, "the socket ends inside of a frame")
    for arguments in (["x"], ["3", "4"], ["-1"]):
        ok(subprocess.run([PROGRAM, *arguments], stderr=subprocess.DEVNULL).returncode == 2, "usage")
    # A parent that dies takes it along, although another process holds the socket open.
    relay = Relay(PROGRAM)
    code = ("import os, subprocess, sys; p = subprocess.Popen([sys.argv[1], '0'], stdin=0); "
            "print(p.pid, flush=True); import time; time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code, PLAIN], stdin=relay.socket,
                              stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while time.monotonic() < until and os.path.exists("/proc/%d" % pid) and state_of(pid) not in "ZX":
        time.sleep(0.05)
    ok(not os.path.exists("/proc/%d" % pid) or state_of(pid) in "ZX", "dies with its parent")
    relay.process.kill()
    relay.process.wait()


def state_of(pid):
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


SLOW_LOOKUP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
				struct addrinfo **found)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
		dlsym(RTLD_NEXT, "getaddrinfo");

	if (node != NULL && strcmp(node, "slow.example") == 0)
		sleep(8);
	return real(node, service, hints, found);
}
"""


def test_slow_lookup(server):
    write("slow.c", SLOW_LOOKUP)
    library = os.path.join(WORK, "slow.so")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library,
                    os.path.join(WORK, "slow.c"), "-ldl"], check=True)
    relay = Relay(PLAIN, env={"LD_PRELOAD": library})
    relay.destination(1, config("http://slow.example/"))
    relay.destination(2, config(server.url()))
    slow = relay.event(1, timeout_ms=500)
    time.sleep(0.2)
    started = time.monotonic()
    ok(relay.ask(2)["OK"] and time.monotonic() - started < 0.3, "a look-up that hangs delays no other")
    expect(relay.result(slow), "and ends in time", False, 0, "timeout", "not resolved")
    for _ in range(3):
        started = time.monotonic()
        ok(relay.ask(2)["OK"] and time.monotonic() - started < 1, "nor does its end",
           time.monotonic() - started)
    ok(relay.end() == 0 and time.monotonic() - started < 3, "nor does the end of all")


def main():
    try:
        assert "TOKEN" in NUMBERS
        server = receiver()
        test_request(server)
        test_answers(server)
        test_addresses(server)
        test_secrets(server)
        test_oauth2(server)
        test_order()
        test_tls()
        test_memory()
        test_ends()
        test_slow_lookup(server)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    print("1..%d" % count)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
