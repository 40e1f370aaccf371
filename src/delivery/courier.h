/*
 * delivery/courier.h
 *	  The relay as a child process of the worker: its birth, its frames, its death.
 */
#ifndef FAILSAFE_DELIVERY_COURIER_H
#define FAILSAFE_DELIVERY_COURIER_H

#include "relay/frame.h"

/* For each frame that the relay sent; must not raise. */
typedef void (*CourierCallback) (RelayFrameType type, const FrameFields *fields);

/* Once in a worker's life, before anything else: no exit of this process leaves a relay. */
extern void courier_init(void);

/*
 * Start the relay and greet it as this CloudEvents source.  false: not now, because the
 * last one has just died, or because it cannot be started, which is logged.
 */
extern bool courier_start(const char *source);

extern bool courier_is_up(void);

/* 0: there is none */
extern int	courier_pid(void);

/*
 * Queue one complete frame, or several.  false: it is not up, or too much waits to
 * be written already; nothing was queued then.
 */
extern bool courier_send(const char *frame, size_t length);

/* Would courier_send() take a frame of this length? */
extern bool courier_has_room(size_t length);

/* For the wait: PGINVALID_SOCKET where there is none; does something wait to be written? */
extern pgsocket courier_socket(void);
extern bool courier_wants_write(void);

/*
 * Write what can be written, read what is there, hand over the frames, look after the
 * relay's health.  false: the relay was up and is lost; what was on its way has
 * no answer.  Never waits, never raises but for memory.
 */
extern bool courier_pump(CourierCallback callback);

/* End the relay now; what was on its way has no answer. */
extern void courier_stop(void);

/* Prepare a buffer for frames, in the current memory context; data is palloc'd. */
extern void courier_buffer_init(FrameBuffer *buffer);

#endif							/* FAILSAFE_DELIVERY_COURIER_H */
