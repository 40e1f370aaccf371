-- The balance of a derived account.
SELECT posted FROM failsafe.account_balance('clearing');
