#!/usr/bin/env python3
"""Statements that are cancelled or time out at every point.

    cancel.py CONNINFO CONNECTIONS COMMANDS

Each connection credits one account by keys of its own, in batches and one by one,
while a canceller shoots at it and its statement_timeout is a few milliseconds.  What
did not get through is sent again, with the same key, until it is answered.  Prints
how often it was interrupted and how much was answered, as "name count" lines.
"""
import collections
import json
import random
import sys
import threading

import psycopg

BATCH = 50
INTERRUPTED = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable,
               psycopg.errors.DeadlockDetected)


def commands_of(number, first, count):
    return [{"command": "credit", "account": f"cancel_{i % 4}", "amount": 1, "currency": "EUR",
             "idempotency_key": f"cancel_{number}_{i}"} for i in range(first, first + count)]


def work(conninfo, number, total, count, targets):
    rng = random.Random(number)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        pid = connection.info.backend_pid
        targets.append(pid)
        done = 0
        while done < total:
            part = commands_of(number, done, min(rng.choice([1, 1, 5, BATCH]), total - done))
            attempt = 0
            while True:
                attempt += 1
                # the limit grows, so that the last attempt gets through
                limit = rng.randrange(1, 4) if attempt < 6 else 0
                try:
                    connection.execute(f"SET statement_timeout = {limit}")
                    rows = connection.execute("SELECT status FROM failsafe.wallet_batch(%s)",
                                              (json.dumps(part),)).fetchall()
                    break
                except INTERRUPTED as error:
                    count[error.sqlstate] += 1
            done += len(part)
            count["answered"] += sum(row[0] == "committed" for row in rows)
        targets.remove(pid)


def shoot(conninfo, targets, stop):
    """pg_cancel_backend() at random moments."""
    rng = random.Random(0)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while not stop.wait(rng.random() / 500):
            if targets:
                connection.execute("SELECT pg_cancel_backend(%s)", (rng.choice(list(targets)),))


def main():
    conninfo, connections, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    counts = [collections.Counter() for _ in range(connections)]
    targets = []
    stop = threading.Event()
    gunner = threading.Thread(target=shoot, args=(conninfo, targets, stop))
    threads = [threading.Thread(target=work, args=(conninfo, i, total, counts[i], targets))
               for i in range(connections)]
    gunner.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    gunner.join()
    sums = sum(counts, collections.Counter())
    for name in sorted(sums):
        print(name, sums[name])


if __name__ == "__main__":
    main()
