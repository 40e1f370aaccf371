#!/usr/bin/env python3
"""Compares what a receiver recorded with what the database committed.

    arrivals.py RECEIVED COMMITTED [DEAD]

RECEIVED   lines of test/lib/receiver.py
COMMITTED  event_id <tab> lane <tab> seq <tab> order_key, of all committed events that
           the subscription wants
DEAD       event_id [<tab> state], of events that were dead letters at some time.  They are out
           of order by nature when replayed.  Only one that is said to be replayed
           must have arrived.

Prints one line a finding and a summary; ends with 1 when an event is lost, out of
order, or was never committed.
"""

import json
import sys


def main():
    committed = {}
    for line in open(sys.argv[2]):
        event_id, lane, seq, key = line.rstrip("\n").split("\t")
        committed[event_id] = (int(lane), int(seq), key)
    dead = {}
    if len(sys.argv) > 3:
        for line in open(sys.argv[3]):
            event_id, _, state = line.strip().partition("\t")
            dead[event_id] = state

    requests = taken = repeats = strangers = disorder = wrong = 0
    arrived = set()
    last = {}                       # lane and key: the newest number that arrived
    for line in open(sys.argv[1]):
        request = json.loads(line)
        requests += 1
        wrong += "signature" in request
        if not request["taken"]:
            continue
        taken += 1
        event_id = request["event_id"]
        if request["event"].get("event_id") != event_id:
            print("the body of", event_id, "names", request["event"].get("event_id"))
            wrong += 1
        if event_id in arrived:
            repeats += 1
            continue
        arrived.add(event_id)
        if event_id not in committed:
            strangers += 1
            if strangers <= 5:
                print("never committed:", event_id, request["event_type"])
            continue
        lane, seq, key = committed[event_id]
        if event_id in dead:
            continue
        if seq < last.get((lane, key), 0):
            disorder += 1
            if disorder <= 5:
                print("out of order:", key, "number", seq, "after", last[(lane, key)])
        last[(lane, key)] = max(seq, last.get((lane, key), 0))

    lost = [event_id for event_id in committed
            if event_id not in arrived and dead.get(event_id, "replayed") == "replayed"]
    for event_id in lost[:5]:
        print("lost:", event_id, committed[event_id])
    print(f"{requests} requests, {taken} taken; {len(arrived)} events arrived of {len(committed)} "
          f"committed, {repeats} repeats")
    print(f"{len(lost)} lost, {disorder} out of order, {strangers} never committed, "
          f"{wrong} with a wrong signature or body")
    return 1 if lost or disorder or strangers or wrong else 0


sys.exit(main())
