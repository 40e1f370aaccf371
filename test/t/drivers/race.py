#!/usr/bin/env python3
"""Connections that race for one thing: a key, the money of an account, locks.

    race.py CONNINFO same_key CONNECTIONS KEY ISOLATION ROLLBACKS
    race.py CONNINFO half CONNECTIONS DEBITS
    race.py CONNINFO batches CONNECTIONS ROUNDS

Prints what came of it as "name count" lines, in name order.
"""
import collections
import random
import sys
import threading

import psycopg

WAITS = "-c failsafe.key_wait=60s -c failsafe.lock_wait=60s"


def run(conninfo, connections, work):
    """Start work(connection, number, count) in as many threads at once."""
    gate = threading.Barrier(connections)
    results = collections.Counter()
    lock = threading.Lock()

    def one(number):
        mine = collections.Counter()
        try:
            with psycopg.connect(conninfo, options=WAITS, autocommit=True) as connection:
                gate.wait()
                work(connection, number, mine)
        except Exception as error:
            mine[f"unexpected {type(error).__name__} {error}"] += 1
        with lock:
            results.update(mine)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in sorted(results):
        print(name, results[name])


def same_key(conninfo, connections, key, isolation, rollbacks):
    """All debit under one key; the first ones of each pair may roll back."""
    def work(connection, number, count):
        connection.autocommit = False
        while True:
            try:
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
                row = connection.execute(
                    "SELECT status, replayed, posted FROM failsafe.wallet_debit('race', 10, 'EUR', %s)",
                    (key,)).fetchone()
                if number < rollbacks:
                    connection.rollback()
                    count["rolled back"] += 1
                    return
                connection.commit()
                count[f"{row[0]} {'replayed' if row[1] else 'new'} {row[2]}"] += 1
                return
            except psycopg.errors.SerializationFailure:
                connection.rollback()
    run(conninfo, connections, work)


def half(conninfo, connections, debits):
    """Together they ask for twice the money that is there."""
    def work(connection, number, count):
        for i in range(debits):
            try:
                connection.execute("SELECT failsafe.wallet_debit('half', 10, 'EUR', %s)",
                                   (f"half_{number}_{i}",))
                count["committed"] += 1
            except psycopg.errors.DatabaseError as error:
                count[error.sqlstate] += 1
    run(conninfo, connections, work)


def batches(conninfo, connections, rounds):
    """Each sends the same commands in an order of its own: no deadlock, one effect."""
    def work(connection, number, count):
        shuffled = random.Random(number)
        for i in range(rounds):
            commands = [
                '{"command":"transfer","from_account":"batch_%d","to_account":"batch_%d","amount":1,'
                '"currency":"EUR","idempotency_key":"batch_%d_%d"}' % (j, (j * 7 + 3) % 20, i, j)
                for j in range(20) if (j * 7 + 3) % 20 != j]
            shuffled.shuffle(commands)
            rows = connection.execute("SELECT status, replayed FROM failsafe.wallet_batch(%s)",
                                      ("[" + ",".join(commands) + "]",)).fetchall()
            for status, replayed in rows:
                count[status + (" replayed" if replayed else " new")] += 1
    run(conninfo, connections, work)


def main():
    conninfo, mode = sys.argv[1:3]
    if mode == "same_key":
        same_key(conninfo, int(sys.argv[3]), sys.argv[4], sys.argv[5], int(sys.argv[6]))
    elif mode == "half":
        half(conninfo, int(sys.argv[3]), int(sys.argv[4]))
    else:
        batches(conninfo, int(sys.argv[3]), int(sys.argv[4]))


if __name__ == "__main__":
    main()
