#!/usr/bin/env python3
"""Load that expects the server to die: what was acknowledged is written down.

    crash.py CONNINFO PREFIX FILE CONNECTIONS

Each connection sends commands with keys of its own until it breaks.  A line of
FILE is key, command and body, tab separated, written when the answer is there.
"""
import json
import random
import sys
import threading
import time

import psycopg

ACCOUNTS = 12
BATCH = 3


def command(rng, prefix, number, i, holds):
    """The next command of a connection; holds are keys of holds it may resolve."""
    key = f"{prefix}_{number}_{i}"
    account = f"acc_{rng.randrange(ACCOUNTS)}"
    amount = rng.randrange(1, 50)
    kind = rng.choices(["credit", "debit", "transfer", "hold", "resolve", "post"],
                       [20, 20, 25, 15, 15, 5])[0]
    if kind == "resolve" and not holds:
        kind = "credit"
    if kind == "transfer":
        other = f"acc_{(int(account[4:]) + rng.randrange(1, ACCOUNTS)) % ACCOUNTS}"
        return {"command": kind, "from_account": account, "to_account": other, "amount": amount,
                "currency": "EUR", "idempotency_key": key}
    if kind == "hold":
        holds.append(key)
        return {"command": kind, "account": account, "amount": amount, "currency": "EUR",
                "idempotency_key": key, "expires_in": "1 second" if i % 3 == 0 else "1 day"}
    if kind == "resolve":
        hold = "key:" + holds.pop(rng.randrange(len(holds)))
        return {"command": rng.choice(["commit", "rollback"]), "hold": hold, "idempotency_key": key}
    if kind == "post":
        return {"command": kind, "idempotency_key": key, "legs": [
            {"account": "acc_0", "amount": -2, "currency": "EUR"},
            {"account": "acc_1", "amount": 1, "currency": "EUR"},
            {"account": "fees", "amount": 1, "currency": "EUR"}]}
    return {"command": kind, "account": account, "amount": amount, "currency": "EUR",
            "idempotency_key": key, "reference": prefix}


def send(connection, commands, rng):
    """Several commands in one transaction, again when it met a conflict: the keys are the same."""
    attempt = 0
    while True:
        try:
            with connection.transaction():
                return [connection.execute("SELECT body::text FROM failsafe.wallet_http(%s)", (c,)).fetchone()[0]
                        for c in commands]
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
            attempt += 1
            time.sleep(rng.random() * 0.01 * attempt)   # or they would meet again and again


def work(conninfo, prefix, number, log):
    """Send until the connection breaks.  A hold that got no answer is not resolved."""
    rng = random.Random(f"{prefix}{number}")
    holds = []
    i = 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while True:
            commands = []
            for _ in range(BATCH if i % 5 == 0 else 1):
                commands.append(json.dumps(command(rng, prefix, number, i, holds)))
                i += 1
            bodies = send(connection, commands, rng)
            log([(json.loads(c)["idempotency_key"], c, b) for c, b in zip(commands, bodies)
                 if '"refused"' not in b])


def main():
    conninfo, prefix, name, connections = sys.argv[1:5]
    lock = threading.Lock()
    with open(name, "w", encoding="utf-8") as file:
        def log(lines):
            with lock:
                for line in lines:
                    file.write("\t".join(line) + "\n")
                file.flush()

        def one(number):
            try:
                work(conninfo, prefix, number, log)
            except psycopg.OperationalError as error:
                if error.sqlstate not in (None, "57P01", "57P02", "57P03"):
                    raise       # the server is gone, which is what this is for; all else is news

        threads = [threading.Thread(target=one, args=(i,)) for i in range(int(connections))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
