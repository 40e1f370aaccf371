#!/usr/bin/env python3
"""Moving money from Python so that no failure moves it twice.

Needs psycopg 3 (Debian: python3-psycopg), and an empty database, which the PG*
variables name:  PGDATABASE=try python3 examples/python/retry.py

What matters for any driver:
  - The key is made once, before the first try, and stored with the business object.
  - A retry sends the same key and the same arguments, whatever the failure was.
  - numeric arrives as Decimal here.  It is a whole number: int() is exact.  Where
    a driver gives text (node-postgres does), use BigInt(), never a float.
  - One call is one transaction, so autocommit is right.  In a longer transaction
    repeat all of it.
"""

import json
import time

import psycopg

# Worth another try with the same key: serialization failure, deadlock, a wait that
# was over, a wait for the standby that was cancelled.
RETRYABLE = {"40001", "40P01", "55P03", "SF065"}
TRIES_MAX = 5
PAUSE_S = 0.05

DEBIT = """
    SELECT status, entry_id, available, replayed
      FROM failsafe.wallet_debit(%(account)s, %(amount)s, %(currency)s, %(key)s,
                                 reference => %(reference)s)"""


class Declined(Exception):
    """A business answer: trying again does not help."""

    def __init__(self, detail):
        super().__init__(detail["code"])
        self.detail = detail


class Wallet:
    """A connection that is made anew when it breaks."""

    def __init__(self, options=""):
        self.options = options
        self.connection = None

    def connect(self):
        if self.connection is None or self.connection.closed:
            self.connection = psycopg.connect(autocommit=True, options=self.options)
        return self.connection

    def debit(self, account, amount_minor, currency, key, reference):
        arguments = {"account": account, "amount": amount_minor, "currency": currency,
                     "key": key, "reference": reference}
        for attempt in range(1, TRIES_MAX + 1):
            try:
                row = self.connect().execute(DEBIT, arguments).fetchone()
                return {"status": row[0], "entry_id": row[1], "available": int(row[2]),
                        "replayed": row[3]}
            except psycopg.Error as error:
                # When the connection broke, nobody knows what happened.
                lost = self.connection is None or self.connection.closed
                if not lost and error.sqlstate not in RETRYABLE:
                    if error.sqlstate.startswith("SF"):
                        raise Declined(json.loads(error.diag.message_detail)) from error
                    raise
                print(f"  try {attempt}: {'connection lost' if lost else error.sqlstate}, again with the same key")
                time.sleep(PAUSE_S * 2 ** attempt)
        raise TimeoutError(f"gave up after {TRIES_MAX} tries; the key {key} tells what happened")


def prepare():
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_failsafe")
        connection.execute("SELECT FROM failsafe.account_open('acc_42', 'EUR')")
        connection.execute("SELECT FROM failsafe.wallet_credit('acc_42', 10000, 'EUR', 'topup:1')")


def locked_account(wallet):
    """Another transaction holds the account for longer than we want to wait."""
    with psycopg.connect() as other:
        other.execute("SELECT FROM failsafe.wallet_debit('acc_42', 500, 'EUR', 'slow:1')")
        try:
            wallet.debit("acc_42", 100, "EUR", "locked:1", "po_2")
        except TimeoutError as error:
            print(f"  {error}")
        other.rollback()
    print(wallet.debit("acc_42", 100, "EUR", "locked:1", "po_2"))


def lost_reply(wallet):
    """The server has done it, but the connection breaks before we read the answer."""
    connection = wallet.connect()
    connection.execute("SELECT FROM failsafe.wallet_debit('acc_42', 5000, 'EUR', 'payout:1', reference => 'po_3')")
    with psycopg.connect(autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    print(wallet.debit("acc_42", 5000, "EUR", "payout:1", "po_3"))


def main():
    prepare()
    wallet = Wallet(options="-c failsafe.lock_wait=20ms")

    print("a debit, and the same again:")
    print(wallet.debit("acc_42", 1000, "EUR", "card:1", "po_1"))
    print(wallet.debit("acc_42", 1000, "EUR", "card:1", "po_1"))

    print("an account that is locked:")
    locked_account(wallet)

    print("a reply that is lost:")
    lost_reply(wallet)

    print("a decline, and a key that was used for something else:")
    for amount, key in (99999, "card:2"), (2000, "card:1"):
        try:
            wallet.debit("acc_42", amount, "EUR", key, "po_1")
        except Declined as declined:
            print(f"  {declined} {declined.detail.get('fields', '')}".rstrip())

    with psycopg.connect(autocommit=True) as connection:
        faults = connection.execute("SELECT count(*) FROM failsafe.ledger_verify()").fetchone()[0]
        posted = connection.execute("SELECT posted FROM failsafe.account_balance('acc_42')").fetchone()[0]
    print(f"posted {int(posted)}, {faults} faults in the books")


main()
