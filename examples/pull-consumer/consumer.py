#!/usr/bin/env python3
"""Fetches events of a pull subscription of pg_failsafe, one batch after the other.

    consumer.py SUBSCRIPTION [--once]

Connects as psql does (PGHOST, PGDATABASE ...), with a role that has failsafe_app.  --once
ends when nothing is left to claim.  Ctrl-C ends after the event at hand; what was claimed and
not answered is handed out again when its lease ends.

Replace work().  An event comes at least once: what work() does must bear a repetition, or
remember event_id.
"""

import signal
import sys
import time

import psycopg

BATCH = 100
LEASE = "1 minute"              # longer than the work on a whole batch
IDLE_S = 1.0
RECONNECT_S = 2.0


def work(event_type, order_key, event):
    print(event_type, order_key, event.get("n"), flush=True)
    if event.get("n") == "broken":
        raise ValueError("n is not a number")


class Consumer:
    def __init__(self, subscription):
        self.subscription = subscription
        self.stopping = False

    def stop(self, *_):
        self.stopping = True

    def claim(self, connection):
        return connection.execute(
            "SELECT delivery_id, fence, event_type, order_key, envelope"
            "  FROM failsafe.outbox_claim(%s, max_events => %s, lease => %s)",
            (self.subscription, BATCH, LEASE)).fetchall()

    def answer(self, connection, delivery_id, fence, problem):
        if problem is None:
            row = connection.execute(
                "SELECT status FROM failsafe.outbox_ack(%s, %s::int8[], %s::int8[])",
                (self.subscription, [delivery_id], [fence])).fetchone()
        else:
            row = connection.execute(
                "SELECT status FROM failsafe.outbox_nack(%s, %s, %s, %s)",
                (self.subscription, delivery_id, fence, problem)).fetchone()
        if row[0] == "stale":
            print("too late: the lease had ended, somebody else has the event", file=sys.stderr)

    def batch(self, connection):
        """How many events were handed out.  Each statement is a transaction of its own."""
        events = self.claim(connection)
        for delivery_id, fence, event_type, order_key, event in events:
            if self.stopping:
                break
            problem = None
            try:
                work(event_type, order_key, event)
            except Exception as error:          # whatever it is, others go on
                problem = f"{type(error).__name__}: {error}".replace("\n", " ")[:500]
            self.answer(connection, delivery_id, fence, problem)
        return len(events)

    def run(self, once):
        while not self.stopping:
            try:
                with psycopg.connect(autocommit=True, application_name="pull-consumer") as connection:
                    while not self.stopping:
                        if self.batch(connection) == 0:
                            if once:
                                return
                            time.sleep(IDLE_S)
            except (psycopg.OperationalError, psycopg.errors.LockNotAvailable) as error:
                print(f"again in {RECONNECT_S} s: {error}", file=sys.stderr)
                time.sleep(RECONNECT_S)


def main():
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if len(names) != 1:
        sys.exit(__doc__)
    consumer = Consumer(names[0])
    signal.signal(signal.SIGINT, consumer.stop)
    signal.signal(signal.SIGTERM, consumer.stop)
    consumer.run("--once" in sys.argv)


if __name__ == "__main__":
    main()
