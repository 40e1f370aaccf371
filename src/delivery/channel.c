/*
 * delivery/channel.c
 *	  See channel.h, which has the invariants H1 to H3.
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/memutils.h"

#include "delivery/channel.h"

#define KEYS_INITIAL			256
#define OPEN_NUMBERS_INITIAL	16

typedef struct RowEntry
{
	int64		delivery_id;	/* or lane and number of an event */
} RowEntry;

/* ---------- channels ---------- */

static HTAB *
keys_create(MemoryContext context)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(((KeyQueue *) 0)->key);
	control.entrysize = sizeof(KeyQueue);
	control.hcxt = context;
	return hash_create("keys of a subscription", KEYS_INITIAL, &control,
					   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static HTAB *
numbers_create(MemoryContext context, const char *name)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(int64);
	control.entrysize = sizeof(RowEntry);
	control.hcxt = context;
	return hash_create(name, KEYS_INITIAL, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static const char **
texts_copy(const char *const *texts, int count)
{
	const char **copy = palloc(sizeof(char *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		copy[i] = pstrdup(texts[i]);
	return copy;
}

static void
subscription_copy(Subscription *copy, const Subscription *subscription)
{
	*copy = *subscription;
	copy->name = pstrdup(subscription->name);
	copy->sink = pstrdup(subscription->sink);
	copy->config = pstrdup(subscription->config);
	copy->patterns = texts_copy(subscription->patterns, subscription->pattern_count);
	copy->regions = texts_copy(subscription->regions, subscription->region_count);
	copy->tenants = palloc(sizeof(int32) * Max(subscription->tenant_count, 1));
	if (subscription->tenant_count > 0)
		memcpy(copy->tenants, subscription->tenants,
			   sizeof(int32) * subscription->tenant_count);
}

Channel *
channel_create(MemoryContext parent, const Subscription *subscription)
{
	MemoryContext context = AllocSetContextCreate(parent, "failsafe channel",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Channel    *channel = palloc0(sizeof(Channel));

	Assert(subscription->id > 0);
	channel->context = context;
	subscription_copy(&channel->subscription, subscription);
	channel->keys = keys_create(context);
	channel->rows = numbers_create(context, "deliveries on their way");
	channel->skips = numbers_create(context, "events that have a row");
	channel->next_due_at = DT_NOEND;
	channel->next_replay_at = DT_NOEND;
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
	{
		dlist_init(&channel->lanes[lane].undecided);
		dlist_init(&channel->lanes[lane].late);
		dlist_init(&channel->lanes[lane].ready);
	}
	MemoryContextSwitchTo(caller);
	return channel;
}

/* Its flights go with its memory; whoever remembers their tokens forgets them first. */
void
channel_free(Channel *channel)
{
	MemoryContextDelete(channel->context);
}

/* ---------- keys ---------- */

/* One lane's events of a key have an order, those of two lanes have none. */
static void
key_name(char *name, int lane, const char *order_key)
{
	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(strlen(order_key) <= ORDER_KEY_BYTES_MAX);
	name[0] = (char) ('0' + lane);
	strlcpy(name + 1, order_key, ORDER_KEY_BYTES_MAX + 1);
}

static KeyQueue *
key_find(Channel *channel, int lane, const char *order_key, HASHACTION action)
{
	char		name[sizeof(((KeyQueue *) 0)->key)];
	KeyQueue   *queue;
	bool		found;

	key_name(name, lane, order_key);
	queue = hash_search(channel->keys, name, action, &found);
	if (action == HASH_ENTER && !found)
	{
		queue->head = NULL;
		queue->queue_length = 0;
		queue->row_count = 0;
		dlist_init(&queue->queue);
	}
	return queue;
}

/* A key that nobody waits for is forgotten. */
static void
key_release(Channel *channel, KeyQueue *queue)
{
	if (queue->head != NULL || queue->row_count > 0)
		return;
	Assert(queue->queue_length == 0);
	(void) hash_search(channel->keys, queue->key, HASH_REMOVE, NULL);
}

bool
channel_key_blocked(Channel *channel, int lane, const char *order_key)
{
	KeyQueue   *queue;

	if (!channel->subscription.ordered || !channel->subscription.block)
		return false;
	queue = key_find(channel, lane, order_key, HASH_FIND);
	return queue != NULL && queue->row_count > 0;
}

void
channel_key_rows(Channel *channel, int lane, const char *order_key, int change)
{
	KeyQueue   *queue;

	if (!channel->subscription.ordered)
		return;
	queue = key_find(channel, lane, order_key, HASH_ENTER);
	queue->row_count += change;
	Assert(queue->row_count >= 0);
	key_release(channel, queue);
}

/* ---------- numbers that are decided already ---------- */

static int64
skip_name(int lane, int64 seq)
{
	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(seq > 0 && seq <= OUTBOX_SEQ_MAX);
	return seq * OUTBOX_LANES + lane;
}

void
channel_skip(Channel *channel, int lane, int64 seq)
{
	int64		name = skip_name(lane, seq);

	(void) hash_search(channel->skips, &name, HASH_ENTER, NULL);
}

/* Asked once for each number: it is forgotten then. */
bool
channel_skips(Channel *channel, int lane, int64 seq)
{
	int64		name = skip_name(lane, seq);

	if (hash_get_num_entries(channel->skips) == 0)
		return false;
	return hash_search(channel->skips, &name, HASH_REMOVE, NULL) != NULL;
}

/* ---------- flights ---------- */

Flight *
flight_create(Channel *channel, int64 token, const Delivery *delivery,
			  const DeliveryEvent *event)
{
	MemoryContext caller = MemoryContextSwitchTo(channel->context);
	Flight	   *flight = palloc0(sizeof(Flight));

	Assert(token > 0);
	Assert(delivery->subscription_id == channel->subscription.id);
	flight->token = token;
	flight->channel = channel;
	flight->delivery = *delivery;
	flight->from_outbox = delivery->id == 0;
	flight->order_key = pstrdup(event->order_key);
	flight->event_type = pstrdup(event->event_type);
	flight->delivery.order_key = flight->order_key;
	flight->delivery.event_type = flight->event_type;
	flight->expires_at = event->expires_at;
	flight->occurred_at = event->occurred_at;
	MemoryContextSwitchTo(caller);
	return flight;
}

void
flight_free(Flight *flight)
{
	if (flight->frame != NULL)
		pfree(flight->frame);
	if (flight->answer != NULL)
		pfree(flight->answer);
	pfree(flight->order_key);
	pfree(flight->event_type);
	pfree(flight);
}

static void
flight_make_ready(Flight *flight)
{
	ChannelLane *lane = &flight->channel->lanes[flight->delivery.lane];

	flight->state = FLIGHT_READY;
	dlist_push_tail(&lane->ready, &flight->list_node);
	lane->ready_count++;
}

void
channel_add(Flight *flight)
{
	Channel    *channel = flight->channel;
	ChannelLane *lane = &channel->lanes[flight->delivery.lane];

	if (flight->from_outbox)
		dlist_push_tail(flight->is_late ? &lane->late : &lane->undecided,
						&flight->number_node);
	else
		(void) hash_search(channel->rows, &flight->delivery.id, HASH_ENTER, NULL);
	lane->waiting_count++;
	if (channel->subscription.ordered)
		flight->key = key_find(channel, flight->delivery.lane, flight->order_key, HASH_ENTER);
	if (flight->key == NULL || flight->key->head == NULL)
	{
		if (flight->key != NULL)
			flight->key->head = flight;
		flight_make_ready(flight);
		return;
	}
	flight->state = FLIGHT_QUEUED;
	dlist_push_tail(&flight->key->queue, &flight->list_node);
	flight->key->queue_length++;
}

static Flight *
lane_next(ChannelLane *lane, bool with_retries)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lane->ready)
	{
		Flight	   *flight = dlist_container(Flight, list_node, iter.cur);

		if (with_retries || flight->delivery.attempts == 0)
			return flight;
	}
	return NULL;
}

/*
 * Money goes before everything; the lanes after it may use three quarters of the room
 * together, so that slow answers to them do not keep money waiting.
 */
Flight *
channel_next(Channel *channel, bool with_retries)
{
	int			in_flight = channel->subscription.policy.in_flight;
	int			low_max = in_flight - in_flight / 4;

	Assert(in_flight >= IN_FLIGHT_MIN);
	if (channel->sent_count >= in_flight)
		return NULL;
	for (int i = 0; i < OUTBOX_LANES; i++)
	{
		Flight	   *flight;

		if (i > 0 && channel->sent_low_count >= low_max)
			return NULL;
		flight = lane_next(&channel->lanes[i], with_retries);
		if (flight != NULL)
			return flight;
	}
	return NULL;
}

static void
flight_leave_ready(Flight *flight)
{
	ChannelLane *lane = &flight->channel->lanes[flight->delivery.lane];

	Assert(flight->state == FLIGHT_READY);
	Assert(lane->ready_count > 0 && lane->waiting_count > 0);
	dlist_delete(&flight->list_node);
	lane->ready_count--;
	lane->waiting_count--;
}

void
flight_withdraw(Flight *flight)
{
	flight_leave_ready(flight);
	flight->state = FLIGHT_ANSWERED;
}

void
flight_sent(Flight *flight, TimestampTz now)
{
	flight_leave_ready(flight);
	flight->state = FLIGHT_SENT;
	flight->sent_at = now;
	flight->channel->sent_count++;
	if (flight->delivery.lane > 0)
		flight->channel->sent_low_count++;
}

void
flight_answered(Flight *flight)
{
	Channel    *channel = flight->channel;

	Assert(flight->state == FLIGHT_SENT);
	Assert(channel->sent_count > 0);
	flight->state = FLIGHT_ANSWERED;
	channel->sent_count--;
	if (flight->delivery.lane > 0)
		channel->sent_low_count--;
}

/* The number is decided; the key stays as it is. */
static void
flight_forget(Flight *flight)
{
	Channel    *channel = flight->channel;
	ChannelLane *lane = &channel->lanes[flight->delivery.lane];

	if (flight->from_outbox)
	{
		dlist_delete(&flight->number_node);
		lane->is_dirty = true;
	}
	else
		(void) hash_search(channel->rows, &flight->delivery.id, HASH_REMOVE, NULL);
	flight_free(flight);
}

void
flight_decided(Flight *flight)
{
	Channel    *channel = flight->channel;
	KeyQueue   *key = flight->key;

	Assert(flight->state == FLIGHT_ANSWERED);
	flight_forget(flight);
	if (key == NULL)
		return;
	key->head = NULL;
	if (!dlist_is_empty(&key->queue))
	{
		key->head = dlist_container(Flight, list_node, dlist_pop_head_node(&key->queue));
		key->queue_length--;
		flight_make_ready(key->head);
	}
	key_release(channel, key);
}

Flight *
flight_take_behind(Flight *flight)
{
	KeyQueue   *key = flight->key;
	Flight	   *behind;
	ChannelLane *lane;

	if (key == NULL || dlist_is_empty(&key->queue))
		return NULL;
	Assert(key->head == flight);
	behind = dlist_container(Flight, list_node, dlist_pop_head_node(&key->queue));
	key->queue_length--;
	lane = &behind->channel->lanes[behind->delivery.lane];
	lane->waiting_count--;
	behind->state = FLIGHT_ANSWERED;
	behind->key = NULL;
	return behind;
}

/* ---------- positions ---------- */

/* A round costs the same for one event and for many: while enough can be sent, it waits. */
int
channel_room(Channel *channel, int lane_number)
{
	ChannelLane *lane = &channel->lanes[lane_number];
	int64		span = 0;
	int			room;

	if (!dlist_is_empty(&lane->undecided))
		span = lane->reading.high -
			dlist_head_element(Flight, number_node, &lane->undecided)->delivery.seq;
	if (span >= CHANNEL_SPAN_MAX || channel->row_count >= PARKED_MAX)
		return 0;
	room = Max(CHANNEL_QUEUE_MAX - lane->waiting_count, 0);
	if (room < CHANNEL_QUEUE_MAX / 2 && lane->ready_count >= channel->subscription.policy.in_flight)
		return 0;
	return room;
}

/*
 * The array lives as long as the channel, and is never NULL: whoever makes it larger
 * later does so in its own memory context.
 */
void
channel_set_reading(Channel *channel, int lane, const Position *position)
{
	Position   *reading = &channel->lanes[lane].reading;
	OpenNumbers *open = reading->open;
	int			open_max = reading->open_max;

	Assert(position->lane == lane);
	Assert(position->subscription_id == channel->subscription.id);
	if (open == NULL || open_max < position->open_count)
	{
		if (open != NULL)
			pfree(open);
		open_max = Max(position->open_count, OPEN_NUMBERS_INITIAL);
		open = MemoryContextAllocHuge(channel->context, sizeof(OpenNumbers) * open_max);
	}
	if (position->open_count > 0)
		memmove(open, position->open, sizeof(OpenNumbers) * position->open_count);
	*reading = *position;
	reading->open = open;
	reading->open_max = open_max;
}

static void
position_add_open(Position *position, int64 first, int64 last, uint64 horizon)
{
	OpenNumbers *open = &position->open[position->open_count++];

	Assert(first <= last && last <= position->high);
	open->first = first;
	open->last = last;
	open->horizon = horizon;
}

static int
open_numbers_compare(const void *a, const void *b)
{
	int64		first_a = ((const OpenNumbers *) a)->first;
	int64		first_b = ((const OpenNumbers *) b)->first;

	return first_a < first_b ? -1 : first_a > first_b;
}

/*
 * What may be stored: everything below the oldest undecided number, and late events
 * that are not decided as open numbers, so that a restart looks for them again.
 */
void
channel_position(Channel *channel, int lane_number, Position *position)
{
	ChannelLane *lane = &channel->lanes[lane_number];
	const Position *reading = &lane->reading;
	int			room = reading->open_count;
	dlist_iter	iter;

	*position = *reading;
	dlist_foreach(iter, &lane->late)
		room++;
	position->open = palloc(sizeof(OpenNumbers) * Max(room, 1));
	position->open_max = Max(room, 1);
	position->open_count = 0;
	if (!dlist_is_empty(&lane->undecided))
		position->high = dlist_head_element(Flight, number_node,
											&lane->undecided)->delivery.seq - 1;
	for (int i = 0; i < reading->open_count; i++)
	{
		const OpenNumbers *open = &reading->open[i];

		if (open->first <= position->high)
			position_add_open(position, open->first, Min(open->last, position->high),
							  open->horizon);
	}
	dlist_foreach(iter, &lane->late)
	{
		int64		seq = dlist_container(Flight, number_node, iter.cur)->delivery.seq;

		if (seq <= position->high)
			position_add_open(position, seq, seq, 0);
	}
	qsort(position->open, position->open_count, sizeof(OpenNumbers), open_numbers_compare);
	Assert(position->high <= reading->high);
}
