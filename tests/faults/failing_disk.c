/* A disk that fails: preloaded, it makes writes to run files (*.jsonl) fail as a full disk, a quota or a dying device do.
 *
 * FAILING_CALL names the call (`write`, `fsync`), FAILING_ERRNO the error, FAILING_AFTER how many such calls succeed
 * first. A write that fails for want of room writes half of its bytes before, as real ones do. With FAILING_FTRUNCATE
 * set, what was written cannot be taken back either.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int calls, half_written;

static int is_run_file(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 6) return 0;
    path[length] = 0;
    return strcmp(path + length - 6, ".jsonl") == 0;
}

static int fails(const char *call, int descriptor) {
    const char *wanted = getenv("FAILING_CALL"), *after = getenv("FAILING_AFTER"), *code = getenv("FAILING_ERRNO");
    if (!wanted || !after || !code || strcmp(wanted, call) || !is_run_file(descriptor)) return 0;
    if (calls < atoi(after)) {
        calls++;
        return 0;
    }
    errno = atoi(code);
    return 1;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (!fails("write", descriptor)) return real(descriptor, data, size);
    if (half_written++ % 2 || size < 2) return -1;
    return real(descriptor, data, size / 2);
}

int fsync(int descriptor) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails("fsync", descriptor) ? -1 : real(descriptor);
}

static int no_way_back(int descriptor) {
    if (!getenv("FAILING_FTRUNCATE") || !is_run_file(descriptor)) return 0;
    errno = EIO;
    return 1;
}

int ftruncate(int descriptor, off_t length) {
    static int (*real)(int, off_t);
    if (!real) real = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate");
    return no_way_back(descriptor) ? -1 : real(descriptor, length);
}

int ftruncate64(int descriptor, off_t length) {
    static int (*real)(int, off_t);
    if (!real) real = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate64");
    return no_way_back(descriptor) ? -1 : real(descriptor, length);
}
