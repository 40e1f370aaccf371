-- A webhook arrives more than once; its effect must not.
-- Run it in an empty database:  psql -e -f examples/webhook_inbox.sql

CREATE EXTENSION pg_failsafe;

CREATE TABLE shipment (order_no text PRIMARY KEY, parcels int NOT NULL);

-- The sender's delivery id is the key, its body the request, the sender the scope.
-- Claim, effect and answer are one transaction: a crash leaves all of them or nothing.
CREATE FUNCTION receive_webhook(delivery_id text, body jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	claim record;
	answer jsonb;
BEGIN
	claim := failsafe.idempotency_claim(delivery_id, body, scope => 'webhook:carrier');
	IF claim.state = 'replay' THEN
		RETURN claim.response;
	END IF;
	INSERT INTO shipment AS s VALUES (body->>'order', 1)
	ON CONFLICT (order_no) DO UPDATE SET parcels = s.parcels + 1
	RETURNING to_jsonb(s) INTO answer;
	PERFORM failsafe.idempotency_complete(delivery_id, answer, scope => 'webhook:carrier');
	RETURN answer;
END
$$;

-- The first delivery, the same again because our reply was lost, and another parcel.
SELECT receive_webhook('whd_001', '{"order": "A-7", "event": "parcel.sent"}');
SELECT receive_webhook('whd_001', '{"event": "parcel.sent", "order": "A-7"}');
SELECT receive_webhook('whd_002', '{"order": "A-7", "event": "parcel.sent"}');
SELECT * FROM shipment;

-- The same delivery id with another body is refused; the detail names what differs.
SELECT receive_webhook('whd_001', '{"order": "B-9", "event": "parcel.sent"}');

-- Work outside the database: claim and commit first, then act, then complete.
SELECT state, response FROM failsafe.idempotency_claim('label-A-7', '{"order": "A-7"}', scope => 'labels');

-- The worker is killed here.  The next one learns that somebody began, asks the
-- printer what became of it, and either completes the key ...
SELECT state, response FROM failsafe.idempotency_claim('label-A-7', '{"order": "A-7"}', scope => 'labels');
SELECT failsafe.idempotency_complete('label-A-7', '{"label": 4711}', scope => 'labels');
SELECT state, response FROM failsafe.idempotency_claim('label-A-7', '{"order": "A-7"}', scope => 'labels');

-- ... or gives it back, so that the work is done anew.
SELECT state FROM failsafe.idempotency_claim('label-B-9', '{"order": "B-9"}', scope => 'labels');
SELECT failsafe.idempotency_release('label-B-9', 'the printer knows nothing of it', scope => 'labels');
SELECT state FROM failsafe.idempotency_claim('label-B-9', '{"order": "B-9"}', scope => 'labels');

-- What is unfinished: work that stopped half-way.
SELECT scope, key, state FROM failsafe.application_keys WHERE state = 'unfinished';
