/*
 * relay/protocol.h
 *	  The frames between the worker and the relay.  Shared by both, so it knows
 *	  neither PostgreSQL nor the network: plain C11.
 *
 * They talk over one stream socket.  The relay is told what to send and answers each
 * event exactly once; the worker never has more than RELAY_WINDOW_MAX events
 * unanswered.  Either side that sees the other end closed, or a frame that is
 * malformed, ends the conversation: the relay exits, the worker starts another one.
 *
 * A frame:
 *		length		4 bytes, big endian: of all that follows, at most RELAY_FRAME_BYTES_MAX
 *		type		1 byte: RelayFrameType
 *		fields		each: tag 1 byte, length 4 bytes big endian, bytes
 *
 * Numbers are fields of 8 bytes, big endian, two's complement.  Texts are UTF-8 without
 * a terminating zero.  A tag appears at most once in a frame, in any order; an unknown
 * tag is skipped, an unknown type ends the conversation.
 *
 *	worker -> relay
 *		HELLO				VERSION, SOURCE.  First frame.
 *		DESTINATION			DESTINATION_ID, GENERATION, SINK, CONFIG, IN_FLIGHT
 *								Creates or replaces a destination.  Answered by
 *								DESTINATION_STATE.
 *		DESTINATION_REMOVE	DESTINATION_ID.  Its events on the way are answered as usual.
 *		EVENT				TOKEN, DESTINATION_ID, TIMEOUT_MS, ATTEMPT, EVENT_ID, EVENT_TYPE,
 *								TIME, ORDER_KEY, TENANT, DATA; where set: SUBJECT, REGION,
 *								TRACE_ID, TRACEPARENT, HEADERS, SCHEMA_VERSION, EXPIRES_AT
 *								Answered by RESULT, also for an unknown destination
 *								(code "config").
 *		PING				TOKEN.  Answered by PONG: the relay's loop is alive.
 *
 *	relay -> worker
 *		RESULT				TOKEN, OK, STATUS, CODE, REASON, RETRY_AFTER_MS, DURATION_US,
 *								RESPONSE
 *		DESTINATION_STATE	DESTINATION_ID, GENERATION, OK, REASON
 *		PONG				TOKEN
 *		LOG					LEVEL, REASON: a line for the server's log; no secret in it
 */
#ifndef FAILSAFE_RELAY_PROTOCOL_H
#define FAILSAFE_RELAY_PROTOCOL_H

#define RELAY_PROTOCOL_VERSION	1
#define RELAY_FRAME_BYTES_MAX	(24 * 1024 * 1024)	/* the largest event and its headers */
#define RELAY_WINDOW_MAX		10000	/* events without an answer, all destinations */
#define RELAY_RESPONSE_BYTES_MAX 1024	/* of an answer's body, kept for a person to read */
#define RELAY_REASON_BYTES_MAX	500

typedef enum RelayFrameType
{
	RELAY_HELLO = 'H',
	RELAY_DESTINATION = 'D',
	RELAY_DESTINATION_REMOVE = 'X',
	RELAY_EVENT = 'E',
	RELAY_PING = 'P',
	RELAY_RESULT = 'r',
	RELAY_DESTINATION_STATE = 'd',
	RELAY_PONG = 'p',
	RELAY_LOG = 'l'
} RelayFrameType;

typedef enum RelayTag
{
	RELAY_TAG_VERSION = 1,		/* number */
	RELAY_TAG_SOURCE,			/* text: CloudEvents source, and part of User-Agent */
	RELAY_TAG_DESTINATION_ID,	/* number */
	RELAY_TAG_GENERATION,		/* number */
	RELAY_TAG_SINK,				/* text: http ... */
	RELAY_TAG_CONFIG,			/* text: a JSON object, as the subscription has it */
	RELAY_TAG_IN_FLIGHT,		/* number: requests at once, 1 .. */
	RELAY_TAG_TOKEN,			/* number: the worker's name for this attempt */
	RELAY_TAG_TIMEOUT_MS,		/* number: for the whole attempt */
	RELAY_TAG_ATTEMPT,			/* number: 1 is the first */
	RELAY_TAG_EVENT_ID,			/* text: a UUID */
	RELAY_TAG_EVENT_TYPE,		/* text */
	RELAY_TAG_TIME,				/* text: when it occurred, RFC 3339, UTC */
	RELAY_TAG_ORDER_KEY,		/* text */
	RELAY_TAG_TENANT,			/* text */
	RELAY_TAG_SUBJECT,			/* text */
	RELAY_TAG_REGION,			/* text */
	RELAY_TAG_TRACE_ID,			/* text */
	RELAY_TAG_TRACEPARENT,		/* text: W3C, as the producer set it */
	RELAY_TAG_HEADERS,			/* text: a JSON object of strings */
	RELAY_TAG_SCHEMA_VERSION,	/* text: of the envelope */
	RELAY_TAG_EXPIRES_AT,		/* text: RFC 3339, UTC */
	RELAY_TAG_DATA,				/* text: the complete event, a JSON object */
	RELAY_TAG_OK,				/* number: 1 or 0 */
	RELAY_TAG_STATUS,			/* number: of the protocol, as 503; 0: no answer */
	RELAY_TAG_CODE,				/* text: see below; empty where OK */
	RELAY_TAG_REASON,			/* text: a sentence */
	RELAY_TAG_RETRY_AFTER_MS,	/* number; absent: not said */
	RELAY_TAG_DURATION_US,		/* number: of the attempt */
	RELAY_TAG_RESPONSE,			/* text: first bytes of the answer, valid UTF-8 */
	RELAY_TAG_LEVEL				/* text: log or warning */
} RelayTag;

/*
 * Codes of failures; what each means for the next try is the worker's decision, by
 * failsafe.failure_rule.
 */
#define RELAY_CODE_STATUS		"status"	/* the protocol's status says no */
#define RELAY_CODE_DNS			"dns"
#define RELAY_CODE_REFUSED		"refused"	/* nobody listens, or unreachable */
#define RELAY_CODE_TIMEOUT		"timeout"
#define RELAY_CODE_TLS			"tls"	/* handshake or certificate */
#define RELAY_CODE_CLOSED		"closed"	/* the connection ended in the middle */
#define RELAY_CODE_PROTOCOL		"protocol"	/* an answer that cannot be understood */
#define RELAY_CODE_BLOCKED_ADDRESS "blocked_address"	/* an address that may not be reached */
#define RELAY_CODE_CONFIG		"config"	/* the destination cannot be used as configured */
#define RELAY_CODE_AUTH			"auth"	/* no token from the OAuth2 server */
#define RELAY_CODE_TOO_LARGE	"too_large"
#define RELAY_CODE_OTHER		"other"

#endif							/* FAILSAFE_RELAY_PROTOCOL_H */
