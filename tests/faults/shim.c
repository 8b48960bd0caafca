/* Lets the n-th call that changes or reads a disk fail, for tests: LD_PRELOAD=shim.so, then faults_arm(), or the variables
 * SRN_FAULT_FOLDERS, _MODE, _NUMBER, _NOTES for a process that cannot call it.
 *
 * Calls count that touch a path below one of the folders (divided by ':'). Modes:
 *
 *   eio, edquot   the n-th call that changes something fails so, those behind it do not
 *   enospc        the n-th writes half of what it should, and every one behind it that needs room fails: a full disk
 *   short         the n-th write writes half, without an error
 *   read          the n-th call that opens, reads or maps fails with EIO
 *   kill          the n-th call that changes something ends the process instead
 *   power         the same; and NOTES/log says what all changes before were and what was brought to the disk (power_cut.py
 *                 undoes what was not)
 *
 * All processes that come from the armed one count together, in the file NOTES/count: numbers of eight bytes, the calls that
 * the mode counts, one for its own use, then calls of all modes: those that read, change, need room, write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READS = 1, CHANGES = 2, GROWS = 4, WRITES = 8, KINDS = 4 }; /* what a call does */
enum { SHORT = -1 };                                     /* instead of an error number */

struct mode {
    const char *name;
    int counts, error;
};
static const struct mode modes[] = {{"eio", CHANGES, EIO},  {"edquot", GROWS, EDQUOT}, {"enospc", GROWS, ENOSPC},
                                    {"short", WRITES, 0},   {"read", READS, EIO},      {"kill", CHANGES, 0},
                                    {"power", CHANGES, 0}};

static const struct mode *armed;
static char folders[8][PATH_MAX], notes[PATH_MAX / 2];
static int folder_count, log_file = -1;
static long number;
static atomic_long *count; /* shared by all processes */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* 0, or an error number. */
int faults_arm(const char *where, const char *mode, long n, const char *note_folder) {
    char text[8 * PATH_MAX], path[PATH_MAX + 16], *rest = text;
    const struct mode *found = NULL;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(modes[i].name, mode)) found = &modes[i];
    if (!found || strlen(where) >= sizeof text || strlen(note_folder) >= sizeof notes) return EINVAL;
    strcpy(text, where);
    strcpy(notes, note_folder);
    folder_count = 0;
    for (char *one; (one = strsep(&rest, ":")) && folder_count < 8;)
        if (*one) strcpy(folders[folder_count++], one);
    snprintf(path, sizeof path, "%s/count", notes);
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || syscall(SYS_ftruncate, file, 4096)) return errno;
    count = (atomic_long *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (count == MAP_FAILED) return errno;
    snprintf(path, sizeof path, "%s/log", notes);
    if (!strcmp(mode, "power")) {
        log_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_file < 0) return errno;
    }
    number = n;
    armed = found;
    return 0;
}

__attribute__((constructor)) static void arm_by_variables(void) {
    const char *where = getenv("SRN_FAULT_FOLDERS"), *mode = getenv("SRN_FAULT_MODE");
    const char *n = getenv("SRN_FAULT_NUMBER"), *note_folder = getenv("SRN_FAULT_NOTES");
    if (where && mode && n && note_folder && faults_arm(where, mode, atol(n), note_folder)) {
        fputs("shim: cannot be armed\n", stderr);
        _exit(99);
    }
}

/* Which path a call is about, whole; those of the working folder stay as they are, and do not count. */
static const char *at_path(int folder, const char *path, char *into) {
    char link[64];
    if (*path == '/' || folder == AT_FDCWD) return path;
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    long got = syscall(SYS_readlinkat, AT_FDCWD, link, into, PATH_MAX - 1);
    if (got < 0) return path;
    snprintf(into + got, PATH_MAX - got, "/%s", path);
    return into;
}
static const char *of_file(int file, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long got = syscall(SYS_readlinkat, AT_FDCWD, link, into, PATH_MAX - 1);
    into[got < 0 ? 0 : got] = 0;
    return into;
}
static int watched(const char *path) {
    if (!armed) return 0;
    for (int i = 0; i < folder_count; i++) {
        size_t length = strlen(folders[i]);
        if (!strncmp(path, folders[i], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

/* What becomes of a call on a watched path: 0, SHORT, or an error number. */
static int fate(int does) {
    for (int kind = 0; armed && kind < KINDS; kind++)
        if (does & (1 << kind)) atomic_fetch_add(count + 2 + kind, 1);
    if (!(does & armed->counts)) return 0;
    long now = atomic_fetch_add(count, 1) + 1;
    if (number <= 0 || now < number) return 0;
    if (!strcmp(armed->name, "kill") || !strcmp(armed->name, "power")) {
        syscall(SYS_kill, (long)syscall(SYS_getpid), SIGKILL);
        for (;;) pause();
    }
    if (!strcmp(armed->name, "enospc")) return now == number && (does & WRITES) ? SHORT : ENOSPC;
    if (now > number) return 0;
    return armed->error ? armed->error : SHORT;
}

/* The log: what a power cut could undo. */
struct record {
    char kind; /* D data, W data that the write itself brought to the disk, S synced, A all synced, C created, R renamed, U unlinked, M mkdir, X rmdir */
    char pad[7];
    long inode, folder, other_folder, offset, size, length, path, other; /* the last three: bytes that follow */
};
static int keeps(void) { return armed && log_file >= 0; }
static long inode_of(const char *path) {
    struct stat found;
    return syscall(SYS_newfstatat, AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) ? 0 : (long)found.st_ino;
}
static long folder_of(const char *path) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *end = strrchr(folder, '/');
    if (!end) return 0;
    *end = 0;
    return inode_of(folder);
}
static void note(struct record about, const char *path, const char *other, const void *data) {
    about.path = path ? strlen(path) : 0;
    about.other = other ? strlen(other) : 0;
    size_t size = sizeof about + about.path + about.other + about.length;
    char *all = malloc(size), *to = all;
    memcpy(to, &about, sizeof about), to += sizeof about;
    if (about.path) memcpy(to, path, about.path), to += about.path;
    if (about.other) memcpy(to, other, about.other), to += about.other;
    if (about.length) memcpy(to, data, about.length);
    pthread_mutex_lock(&lock);
    if (syscall(SYS_write, log_file, all, size) != (long)size) abort();
    pthread_mutex_unlock(&lock);
    free(all);
}
/* A second name for a file that is about to lose its own, so that it can come back. */
static char *kept(const char *path, char *into) {
    snprintf(into, PATH_MAX, "%s/kept%ld", notes, (long)atomic_fetch_add(count + 1, 1));
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, into, 0)) *into = 0;
    return into;
}
/* What bytes `offset` to `offset + length` of a file are before they are written over. */
static void note_data(int file, long offset, long length) {
    struct stat found;
    char way[64];
    if (!keeps() || syscall(SYS_fstat, file, &found) || !S_ISREG(found.st_mode)) return;
    struct record about = {.kind = 'D', .inode = (long)found.st_ino, .offset = offset, .size = (long)found.st_size};
    about.length = offset >= about.size ? 0 : (offset + length < about.size ? length : about.size - offset);
    char *data = about.length ? malloc(about.length) : NULL;
    snprintf(way, sizeof way, "/proc/self/fd/%d", file);
    int again = about.length ? (int)syscall(SYS_openat, AT_FDCWD, way, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (about.length && syscall(SYS_pread64, again, data, about.length, offset) != about.length) abort();
    if (again >= 0) syscall(SYS_close, again);
    note(about, NULL, NULL, data);
    free(data);
}
static long place(int file) { /* where a plain write goes */
    if (syscall(SYS_fcntl, file, F_GETFL) & O_APPEND) {
        struct stat found;
        return syscall(SYS_fstat, file, &found) ? 0 : (long)found.st_size;
    }
    return syscall(SYS_lseek, file, 0L, SEEK_CUR);
}
/* A file that was opened so is on the disk when its write is through, as LMDB's meta pages are. */
static ssize_t written(int file, const void *from, ssize_t length, long offset) {
    struct stat found;
    char path[PATH_MAX];
    int saved = errno;
    if (length > 0 && keeps() && (syscall(SYS_fcntl, file, F_GETFL) & O_DSYNC) && watched(of_file(file, path)) &&
        !syscall(SYS_fstat, file, &found)) {
        struct record about = {.kind = 'W', .inode = (long)found.st_ino, .offset = offset, .length = length};
        note(about, NULL, NULL, from);
    }
    return errno = saved, length;
}
static void note_synced(int file) {
    struct stat found;
    if (keeps() && !syscall(SYS_fstat, file, &found)) note((struct record){.kind = 'S', .inode = (long)found.st_ino}, NULL, NULL, NULL);
}

/* Opening. */
static int open_fate(const char *path, int flags, int *creates) {
    *creates = 0;
    if (!watched(path) || (flags & O_PATH) || ((flags & O_TMPFILE) == O_TMPFILE)) return 0;
    struct stat found;
    int there = !syscall(SYS_newfstatat, AT_FDCWD, path, &found, 0);
    *creates = !there && (flags & O_CREAT);
    int cuts = there && (flags & O_TRUNC) && S_ISREG(found.st_mode);
    int failed = fate(*creates || cuts ? CHANGES | (*creates ? GROWS : 0) : READS);
    if (!failed && cuts && keeps()) {
        int file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
        if (file >= 0) note_data(file, 0, found.st_size), syscall(SYS_close, file);
    }
    return failed;
}
static void note_created(const char *path) {
    if (keeps()) note((struct record){.kind = 'C', .inode = inode_of(path), .folder = folder_of(path)}, path, NULL, NULL);
}
static int open_at(const char *name, int folder, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    const char *where = at_path(folder, path, whole);
    int creates, failed = open_fate(where, flags, &creates);
    if (failed) return errno = failed == SHORT ? ENOSPC : failed, -1;
    int file = ((int (*)(int, const char *, int, ...))real(name))(folder, path, flags, mode);
    if (file >= 0 && creates) note_created(where);
    return file;
}
#define MODE_OF(flags)                                     \
    mode_t mode = 0;                                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                 \
        va_list words;                                     \
        va_start(words, flags);                            \
        mode = va_arg(words, mode_t);                      \
        va_end(words);                                     \
    }
int open(const char *path, int flags, ...) { MODE_OF(flags) return open_at("openat", AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_at("openat", AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE_OF(flags) return open_at("openat", folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE_OF(flags) return open_at("openat", folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_at("openat", AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
static FILE *open_stream(const char *name, const char *path, const char *how) {
    int flags = *how == 'w' ? O_CREAT | O_TRUNC : *how == 'a' ? O_CREAT : 0, creates;
    int failed = open_fate(path, flags, &creates);
    if (failed) return errno = failed == SHORT ? ENOSPC : failed, NULL;
    FILE *file = ((FILE * (*)(const char *, const char *)) real(name))(path, how);
    if (file && creates) note_created(path);
    return file;
}
FILE *fopen(const char *path, const char *how) { return open_stream("fopen", path, how); }
FILE *fopen64(const char *path, const char *how) { return open_stream("fopen64", path, how); }

/* Reading and writing; `length` becomes that of a short one. */
static int file_fate(int file, int does, long offset, size_t *length) {
    char path[PATH_MAX];
    if (!armed || !watched(of_file(file, path))) return 0;
    int failed = fate(does);
    if (failed > 0) return failed;
    if (failed == SHORT && length && *length > 1) *length /= 2;
    if (does & WRITES) note_data(file, offset == -1 ? place(file) : offset, length ? (long)*length : 0);
    return 0;
}
#define FAIL_IF(failed) \
    int why = failed;   \
    if (why) return errno = why, -1;
ssize_t read(int file, void *to, size_t length) { FAIL_IF(file_fate(file, READS, 0, NULL)) return REAL(read)(file, to, length); }
ssize_t pread(int file, void *to, size_t length, off_t at) { FAIL_IF(file_fate(file, READS, at, NULL)) return REAL(pread)(file, to, length, at); }
ssize_t pread64(int file, void *to, size_t length, off64_t at) { FAIL_IF(file_fate(file, READS, at, NULL)) return REAL(pread64)(file, to, length, at); }
ssize_t readv(int file, const struct iovec *parts, int n) { FAIL_IF(file_fate(file, READS, 0, NULL)) return REAL(readv)(file, parts, n); }
ssize_t preadv(int file, const struct iovec *parts, int n, off_t at) { FAIL_IF(file_fate(file, READS, at, NULL)) return REAL(preadv)(file, parts, n, at); }
ssize_t preadv64(int file, const struct iovec *parts, int n, off64_t at) { FAIL_IF(file_fate(file, READS, at, NULL)) return REAL(preadv64)(file, parts, n, at); }
ssize_t write(int file, const void *from, size_t length) {
    FAIL_IF(file_fate(file, CHANGES | GROWS | WRITES, -1, &length))
    long at = keeps() ? place(file) : 0;
    return written(file, from, REAL(write)(file, from, length), at);
}
ssize_t pwrite(int file, const void *from, size_t length, off_t at) { FAIL_IF(file_fate(file, CHANGES | GROWS | WRITES, at, &length)) return written(file, from, REAL(pwrite)(file, from, length, at), at); }
ssize_t pwrite64(int file, const void *from, size_t length, off64_t at) { FAIL_IF(file_fate(file, CHANGES | GROWS | WRITES, at, &length)) return written(file, from, REAL(pwrite64)(file, from, length, at), at); }
/* In one piece, so that it can be shortened. */
static ssize_t gathered(int file, const struct iovec *parts, int n, off_t at) {
    char path[PATH_MAX];
    if (!armed || !watched(of_file(file, path)))
        return at == -1 ? REAL(writev)(file, parts, n) : REAL(pwritev)(file, parts, n, at);
    size_t length = 0, done = 0;
    for (int i = 0; i < n; i++) length += parts[i].iov_len;
    char *all = malloc(length + 1);
    for (int i = 0; i < n; done += parts[i++].iov_len) memcpy(all + done, parts[i].iov_base, parts[i].iov_len);
    ssize_t got = at == -1 ? write(file, all, length) : pwrite(file, all, length, at);
    int saved = errno;
    free(all);
    return errno = saved, got;
}
ssize_t writev(int file, const struct iovec *parts, int n) { return gathered(file, parts, n, -1); }
ssize_t pwritev(int file, const struct iovec *parts, int n, off_t at) { return gathered(file, parts, n, at); }
ssize_t pwritev64(int file, const struct iovec *parts, int n, off64_t at) { return gathered(file, parts, n, at); }
ssize_t sendfile(int to, int from, off_t *at, size_t length) { FAIL_IF(file_fate(to, CHANGES | GROWS | WRITES, -1, &length)) return REAL(sendfile)(to, from, at, length); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t length) { FAIL_IF(file_fate(to, CHANGES | GROWS | WRITES, -1, &length)) return REAL(sendfile64)(to, from, at, length); }
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *there, size_t length, unsigned flags) {
    FAIL_IF(file_fate(to, CHANGES | GROWS | WRITES, there ? *there : -1, &length))
    return REAL(copy_file_range)(from, at, to, there, length, flags);
}
/* A reading map; none of the package's own writes. */
void *mmap(void *at, size_t length, int rights, int flags, int file, off_t offset) {
    int why = file < 0 ? 0 : file_fate(file, READS, 0, NULL);
    if (why) return errno = why, MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, length, rights, flags, file, offset);
}
void *mmap64(void *at, size_t length, int rights, int flags, int file, off64_t offset) { return mmap(at, length, rights, flags, file, offset); }

/* The size of a file. */
static int resized(int file, long size) {
    int why = file_fate(file, CHANGES | GROWS, 0, NULL);
    struct stat found;
    char path[PATH_MAX];
    if (why || !keeps() || !watched(of_file(file, path)) || syscall(SYS_fstat, file, &found)) return why;
    long from = size < found.st_size ? size : found.st_size;
    note_data(file, from, found.st_size - from);
    return 0;
}
int ftruncate(int file, off_t size) { FAIL_IF(resized(file, size)) return REAL(ftruncate)(file, size); }
int ftruncate64(int file, off64_t size) { FAIL_IF(resized(file, size)) return REAL(ftruncate64)(file, size); }
int posix_fallocate(int file, off_t at, off_t length) {
    int why = resized(file, LONG_MAX);
    return why ? why : REAL(posix_fallocate)(file, at, length);
}
int posix_fallocate64(int file, off64_t at, off64_t length) {
    int why = resized(file, LONG_MAX);
    return why ? why : REAL(posix_fallocate64)(file, at, length);
}

/* To the disk. */
#define SYNCING(name)                                              \
    int name(int file) {                                           \
        FAIL_IF(file_fate(file, CHANGES | GROWS, 0, NULL))         \
        int got = REAL(name)(file);                                \
        char path[PATH_MAX];                                       \
        if (!got && armed && watched(of_file(file, path))) note_synced(file); \
        return got;                                                \
    }
SYNCING(fsync)
SYNCING(fdatasync)
void sync(void) { /* the real one would wait for the whole machine */
    if (keeps()) note((struct record){.kind = 'A'}, NULL, NULL, NULL);
}

/* Names. */
static int rename_at(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char whole[PATH_MAX], other[PATH_MAX], name[PATH_MAX] = "";
    const char *old = at_path(from_folder, from, whole), *new = at_path(to_folder, to, other);
    if (watched(old) || watched(new)) {
        FAIL_IF(fate(CHANGES | GROWS))
        if (keeps()) kept(new, name);
    }
    struct record about = {.kind = 'R', .inode = inode_of(old), .folder = folder_of(old), .other_folder = folder_of(new)};
    about.length = strlen(name);
    int got = (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (!got && keeps() && (watched(old) || watched(new))) note(about, old, new, name);
    return got;
}
int rename(const char *from, const char *to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return rename_at(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return rename_at(a, from, b, to, flags); }
static int removed(int folder, const char *path, int flags) {
    char whole[PATH_MAX], name[PATH_MAX] = "";
    const char *where = at_path(folder, path, whole);
    int is_folder = flags & AT_REMOVEDIR, mine = watched(where);
    if (mine && inode_of(where)) {
        FAIL_IF(fate(CHANGES))
        if (keeps() && !is_folder) kept(where, name);
    }
    struct record about = {.kind = is_folder ? 'X' : 'U', .inode = inode_of(where), .folder = folder_of(where)};
    about.length = strlen(name);
    int got = (int)syscall(SYS_unlinkat, folder, path, flags);
    if (!got && mine && keeps()) note(about, where, NULL, name);
    return got;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) { return removed(AT_FDCWD, path, 0); }
int mkdirat(int folder, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    const char *where = at_path(folder, path, whole);
    if (watched(where) && !inode_of(where)) { FAIL_IF(fate(CHANGES | GROWS)) }
    int got = (int)syscall(SYS_mkdirat, folder, path, mode);
    if (!got && watched(where) && keeps()) note((struct record){.kind = 'M', .inode = inode_of(where), .folder = folder_of(where)}, where, NULL, NULL);
    return got;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int chmod(const char *path, mode_t mode) {
    if (watched(path)) { FAIL_IF(fate(CHANGES)) }
    return (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}
