#!/usr/bin/env python3
"""Writes a file of gateway commands, one JSON object a line.

    bench/commands.py --seed 42 --count 10000 > commands.jsonl
    bench/commands.py --accounts              > accounts.tsv     code, currency, kind
    bench/commands.py --expect totals.tsv     > commands.jsonl   and what the answers must be

The same seed and count give the same bytes.  Line n belongs to group n modulo
GROUPS.  A line depends only on earlier lines of its own group, so a sender that
gives each group to one connection may run all groups at once: `split -n r/8`.

Each group has accounts of its own and keeps a lower bound of their money, and
all groups pay into the same few merchants.  So the outcome of every line is
known in advance, whatever the connections do to each other.
"""

import argparse
import json
import random
import sys

GROUPS = 8
WALLETS_PER_GROUP = 24
TOKEN_WALLETS_PER_GROUP = 4
MERCHANTS = 3
TOKEN = "TOK"                   # 18 decimals: its amounts are strings in JSON
TOKEN_UNIT = 10 ** 18
CURRENCIES = ("EUR", "USD")
OUTCOMES = ("committed", "replayed", "declined", "mismatched", "refused")

# How often each kind of line comes, out of the sum of all.
WEIGHTS = {
    "debit": 22, "credit": 16, "transfer": 20, "hold": 10, "reverse": 6, "post": 6,
    "token": 3, "follow": 10, "repeat": 5, "mismatch": 1, "decline": 1, "garbage": 1,
}


def wallets(group):
    """The wallets of a group with their currencies."""
    for number in range(WALLETS_PER_GROUP):
        yield f"acc_{group}_{number:02d}", CURRENCIES[number % len(CURRENCIES)]


def token_wallets(group):
    for number in range(TOKEN_WALLETS_PER_GROUP):
        yield f"token_{group}_{number:02d}", TOKEN


def all_accounts():
    for group in range(GROUPS):
        for code, currency in [*wallets(group), *token_wallets(group)]:
            yield code, currency, "wallet"
        yield f"poor_{group}", "EUR", "wallet"      # never gets any money
    for currency in CURRENCIES:
        for number in range(MERCHANTS):
            yield merchant(number, currency), currency, "wallet"
        yield fees(currency), currency, "system"


def merchant(number, currency):
    return f"merchant_{currency.lower()}_{number}"


def fees(currency):
    return f"fees_{currency.lower()}"


class Group:
    """The lines of one group, in order, with the outcome that each must have."""

    def __init__(self, number, seed):
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.currency = dict(wallets(number)) | dict(token_wallets(number))
        self.money = dict.fromkeys(self.currency, 0)    # never more than there is
        self.to_fund = list(self.currency)
        self.follow_ups = []        # captures, extensions, rollbacks of open holds
        self.reversible = []        # (key, account that gets it back, what is left)
        self.repeatable = []        # lines whose answer was stored
        self.next_key = 0

    def line(self):
        if self.to_fund:
            return self.fund(self.to_fund.pop())
        kinds = list(WEIGHTS)
        kind = self.random.choices(kinds, weights=list(WEIGHTS.values()))[0]
        return getattr(self, kind)()

    # ---- small helpers

    def key(self, what):
        self.next_key += 1
        return f"{what}_{self.number}_{self.next_key:05d}"

    def amount(self):
        return self.random.randint(100, 20_000)

    def rich(self, amount, currency=None):
        """A wallet that can pay the amount, or None."""
        able = [code for code, money in self.money.items()
                if money >= amount and self.currency[code] != TOKEN
                and currency in (None, self.currency[code])]
        return self.random.choice(able) if able else None

    def stored(self, command, outcome="committed"):
        """A line whose answer is kept: now and then with members that change nothing."""
        if self.random.random() < 0.1:
            command.setdefault("options", {})["trace_id"] = f"trace-{self.number}-{self.next_key}"
        if self.random.random() < 0.1 and command["command"] != "extend":
            command["metadata"] = {
                "channel": self.random.choice(["web", "app", "pos"]), "note": "café ☕"}
        text = json.dumps(command, ensure_ascii=False)
        self.repeatable.append((text, command))
        return text, outcome

    # ---- money in and out

    def fund(self, account):
        currency = self.currency[account]
        amount = 500 * TOKEN_UNIT if currency == TOKEN else 1_000_000
        self.money[account] += amount
        return self.stored({
            "command": "credit", "account": account,
            "amount": str(amount) if currency == TOKEN else amount, "currency": currency,
            "idempotency_key": self.key("fund"), "reason": "opening balance"})

    def credit(self):
        account, amount = self.random.choice(list(wallets(self.number)))[0], self.amount()
        key = self.key("topup")
        self.money[account] += amount
        return self.stored({
            "command": "credit", "account": account, "amount": amount,
            "currency": self.currency[account], "idempotency_key": key,
            "reference": f"card_{key}", "reason": "top-up"})

    def debit(self):
        amount = self.amount()
        account = self.rich(amount)
        if account is None:
            return self.credit()
        key = self.key("debit")
        self.money[account] -= amount
        self.reversible.append((key, account, amount))
        command = {
            "command": "debit", "account": account, "amount": amount,
            "currency": self.currency[account], "idempotency_key": key,
            "reference": f"po_{key}", "reason": "payout"}
        if self.random.random() < 0.1:
            command["options"] = {"min_available": 0}
        return self.stored(command)

    def transfer(self):
        amount = self.amount()
        account = self.rich(amount)
        if account is None:
            return self.credit()
        currency, key = self.currency[account], self.key("pay")
        peers = [c for c, cur in wallets(self.number) if cur == currency and c != account]
        to_merchant = self.random.random() < 0.5
        target = (merchant(self.random.randrange(MERCHANTS), currency) if to_merchant
                  else self.random.choice(peers))
        self.money[account] -= amount
        if to_merchant:
            self.reversible.append((key, account, amount))
        else:
            self.money[target] += amount
        return self.stored({
            "command": "transfer", "from_account": account, "to_account": target,
            "amount": amount, "currency": currency, "idempotency_key": key,
            "reference": f"order_{key}", "reason": "purchase"})

    def token(self):
        source, target = self.random.sample([code for code, _ in token_wallets(self.number)], 2)
        amount = self.random.randint(1, TOKEN_UNIT // 100)
        if self.money[source] < amount:
            return self.credit()
        self.money[source] -= amount
        self.money[target] += amount
        return self.stored({
            "command": "transfer", "from_account": source, "to_account": target,
            "amount": str(amount), "currency": TOKEN, "idempotency_key": self.key("token"),
            "reason": "settlement"})

    def post(self):
        """One sale, split: buyer pays merchant and fee; now and then in two currencies."""
        legs, key = [], self.key("split")
        for currency in CURRENCIES if self.random.random() < 0.3 else CURRENCIES[:1]:
            amount = self.amount()
            account = self.rich(amount, currency)
            if account is None:
                return self.credit()
            fee = amount // 50
            self.money[account] -= amount
            legs += [
                {"account": account, "amount": -amount, "currency": currency},
                {"account": merchant(self.random.randrange(MERCHANTS), currency),
                 "amount": amount - fee, "currency": currency},
                {"account": fees(currency), "amount": fee, "currency": currency}]
        return self.stored({
            "command": "post", "legs": legs, "idempotency_key": key,
            "reference": f"sale_{key}", "reason": "split sale"})

    def reverse(self):
        """Without an amount all that is left to reverse is given back."""
        if not self.reversible:
            return self.credit()
        at = self.random.randrange(len(self.reversible))
        key, account, amount = self.reversible.pop(at)
        command = {
            "command": "reverse", "transaction": f"key:{key}",
            "idempotency_key": self.key("refund"), "reason": "refund"}
        if self.random.random() < 0.4 and amount > 1:
            part = self.random.randint(1, amount - 1)
            command["amount"] = part
            self.reversible.append((key, account, amount - part))
            amount = part
        self.money[account] += amount
        return self.stored(command)

    # ---- holds: placed now, resolved by later lines of the same group

    def hold(self):
        amount = self.amount()
        account = self.rich(amount)
        if account is None:
            return self.credit()
        key = self.key("hold")
        self.money[account] -= amount
        self.plan_follow_ups(key, account, amount)
        return self.stored({
            "command": "hold", "account": account, "amount": amount,
            "currency": self.currency[account], "idempotency_key": key,
            "expires_in": self.random.choice(["1 hour", "2 days", "7 days"]),
            "reference": f"booking_{key}", "reason": "reservation"})

    def plan_follow_ups(self, hold, account, amount):
        """In the order in which they must come; a hold may also stay open."""
        fate = self.random.random()
        if fate < 0.2:
            return
        steps = []
        if fate > 0.85:
            steps.append(("extend", hold, account, 0))
        if fate < 0.4:
            steps.append(("rollback", hold, account, amount))
        else:
            first = self.random.randint(1, amount - 1)
            steps.append(("commit", hold, account, first))
            if fate > 0.6:
                steps.append(("final", hold, account, amount - first))
            else:
                steps.append(("rollback", hold, account, amount - first))
        self.follow_ups.append(steps)

    def follow(self):
        if not self.follow_ups:
            return self.hold()
        at = self.random.randrange(len(self.follow_ups))
        step, hold, account, amount = self.follow_ups[at].pop(0)
        if not self.follow_ups[at]:
            self.follow_ups.pop(at)
        return getattr(self, "hold_" + step)(hold, account, amount)

    def hold_extend(self, hold, account, amount):
        return self.stored({
            "command": "extend", "hold": f"key:{hold}", "expires_in": "10 days",
            "idempotency_key": self.key("extend"), "reason": "guest is late"})

    def hold_rollback(self, hold, account, amount):
        self.money[account] += amount
        return self.stored({
            "command": "rollback", "hold": f"key:{hold}",
            "idempotency_key": self.key("release"), "reason": "cancelled"})

    def hold_commit(self, hold, account, amount):
        key = self.key("capture")
        self.reversible.append((key, account, amount))
        return self.stored({
            "command": "commit", "hold": f"key:{hold}", "amount": amount, "final": False,
            "idempotency_key": key, "reason": "first night"})

    def hold_final(self, hold, account, amount):
        """Takes a part of the rest; the remainder goes back to the account."""
        part, key = self.random.randint(1, amount), self.key("capture")
        self.money[account] += amount - part
        self.reversible.append((key, account, part))
        return self.stored({
            "command": "commit", "hold": f"key:{hold}", "amount": part,
            "idempotency_key": key, "reason": "departure"})

    # ---- what a gateway also gets

    def repeat(self):
        return self.random.choice(self.repeatable)[0], "replayed"

    def mismatch(self):
        command = dict(self.random.choice([c for _, c in self.repeatable
                                           if c["command"] == "credit"]))
        command["amount"] = (command["amount"] + 1 if isinstance(command["amount"], int)
                             else str(int(command["amount"]) + 1))
        return json.dumps(command), "mismatched"

    def decline(self):
        poor = f"poor_{self.number}"
        command = self.random.choice([
            {"command": "debit", "account": poor},
            {"command": "hold", "account": poor},
            {"command": "transfer", "from_account": poor, "to_account": merchant(0, "EUR")}])
        return self.stored(command | {
            "amount": self.amount(), "currency": "EUR", "idempotency_key": self.key("poor"),
            "reason": "no money"}, "declined")

    def garbage(self):
        good = {
            "command": "debit", "account": f"acc_{self.number}_00", "amount": 100,
            "currency": "EUR", "idempotency_key": self.key("bad"), "reason": "garbage"}
        text = self.random.choice([
            json.dumps(good)[:-20],
            json.dumps(good | {"ammount": 100}),
            json.dumps(good | {"amount": -100}),
            json.dumps(good | {"amount": 10.5}),
            json.dumps(good | {"account": "nobody"}),
            json.dumps(good | {"currency": "USD"}),
            json.dumps(good | {"command": "steal"}),
            json.dumps(good | {"idempotency_key": ""}),
            json.dumps({k: v for k, v in good.items() if k != "amount"}),
            json.dumps(good)[:-1] + ', "amount": 200}',
            "[]",
        ])
        return text, "refused"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seed", type=int, default=42)
    arguments.add_argument("--count", type=int, default=10_000)
    arguments.add_argument("--accounts", action="store_true")
    arguments.add_argument("--expect", metavar="FILE")
    options = arguments.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")

    if options.accounts:
        for account in all_accounts():
            print(*account, sep="\t")
        return

    groups = [Group(number, options.seed) for number in range(GROUPS)]
    totals = dict.fromkeys(OUTCOMES, 0)
    for number in range(options.count):
        text, outcome = groups[number % GROUPS].line()
        totals[outcome] += 1
        print(text)
    if options.expect:
        with open(options.expect, "w", encoding="utf-8") as file:
            for outcome in OUTCOMES:
                print(outcome, totals[outcome], sep="\t", file=file)


if __name__ == "__main__":
    main()
