/* config_value.h - one option's text, and the value it stands for.
 *
 * Memory   A value in struct config owns its texts.
 * Threads  Pure but for ${file:} and ${env:}. */
#ifndef MILLRACE_CONFIG_VALUE_H
#define MILLRACE_CONFIG_VALUE_H

#include "config.h"

/* Reads text into o's field of c, whose former value is freed. RC_SKIP with
 * what is allowed, the former value untouched, where text is no such value.
 * The text of the error quotes it only if !secret. */
enum rc config_value_parse(struct config *c, const struct config_option *o,
                           const char *text, bool secret,
                           struct err *e) MUST_USE;
void config_value_free(struct config *c, const struct config_option *o);

/* *out: text with every ${file:PATH} and ${env:NAME} filled in; free() it.
 * Relative paths begin at folder. *secret is set if there was one. RC_SKIP
 * names what could not be read. */
enum rc config_value_expand(const char *text, const char *folder, char **out,
                            bool *secret, struct err *e) MUST_USE;

/* folder/path, or path alone where that is absolute or empty, or folder is
 * ""; free() it. */
char *config_path_join(const char *folder, const char *path);

/* A whole file of at most bytes_max as a text that free() frees. RC_SKIP
 * for what cannot be read, is longer, or holds a zero byte. */
enum rc config_file_text(const char *path, size_t bytes_max, char **out,
                         struct err *e) MUST_USE;

/* "250ms", "7d"; "64KiB", "4096". False: no such text. */
bool config_read_duration(const char *text, int64_t *out_ms);
bool config_read_size(const char *text, uint64_t *out);

/* strdup that does not fail: options are read at start, before anything
 * could be lost. */
char *config_keep(const char *text, size_t len);

#endif
