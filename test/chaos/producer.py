#!/usr/bin/env python3
"""Writes money and events in all the ways that make a reader's life hard.

    producer.py --seconds N [--connections 8] [--seed 1] --acknowledged FILE

Connects as PGHOST, PGPORT and PGUSER say, again and again: the server may be killed at
any time.  FILE gets the idempotency key of each command whose commit was acknowledged.
Prints how many transactions of which kind were done.
"""

import argparse
import collections
import os
import random
import threading
import time

import psycopg

ACCOUNTS = 200


class Producer(threading.Thread):
    def __init__(self, number, options, acknowledged):
        super().__init__()
        self.number = number
        self.dice = random.Random(options.seed * 1000 + number)
        self.options = options
        self.acknowledged = acknowledged
        self.counts = collections.Counter()
        self.serial = 0
        self.connection = None

    def key(self):
        self.serial += 1
        return f"chaos_{self.options.seed}_{self.number}_{self.serial}"

    def connect(self):
        while time.time() < self.options.end:
            try:
                self.connection = psycopg.connect(dbname=os.environ["PGDATABASE"], autocommit=False)
                return
            except psycopg.Error:
                time.sleep(0.2)
        self.connection = None

    def account(self):
        return f"acc_{self.dice.randrange(ACCOUNTS)}"

    def debit(self, cursor):
        key = self.key()
        cursor.execute("SELECT status FROM failsafe.wallet_debit(%s, 1, 'EUR', %s)",
                       (self.account(), key))
        return key

    def transfer(self, cursor):
        key = self.key()
        one, two = self.account(), self.account()
        if one == two:
            return self.debit(cursor)
        cursor.execute("SELECT status FROM failsafe.wallet_transfer(%s, %s, 1, 'EUR', %s)",
                       (one, two, key))
        return key

    def emit(self, cursor):
        cursor.execute("SELECT failsafe.outbox_emit('chaos.thing', %s, jsonb_build_object('n', %s::int), "
                       "options => '{\"ordered\": true}')",
                       (f"thing_{self.dice.randrange(50)}", self.serial))

    def plain(self, cursor):
        key = self.dice.choice((self.debit, self.transfer))(cursor)
        self.connection.commit()
        return [key]

    def rolled_back(self, cursor):
        self.debit(cursor)
        self.emit(cursor)
        self.connection.rollback()
        return []

    def savepoints(self, cursor):
        keys = [self.debit(cursor)]
        cursor.execute("SAVEPOINT s")
        self.debit(cursor)
        self.emit(cursor)
        cursor.execute("ROLLBACK TO s")
        keys.append(self.debit(cursor))
        self.connection.commit()
        return keys

    def long(self, cursor):
        key = self.debit(cursor)
        time.sleep(self.dice.random() * 2)
        self.connection.commit()
        return [key]

    def events(self, cursor):
        for _ in range(self.dice.randrange(1, 5)):
            self.emit(cursor)
        self.connection.commit()
        return []

    def two_phase(self, cursor):
        name = self.key()
        cursor.execute("SET LOCAL failsafe.allow_prepare = on")
        key = self.debit(cursor)
        self.connection.execute(f"PREPARE TRANSACTION '{name}'")
        self.connection.commit()
        time.sleep(self.dice.random())
        self.connection.autocommit = True
        try:
            if self.dice.random() < 0.5:
                self.connection.execute(f"COMMIT PREPARED '{name}'")
                return [key]
            self.connection.execute(f"ROLLBACK PREPARED '{name}'")
            return []
        finally:
            self.connection.autocommit = False

    def step(self):
        kind = self.dice.choices((self.plain, self.rolled_back, self.savepoints, self.long,
                                  self.events, self.two_phase), (60, 10, 8, 2, 15, 1))[0]
        with self.connection.cursor() as cursor:
            keys = kind(cursor)
        self.counts[kind.__name__] += 1
        for key in keys:
            self.acknowledged.write(key + "\n")
        time.sleep(self.options.pause)

    def run(self):
        self.connect()
        while time.time() < self.options.end and self.connection is not None:
            try:
                self.step()
            except psycopg.Error as error:
                self.counts["failed"] += 1
                if self.connection.broken or self.connection.closed:
                    self.connect()
                    continue
                try:
                    self.connection.rollback()
                except psycopg.Error:
                    self.connect()
                if error.sqlstate is not None and error.sqlstate[:2] not in ("40", "55", "57", "SF", "25"):
                    print("unexpected:", error.sqlstate, error)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.002)
    parser.add_argument("--acknowledged", required=True)
    options = parser.parse_args()
    options.end = time.time() + options.seconds
    with open(options.acknowledged, "a", buffering=1) as acknowledged:
        producers = [Producer(number, options, acknowledged) for number in range(options.connections)]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
    counts = sum((producer.counts for producer in producers), collections.Counter())
    print(" ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))


main()
