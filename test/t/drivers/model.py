#!/usr/bin/env python3
"""Random operations against a model that says what each must answer.

    model.py CONNINFO CONNECTIONS OPERATIONS SEED

Each connection has accounts of its own, whose state it knows exactly, and a share in
two accounts of all: a hot wallet and a system account.  Operations go through
wallet_batch(), wallet_http() and the SQL functions, in transactions that commit or
roll back.  At the end each key is sent again and must answer as the first time.

Prints "name count" lines; names that begin with WRONG are differences.
"""
import collections
import copy
import json
import multiprocessing
import random
import sys

import psycopg

ACCOUNTS = 8
BATCH = 40
REPLAY_BATCH = 1000
CANDIDATES = 40             # holds and transactions that are remembered for later commands
COLUMNS = ("status, transaction_id, entry_id, hold_id, posted, held, available, code, amount,"
           " hold_remaining, expires_at, version, recorded_at, idempotency_key, replayed")
SQLSTATES = {"INSUFFICIENT_FUNDS": "SF020", "CEILING_EXCEEDED": "SF021", "ACCOUNT_FROZEN": "SF022",
             "HOLD_RESOLVED": "SF025", "HOLD_EXCEEDED": "SF026", "REVERSAL_EXCEEDED": "SF027"}
RETRY = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected,
         psycopg.errors.LockNotAvailable)


class Declined(Exception):
    """Why the model declines a command."""


class Account:
    def __init__(self, code, floor, ceiling):
        self.code, self.floor, self.ceiling = code, floor, ceiling
        self.posted = self.held = self.version = 0
        self.frozen = False

    def describe(self):
        available = None if self.floor is None else self.posted - self.held - self.floor
        return {"posted": self.posted, "held": self.held, "available": available,
                "version": self.version}


class Model:
    """The accounts of one connection, and what may still be done with them."""

    def __init__(self, group):
        limits = [(0, None), (-500, None), (None, None), (0, 2000), (0, None), (-100, 500)]
        self.accounts = {}
        for i in range(ACCOUNTS):
            code = f"m{group}_{i}"
            self.accounts[code] = Account(code, *limits[i % len(limits)])
        self.holds = {}         # key -> [account, counterparty, rest, amount, captured, status]
        self.moves = {}         # key -> [legs, moved, reversed, first account or None]
        self.pool = 0

    # ---- judging and moving legs: [(code, amount)]; codes that are not ours have no limits

    def judge(self, legs, releases_hold=False):
        net = collections.Counter()
        for code, amount in legs:
            net[code] += amount
        ours = [(self.accounts[code], net[code], releases_hold and i == 0)
                for i, (code, _) in enumerate(legs) if code in self.accounts]
        for account, change, releases in ours:
            if account.frozen and change < 0 and not releases:
                raise Declined("ACCOUNT_FROZEN")
        for account, change, releases in ours:
            if (change < 0 and not releases and account.floor is not None
                    and account.posted + change - account.held < account.floor):
                raise Declined("INSUFFICIENT_FUNDS")
            if change > 0 and account.ceiling is not None and account.posted + change > account.ceiling:
                raise Declined("CEILING_EXCEEDED")

    def move(self, legs):
        for code, amount in legs:
            if code in self.accounts:
                self.accounts[code].posted += amount
                self.accounts[code].version += 1
            elif code == "pool":
                self.pool += amount

    # ---- the commands: each returns what the answer must say

    def apply(self, command):
        return getattr(self, "do_" + command["command"])(command)

    def two_sides(self, command, account, legs):
        self.judge(legs)
        self.move(legs)
        self.moves[command["idempotency_key"]] = [legs, command["amount"], 0, account]
        return {"status": "committed", "amount": command["amount"],
                **self.accounts[account].describe()}

    def do_debit(self, command):
        other = command.get("counterparty", "world")
        return self.two_sides(command, command["account"],
                              [(command["account"], -command["amount"]), (other, command["amount"])])

    def do_credit(self, command):
        other = command.get("counterparty", "world")
        return self.two_sides(command, command["account"],
                              [(command["account"], command["amount"]), (other, -command["amount"])])

    def do_transfer(self, command):
        return self.two_sides(command, command["from_account"],
                              [(command["from_account"], -command["amount"]),
                               (command["to_account"], command["amount"])])

    def do_hold(self, command):
        account, amount = self.accounts[command["account"]], command["amount"]
        if account.frozen:
            raise Declined("ACCOUNT_FROZEN")
        if account.floor is not None and account.posted - account.held - amount < account.floor:
            raise Declined("INSUFFICIENT_FUNDS")
        account.held += amount
        self.holds[command["idempotency_key"]] = [account.code, command.get("counterparty", "world"),
                                                  amount, amount, 0, "open"]
        return {"status": "held", "amount": amount, "hold_remaining": amount, **account.describe()}

    def do_extend(self, command):
        hold = self.holds[command["hold"][4:]]
        if hold[5] != "open":
            raise Declined("HOLD_RESOLVED")
        return {"status": "held", "hold_remaining": hold[2], **self.accounts[hold[0]].describe()}

    def do_commit(self, command):
        hold = self.holds[command["hold"][4:]]
        account = self.accounts[hold[0]]
        if hold[5] != "open":
            raise Declined("HOLD_RESOLVED")
        amount = command.get("amount", hold[2])
        if amount > hold[2]:
            raise Declined("HOLD_EXCEEDED")
        legs = [(hold[0], -amount), (command.get("counterparty", hold[1]), amount)]
        self.judge(legs, releases_hold=True)
        self.move(legs)
        hold[4] += amount
        if command.get("final", True) or amount == hold[2]:
            account.held -= hold[2]
            hold[2], hold[5] = 0, "committed"
        else:
            account.held -= amount
            hold[2] -= amount
        self.moves[command["idempotency_key"]] = [legs, amount, 0, hold[0]]
        return {"status": "committed", "amount": amount, "hold_remaining": hold[2],
                **account.describe()}

    def do_rollback(self, command):
        hold = self.holds[command["hold"][4:]]
        account = self.accounts[hold[0]]
        if hold[5] == "committed" and hold[4] == hold[3]:
            raise Declined("HOLD_RESOLVED")
        released = hold[2]
        if hold[5] == "open":
            account.held -= released
            hold[2], hold[5] = 0, "rolled_back"
        return {"status": "rolled_back", "amount": released, "hold_remaining": 0,
                **account.describe()}

    def do_reverse(self, command):
        move = self.moves[command["transaction"][4:]]
        legs, moved, done, account = move
        whole = len(legs) > 2
        rest = (0 if done else 1) if whole else moved - done
        amount = command.get("amount", rest)
        if rest == 0 or amount > rest:
            raise Declined("REVERSAL_EXCEEDED")
        back = [(code, -leg if whole else (-amount if leg > 0 else amount)) for code, leg in legs]
        self.judge(back)
        self.move(back)
        move[2] += amount
        answer = {"status": "committed"}
        if not whole:
            answer["amount"] = amount
        if account is not None:
            answer.update(self.accounts[account].describe())
        return answer

    def do_post(self, command):
        legs = [(leg["account"], leg["amount"]) for leg in command["legs"]]
        self.judge(legs)
        self.move(legs)
        self.moves[command["idempotency_key"]] = [legs, abs(legs[0][1]), 0, None]
        return {"status": "committed"}

    def forget(self):
        """Keep only the newest candidates; what is forgotten is not named again."""
        for names in (self.holds, self.moves):
            while len(names) > CANDIDATES:
                del names[next(iter(names))]


class Group:
    """One connection, its model and everything that it was answered."""

    def __init__(self, conninfo, number, seed):
        self.rng = random.Random(seed * 1000 + number)
        self.model = Model(number)
        self.number = number
        self.serial = 0
        self.answers = {}       # key -> (command as JSON, the row without replayed)
        self.count = collections.Counter()
        self.connection = psycopg.connect(conninfo, autocommit=True)

    def wrong(self, what, *details):
        self.count["WRONG " + what] += 1
        if self.count["WRONG " + what] <= 3:
            print("WRONG", what, *details, file=sys.stderr)

    # ---- making commands

    def new_command(self):
        rng = self.rng
        self.serial += 1
        kind = rng.choices(["debit", "credit", "transfer", "hold", "extend", "commit", "rollback",
                            "reverse", "post"], [18, 34, 20, 12, 3, 9, 5, 7, 6])[0]
        command = {"command": kind, "idempotency_key": f"m{self.number}_{self.serial}"}
        account, other = rng.sample(sorted(self.model.accounts), 2)
        amount = rng.randrange(1, 400)
        if kind in ("extend", "commit", "rollback"):
            if not self.model.holds:
                return self.new_command()
            command["hold"] = "key:" + rng.choice(list(self.model.holds))
            if kind == "extend":
                command["expires_in"] = "2 days"
            if kind == "commit" and rng.random() < 0.6:
                command.update(amount=rng.randrange(1, 250), final=rng.random() < 0.4)
            return command
        if kind == "reverse":
            if not self.model.moves:
                return self.new_command()
            key = rng.choice(list(self.model.moves))
            command["transaction"] = "key:" + key
            if len(self.model.moves[key][0]) == 2 and rng.random() < 0.7:
                command["amount"] = rng.randrange(1, 250)
            return command
        if kind == "post":
            legs = [(account, -amount), (other, amount - 1), ("fees", 1)] if amount > 1 and rng.random() < 0.7 \
                else [(account, -amount), (other, amount)]
            command["legs"] = [{"account": code, "amount": a, "currency": "EUR"} for code, a in legs]
            return command
        command.update(amount=2 * amount if kind == "credit" else amount, currency="EUR")
        if kind == "transfer":
            command.update(from_account=account, to_account=rng.choice([other, other, "pool", "fees"]))
        else:
            command["account"] = account
            if rng.random() < 0.3:
                command["counterparty"] = rng.choice([other, "pool", "fees"])
        if kind == "hold":
            command["expires_in"] = "1 day"
        if rng.random() < 0.3:
            command["reference"] = f"ref {self.serial}"
        return command

    def next_command(self, known):
        """(command, what the answer must say, the key's first row or None)"""
        roll = self.rng.random()
        if roll < 0.05 and known:
            key = self.rng.choice(known)
            return json.loads(self.answers[key][0]), "replay", self.answers[key][1]
        if roll < 0.06 and known:
            command = json.loads(self.answers[self.rng.choice(known)][0])
            command["reason"] = "another one"
            return command, {"status": "refused", "code": "IDEMPOTENCY_MISMATCH"}, None
        command = self.new_command()
        if roll < 0.07:
            command["nonsense"] = 1
            return command, {"status": "refused", "code": "COMMAND_INVALID"}, None
        try:
            return command, self.model.apply(command), None
        except Declined as declined:
            return command, {"status": "declined", "code": str(declined),
                             "amount": command.get("amount")}, None

    # ---- sending them

    def send(self, function, roll_back=False):
        """Run function in a transaction until no conflict is met."""
        level = self.rng.choice(["READ COMMITTED"] * 4 + ["REPEATABLE READ"])
        while True:
            try:
                with self.connection.transaction(force_rollback=roll_back):
                    self.connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                    return function()
            except RETRY as conflict:
                self.count["retried " + conflict.sqlstate] += 1

    def rows(self, commands):
        return self.connection.execute(f"SELECT {COLUMNS} FROM failsafe.wallet_batch(%s) ORDER BY n",
                                       ("[" + ",".join(commands) + "]",)).fetchall()

    def check(self, command, expected, first, row, kept):
        """Compare a row with the model; remember the answer of a new key."""
        names = [name.strip() for name in COLUMNS.split(",")]
        got = dict(zip(names, row))
        if expected == "replay":
            if not got["replayed"] or row[:-1] != first:
                self.wrong("replay", command, first, row)
            self.count["replayed"] += 1
            return
        for name in ("status", "code", "posted", "held", "available", "version", "amount", "hold_remaining"):
            if name == "amount" and (command["command"] == "extend" or expected["status"] == "refused"):
                continue
            if got[name] != expected.get(name):
                self.wrong(name, command, expected, row)
        if got["replayed"]:
            self.wrong("replayed", command, row)
        self.count[expected["status"]] += 1
        if kept and expected["status"] != "refused":
            self.answers[command["idempotency_key"]] = (json.dumps(command), row[:-1])

    def step_batch(self, roll_back):
        known = list(self.answers) if len(self.answers) < 500 else self.rng.sample(list(self.answers), 500)
        before = copy.deepcopy(self.model) if roll_back else None
        work = [self.next_command(known) for _ in range(self.rng.randrange(1, 2 * BATCH))]
        rows = self.send(lambda: self.rows([json.dumps(c) for c, _, _ in work]), roll_back)
        for (command, expected, first), row in zip(work, rows):
            self.check(command, expected, first, row, not roll_back)
        if roll_back:
            self.model = before
            self.count["rolled back"] += len(work)
        return len(work)

    def step_http(self):
        command, expected, _ = self.next_command([])
        status, replayed, body = self.send(lambda: self.connection.execute(
            "SELECT http_status, replayed, body FROM failsafe.wallet_http(%s)", (json.dumps(command),)).fetchone())
        if body["status"] != expected["status"] or body.get("code") != expected.get("code") or replayed:
            self.wrong("http", command, expected, body)
        self.count["http " + str(status)] += 1
        if expected["status"] != "refused":
            self.answers[command["idempotency_key"]] = (json.dumps(command), self.rows([json.dumps(command)])[0][:-1])
        return 1

    def step_sql(self):
        """A SQL function that raises its declines: the key stays free."""
        while True:
            command = self.new_command()
            if command["command"] != "post":
                break
        try:
            expected = self.model.apply(command)
        except Declined as declined:
            expected = str(declined)
        names = [name for name in command if name != "command"]
        sql = (f"SELECT {COLUMNS} FROM failsafe.wallet_{command['command']}("
               + ", ".join(f"{name} => %s" for name in names) + ")")
        try:
            row = self.send(lambda: self.connection.execute(sql, [command[n] for n in names]).fetchone())
        except psycopg.errors.DatabaseError as error:
            self.count["raised"] += 1
            if not isinstance(expected, str) or error.sqlstate != SQLSTATES[expected]:
                self.wrong("raised", command, expected, error)
            return 1
        if isinstance(expected, str):
            self.wrong("not raised", command, expected, row)
            return 1
        self.check(command, expected, None, row, True)
        return 1

    def step_freeze(self):
        account = self.rng.choice(list(self.model.accounts.values()))
        account.frozen = not account.frozen
        function = "account_freeze" if account.frozen else "account_unfreeze"
        self.send(lambda: self.connection.execute(f"SELECT failsafe.{function}(%s, 'model')", (account.code,)))
        return 1

    def run(self, operations):
        done = 0
        for account in self.model.accounts.values():
            self.connection.execute("SELECT failsafe.account_open(%s, 'EUR', floor => %s, ceiling => %s)",
                                    (account.code, account.floor, account.ceiling))
        while done < operations:
            step = self.rng.choices([lambda: self.step_batch(False), lambda: self.step_batch(True),
                                     self.step_http, self.step_sql, self.step_freeze],
                                    [40, 3, 20, 40, 2])[0]
            done += step()
            self.model.forget()
        self.count["operations"] = done
        self.replay()
        for account in self.model.accounts.values():
            row = self.connection.execute("SELECT posted, held, version FROM failsafe.account_balance(%s)",
                                          (account.code,)).fetchone()
            if row != (account.posted, account.held, account.version):
                self.wrong("balance", account.code, account.describe(), row)
        self.count["pool"] = self.model.pool

    def replay(self):
        """Each key once more, in another order: the first answer, to the last column."""
        keys = list(self.answers)
        self.rng.shuffle(keys)
        for start in range(0, len(keys), REPLAY_BATCH):
            part = keys[start:start + REPLAY_BATCH]
            for key, row in zip(part, self.rows([self.answers[k][0] for k in part])):
                if not row[-1] or row[:-1] != self.answers[key][1]:
                    self.wrong("last replay", self.answers[key], row)
        self.count["keys"] = len(keys)


def one(arguments):
    conninfo, number, operations, seed = arguments
    group = Group(conninfo, number, seed)
    group.run(operations)
    return group.count


def main():
    conninfo, connections, operations, seed = sys.argv[1], *map(int, sys.argv[2:5])
    total = collections.Counter()
    with multiprocessing.Pool(connections) as pool:
        for count in pool.imap_unordered(one, [(conninfo, i, operations // connections, seed)
                                               for i in range(connections)]):
            total.update(count)
    for name in sorted(total):
        print(name, total[name])


if __name__ == "__main__":
    main()
