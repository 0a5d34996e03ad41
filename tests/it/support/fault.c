/* A disk that fails on demand: preloaded into the program, it looks at a control file before each write and sync of a
 * file below one folder.
 *
 *   fsync=EIO       syncs fail
 *   fsync=EIO@20    as many syncs as that succeed, counted from the first that is looked at so; the later ones fail
 *   fsync=none      syncs are said to be done and are not
 *   write=ENOSPC    writes fail
 *   slow=300        syncs take that many milliseconds longer
 *   drop            writes are acknowledged and forgotten, as a disk does that lies
 *   NAME:fault      one of these, for files of that name alone; it may be a pattern, such as *.segment
 *
 * FAULT_FOLDER names the folder, FAULT_CONTROL the file (outside of it); an empty file is a sound disk. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Takes the name off what is said; nothing is said for files of another name. */
static void only(const char *path, char *said) {
    char *colon = strchr(said, ':');
    if (!colon) return;
    *colon = 0;
    const char *name = strrchr(path, '/');
    if (name && fnmatch(said, name + 1, 0) == 0) memmove(said, colon + 1, strlen(colon + 1) + 1);
    else said[0] = 0;
}

/* What the control file says for this descriptor; empty for files elsewhere. */
static void fault(int fd, char *said, size_t size) {
    char link[64], path[PATH_MAX];
    const char *folder = getenv("FAULT_FOLDER"), *control = getenv("FAULT_CONTROL");
    int saved = errno;
    said[0] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0 && folder && control) {
        path[length] = 0;
        if (strncmp(path, folder, strlen(folder)) == 0) {
            int file = open(control, O_RDONLY | O_CLOEXEC);
            if (file >= 0) {
                ssize_t got = read(file, said, size - 1);
                said[got > 0 ? got : 0] = 0;
                close(file);
                only(path, said);
            }
        }
    }
    errno = saved;
}

/* 0: sync; 1: fail; 2: pretend. */
static int sync_fails(int fd) {
    static atomic_long synced;
    char said[64];
    fault(fd, said, sizeof said);
    if (strncmp(said, "slow=", 5) == 0) {
        long ms = atol(said + 5);
        struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&wait, NULL);
    }
    if (strncmp(said, "fsync=EIO", 9) == 0) {
        if (said[9] == '@' && atomic_fetch_add(&synced, 1) < atol(said + 10)) return 0;
        errno = EIO;
        return 1;
    }
    return strcmp(said, "fsync=none") == 0 ? 2 : 0;
}

static int synced(int fd, long call) {
    switch (sync_fails(fd)) {
    case 1: return -1;
    case 2: return 0;
    default: return (int)syscall(call, fd);
    }
}

int fsync(int fd) { return synced(fd, SYS_fsync); }

int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* 0: write; 1: fail; 2: pretend. */
static int write_fails(int fd) {
    char said[64];
    fault(fd, said, sizeof said);
    if (strcmp(said, "write=ENOSPC") == 0) {
        errno = ENOSPC;
        return 1;
    }
    return strcmp(said, "drop") == 0 ? 2 : 0;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    switch (write_fails(fd)) {
    case 1: return -1;
    case 2: return (ssize_t)count;
    default: return syscall(SYS_write, fd, bytes, count);
    }
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    switch (write_fails(fd)) {
    case 1: return -1;
    case 2: return (ssize_t)count;
    default: return syscall(SYS_pwrite64, fd, bytes, count, offset);
    }
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) { return pwrite(fd, bytes, count, offset); }
