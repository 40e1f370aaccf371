/*
 * relay/channel.h
 *	  The worker's socket: bytes in, frames out of them; frames in, bytes out.
 */
#ifndef FAILSAFE_RELAY_CHANNEL_H
#define FAILSAFE_RELAY_CHANNEL_H

#include "frame.h"

typedef enum ChannelStatus
{
	CHANNEL_OPEN,
	CHANNEL_CLOSED,				/* the worker is gone */
	CHANNEL_BROKEN				/* what it says cannot be understood */
} ChannelStatus;

extern void channel_open(int fd);

/* Reads what is there and hands on each whole frame; handle() says false to a bad one. */
extern ChannelStatus channel_read(bool (*handle) (const Frame *frame));

/* Frames to the worker are written here. */
extern FrameBuffer *channel_output(void);
extern size_t channel_output_pending(void);
extern ChannelStatus channel_flush(void);

#endif							/* FAILSAFE_RELAY_CHANNEL_H */
