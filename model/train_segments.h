/* train_segments.h - the segments of a model: k-means on where its users
 * stand after the last event that training learned from.
 *
 * Threads  Uses the team; each state depends on its user alone, and k-means
 *          runs on the caller's thread. */
#ifndef MILLRACE_TRAIN_SEGMENTS_H
#define MILLRACE_TRAIN_SEGMENTS_H

#include "train_lane.h"
#include "train_team.h"

/* Of at most TRAIN_SEGMENT_USERS users, evenly chosen. */
enum { TRAIN_SEGMENT_USERS = 4096 };

enum rc train_segments(const struct train_shared *shared, struct lane **lanes,
                       struct team *team, struct segments *out,
                       struct err *e) MUST_USE;

#endif
