/* replay_html_again.c - where a replay's numbers come from, on its page: the
 * model's card, the command, the files, the options. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hash.h"
#include "replay_html.h"

enum { CARD_BYTES_MAX = 64 << 10 };

void replay_html_card(struct html *h, const struct config *c)
{
    char path[1024];
    char *text = malloc(CARD_BYTES_MAX);
    FILE *f = NULL;
    size_t len = 0;
    if (snprintf(path, sizeof path, "%s/model_card.md", c->model_dir) <
        (int)sizeof path)
        f = fopen(path, "r");
    if (f && text) len = fread(text, 1, CARD_BYTES_MAX, f);
    if (len > 0) {
        html_say(h, "<h2>The model's card</h2><pre>");
        html_text(h, slice_of(text, len));
        html_say(h, "</pre>\n");
    }
    if (f) (void)fclose(f);
    free(text);
}

/* "key=value" of a secret key: the key alone. */
static void word(struct html *h, const char *text)
{
    const char *equals = strchr(text, '=');
    char key[128];
    if (equals && (size_t)(equals - text) < sizeof key) {
        (void)snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
        if (config_is_secret(key)) {
            html_text(h, slice_str(key));
            html_say(h, "=***");
            return;
        }
    }
    html_text(h, slice_str(text));
}

/* XXH3 of a whole file; 0: it cannot be read any more. */
static uint64_t hash_file(const char *path, uint64_t *bytes)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    uint64_t hash = 0;
    void *at;
    *bytes = 0;
    if (file < 0) return 0;
    if (fstat(file, &about) == 0 && about.st_size > 0) {
        size_t size = (size_t)about.st_size;
        at = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
        if (at != MAP_FAILED) {
            hash = hash64(slice_of(at, size));
            *bytes = size;
            (void)munmap(at, size);
        }
    }
    (void)close(file);
    return hash;
}

/* What was read, so that one can tell whether it is the same again. */
static void files(struct html *h, const struct replay_page *page)
{
    if (page->file_count == 0) return;
    html_say(h, "<div class=\"wide\"><table><tr><th>file</th><th>bytes</th>"
                "<th>XXH3</th></tr>\n");
    for (uint32_t i = 0; i < page->file_count; i++) {
        uint64_t bytes, hash = hash_file(page->files[i], &bytes);
        html_say(h, "<tr><td>");
        html_text(h, slice_str(page->files[i]));
        html_say(h, "</td><td>%llu</td><td>%016llx</td></tr>\n",
                 (unsigned long long)bytes, (unsigned long long)hash);
    }
    html_say(h, "</table></div>\n");
}

void replay_html_again(struct html *h, const struct replay_report *r,
                       const struct replay_page *page)
{
    html_say(h, "<h2>To make it again</h2><pre>millrace");
    for (uint32_t i = 0; i < page->word_count; i++) {
        html_say(h, " ");
        word(h, page->words[i]);
    }
    html_say(h, "</pre><p class=\"soft\">millrace %s", MILLRACE_VERSION);
    if (r->model)
        html_say(h, ", model %s, kernels %s", r->model->hash, r->model->family);
    html_say(h, ".</p>");
    files(h, page);
    html_say(h, "<p class=\"soft\">Options that are not defaults:</p><pre>");
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        const struct property *p = &page->config->origins[i];
        if (strcmp(p->origin, "default") == 0) continue;
        html_text(h, slice_str(p->key));
        html_say(h, " = ");
        html_text(h, slice_str(property_shown(p)));
        html_say(h, "\n");
    }
    html_say(h, "</pre>\n");
}
