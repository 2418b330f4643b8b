/* Replays a folder of inputs through a fuzz target, for builds without
 * libFuzzer: what a fuzzer once found stays tested in every run. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path, size_t size)
{
    /* Exactly size bytes on the heap, so that a sanitizer sees one too many. */
    uint8_t *data = malloc(size ? size : 1);
    FILE *file = fopen(path, "rb");
    int bad = !data || !file || fread(data, 1, size, file) != size;
    if (bad)
        fprintf(stderr, "cannot read %s\n", path);
    else
        (void)LLVMFuzzerTestOneInput(data, size);
    if (file) (void)fclose(file);
    free(data);
    return bad;
}

int main(int argc, char **argv)
{
    const struct dirent *entry;
    unsigned inputs = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s FOLDER (that exists)\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(folder)) != NULL) {
        char path[4096];
        struct stat at;
        (void)snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (stat(path, &at) != 0 || !S_ISREG(at.st_mode)) continue;
        if (replay(path, (size_t)at.st_size)) return 1;
        inputs++;
    }
    (void)closedir(folder);
    printf("%u inputs\n", inputs);
    return inputs ? 0 : 1;
}
