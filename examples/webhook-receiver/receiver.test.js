import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { createReceiver, SeenFile } from './receiver.js';

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const directory = mkdtempSync(join(tmpdir(), 'receiver-'));
const path = join(directory, 'seen.txt');
const worked = [];
let seen;
let server;
let url;
let broken = false;

before(async () => {
	seen = new SeenFile(path);
	server = createReceiver({
		secret,
		seen,
		work: (event) => {
			if (broken)
				throw new Error('the database is down');
			worked.push(event.event_id);
		},
	});
	await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
	url = `http://127.0.0.1:${server.address().port}/`;
});

after(() => {
	server.close();
	seen.close();
	rmSync(directory, { recursive: true });
});

async function send(id, { body = JSON.stringify({ event_id: id, event_type: 'order.shipped' }), at = new Date(),
	signedBody = body } = {}) {
	const response = await fetch(url, {
		method: 'POST',
		body,
		headers: {
			'webhook-id': id,
			'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
			'webhook-signature': new Webhook(secret).sign(id, at, signedBody),
		},
	});
	return { status: response.status, answer: await response.json() };
}

test('an event is taken once', async () => {
	assert.deepEqual(await send('a'), { status: 200, answer: { result: 'taken' } });
	assert.deepEqual(await send('a'), { status: 200, answer: { result: 'repeated' } });
	assert.deepEqual(worked, ['a']);
	assert.equal(readFileSync(path, 'utf8'), 'a\n');
	assert.ok(new SeenFile(path).has('a'), 'also after a restart');
});

test('a wrong signature, an old timestamp and no signature are refused', async () => {
	assert.equal((await send('b', { signedBody: 'other' })).status, 401);
	assert.equal((await send('b', { at: new Date(Date.now() - 600000) })).status, 401);
	assert.equal((await fetch(url, { method: 'POST', body: '{}' })).status, 401);
	assert.ok(!worked.includes('b'));
});

test('an event that could not be worked on comes again', async () => {
	broken = true;
	assert.equal((await send('c')).status, 500);
	broken = false;
	assert.equal((await send('c')).answer.result, 'taken');
});
