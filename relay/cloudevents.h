/*
 * relay/cloudevents.h
 *	  An event as CloudEvents 1.0: HTTP binary mode or structured JSON.  Pure.
 */
#ifndef FAILSAFE_RELAY_CLOUDEVENTS_H
#define FAILSAFE_RELAY_CLOUDEVENTS_H

#include "text.h"

/*
 * Header values: blank, '"', '%' and all outside of U+0021 to U+007E as %XX of its UTF-8
 * bytes.
 */
extern void cloudevents_encode(FrameBuffer *out, const char *text, size_t length);

/*
 * Binary mode: "ce-id: ..." lines, each with a zero at its end; the body is DATA itself.
 */
extern void cloudevents_headers(FrameBuffer *out, const FrameFields *event, const char *source);

/* Structured mode: the body.  false: a text of the event is not UTF-8. */
extern bool cloudevents_structured(FrameBuffer *out, const FrameFields *event, const char *source);

#endif							/* FAILSAFE_RELAY_CLOUDEVENTS_H */
