#!/usr/bin/env python3
"""Runs consumer.py against the database that PGDATABASE names; prints what happened.

The documentation's tests run it in a fresh database and compare the output with
consumer_test.out.
"""

import subprocess
import sys
import time
from pathlib import Path

import psycopg

SETUP = """
CREATE EXTENSION IF NOT EXISTS pg_failsafe;
SELECT FROM failsafe.subscription_create('search', 'pull', event_types => '{order.*}',
    options => '{"retry": {"base_ms": 10, "cap_ms": 10, "attempts": 2}}');
"""


def consume():
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("consumer.py")), "search", "--once"],
                          capture_output=True, text=True, check=True, timeout=60)
    return (done.stdout + done.stderr).splitlines()


def main():
    with psycopg.connect(autocommit=True) as connection:
        connection.execute(SETUP)
        for key, n in (("a", "1"), ("b", '"broken"'), ("a", "2"), ("b", "3")):
            connection.execute("SELECT failsafe.outbox_emit('order.changed', %s, %s::jsonb)", (key, f'{{"n": {n}}}'))
        lines = []
        for _ in range(3):
            lines += consume()
            time.sleep(0.1)             # longer than the pause after the first failure
        print(*sorted(lines), sep="\n")    # of two keys either may come first
        for row in connection.execute("SELECT event_type, order_key, attempts, reason FROM failsafe.dlq"):
            print(*row, sep=" | ")
        print(connection.execute("SELECT delivered, lag_events FROM failsafe.stat_subscriptions").fetchone())


main()
