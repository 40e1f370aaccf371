// Receives webhooks of pg_failsafe.
//
//   WEBHOOK_SECRET=whsec_... PORT=8080 SEEN_FILE=seen.txt node receiver.js
//
// Three rules, in their order: verify the raw bytes, take each event once, answer only when it
// is stored.  The ids are kept in a file here; keep them in your database, in the transaction
// that does the work, or a crash between the two does it twice.

import { appendFileSync, closeSync, existsSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

const BODY_BYTES_MAX = 17 * 1024 * 1024;

// The ids of events that were taken.
export class SeenFile {
	constructor(path) {
		this.ids = new Set(existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []);
		this.file = openSync(path, 'a');
	}

	has(id) {
		return this.ids.has(id);
	}

	add(id) {
		appendFileSync(this.file, `${id}\n`);
		fsyncSync(this.file);
		this.ids.add(id);
	}

	close() {
		closeSync(this.file);
	}
}

async function readBody(request) {
	const parts = [];
	let length = 0;

	for await (const part of request) {
		length += part.length;
		if (length > BODY_BYTES_MAX)
			throw Object.assign(new Error('the body is too large'), { status: 413 });
		parts.push(part);
	}
	return Buffer.concat(parts).toString('utf8');
}

// work(event) does what has to be done; when it throws, the event comes again.
export function createReceiver({ secret, seen, work }) {
	const webhook = new Webhook(secret);

	async function take(request) {
		const event = webhook.verify(await readBody(request), request.headers);

		if (seen.has(event.event_id))
			return 'repeated';
		await work(event);
		seen.add(event.event_id);
		return 'taken';
	}

	return createServer(async (request, response) => {
		let status = 200;
		let answer;

		try {
			if (request.method !== 'POST')
				throw Object.assign(new Error('only POST'), { status: 405 });
			answer = { result: await take(request) };
		} catch (error) {
			status = error instanceof WebhookVerificationError ? 401 : error.status ?? 500;
			answer = { error: error.message };
		}
		response.writeHead(status, { 'Content-Type': 'application/json' });
		response.end(JSON.stringify(answer));
	});
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
	const server = createReceiver({
		secret: process.env.WEBHOOK_SECRET,
		seen: new SeenFile(process.env.SEEN_FILE ?? 'seen.txt'),
		work: (event) => console.log(event.event_type, event.event_id),
	});

	server.listen(Number(process.env.PORT ?? 8080), '127.0.0.1', () =>
		console.log(`listening on port ${server.address().port}`));
}
