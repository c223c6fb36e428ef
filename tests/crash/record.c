/* A preloaded shim that records what a process does to the files under REC_ROOT: one record for each call that changes
 * something and succeeded, with its data, in the order in which the calls happened (one lock over all processes).
 * What is written to the file REC_ACK is recorded as an acknowledgement. Invariant: a call this shim cannot describe is
 * recorded as such ("X"), so that a recording is complete or known not to be. Format: see record.ts. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX], ack[PATH_MAX], log_path[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static pid_t log_pid;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
  const char *r = getenv("REC_ROOT"), *a = getenv("REC_ACK"), *l = getenv("REC_LOG");
  if (!r || !a || !l) return;
  snprintf(root, sizeof root, "%s", r);
  snprintf(ack, sizeof ack, "%s", a);
  snprintf(log_path, sizeof log_path, "%s", l);
  root_length = strlen(root);
}

static void fail(const char *what) {
  dprintf(2, "record.c: %s: %s\n", what, strerror(errno));
  _exit(97);
}

/* The lock is flock on the log's own description, so a forked child needs one of its own. */
static void lock(void) {
  pthread_mutex_lock(&mutex);
  if (log_fd < 0 || log_pid != getpid()) {
    int fd = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) fail("open log");
    /* Far from the small numbers, which shells use as they like. */
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500);
    if (log_fd < 0) fail("dup log");
    close(fd);
    log_pid = getpid();
  }
  while (flock(log_fd, LOCK_EX) < 0)
    if (errno != EINTR) fail("lock log");
}

static void unlock(void) {
  int kept = errno;
  flock(log_fd, LOCK_UN);
  pthread_mutex_unlock(&mutex);
  errno = kept;
}

static void put(const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    long n = syscall(SYS_write, log_fd, at, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("write log");
    at += n;
    length -= n;
  }
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
  int kept = errno;
  char line[3 * PATH_MAX];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  put(line, length);
  errno = kept;
}

/* ---------- what a call is about ---------- */

static int inside(const char *path) {
  return root_length > 0 && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static const char *in_root(const char *path) { return path[root_length] == 0 ? "." : path + root_length + 1; }

static int fd_path(int fd, char *into) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, into, PATH_MAX - 1);
  if (n < 0) return 0;
  into[n] = 0;
  return 1;
}

/* Absolute and without "." at its beginning; links are not followed, which the comparison with the real folder would show. */
static const char *absolute(int dir, const char *path, char *into) {
  if (path[0] == '/') return path;
  char base[PATH_MAX];
  if (dir == AT_FDCWD ? !getcwd(base, sizeof base) : !fd_path(dir, base)) return "";
  while (path[0] == '.' && path[1] == '/') path += 2;
  return (size_t)snprintf(into, PATH_MAX, "%s/%s", base, path) < PATH_MAX ? into : "";
}

enum { NONE, FILE_IN_ROOT, DIRECTORY_IN_ROOT, ACK };

static int what_is(int fd, char *path, struct stat *stat) {
  int kept = errno, is = NONE;
  if (root_length > 0 && fd_path(fd, path) && fstat(fd, stat) == 0) {
    if (strcmp(path, ack) == 0) is = ACK;
    else if (inside(path)) is = S_ISDIR(stat->st_mode) ? DIRECTORY_IN_ROOT : S_ISREG(stat->st_mode) ? FILE_IN_ROOT : NONE;
  }
  errno = kept;
  return is;
}

#define INO(stat) ((unsigned long long)(stat).st_ino)

/* ---------- data ---------- */

static void said_vector(const struct iovec *parts, int count, long n) {
  for (int i = 0; i < count && n > 0; i++) {
    size_t length = parts[i].iov_len < (size_t)n ? parts[i].iov_len : (size_t)n;
    put(parts[i].iov_base, length);
    n -= length;
  }
  put("\n", 1);
}

/* `offset` < 0: at the place of the descriptor, which is known afterwards. */
static long written(int fd, const struct iovec *parts, int count, off_t offset) {
  char path[PATH_MAX];
  struct stat stat;
  int is = what_is(fd, path, &stat);
  if (is == FILE_IN_ROOT || is == ACK) lock();
  long n = offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, (long)offset, 0L);
  if (is == FILE_IN_ROOT && n > 0) {
    off_t at = offset < 0 || (fcntl(fd, F_GETFL) & O_APPEND) ? lseek(fd, 0, SEEK_CUR) - n : offset;
    say("W\t%llu\t%lld\t%ld\n", INO(stat), (long long)at, n);
    said_vector(parts, count, n);
  }
  if (is == ACK && n > 0) {
    say("A\t%d\t%ld\n", (int)getpid(), n);
    said_vector(parts, count, n);
  }
  if (is == FILE_IN_ROOT || is == ACK) unlock();
  return n;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  struct iovec part = {(void *)bytes, length};
  return written(fd, &part, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return written(fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  struct iovec part = {(void *)bytes, length};
  return written(fd, &part, 1, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) { return pwrite(fd, bytes, length, offset); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return written(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return written(fd, parts, count, offset); }

int ftruncate(int fd, off_t size) {
  char path[PATH_MAX];
  struct stat stat;
  int is = what_is(fd, path, &stat);
  if (is != FILE_IN_ROOT) return syscall(SYS_ftruncate, fd, size);
  lock();
  int n = syscall(SYS_ftruncate, fd, size);
  if (n == 0) say("T\t%llu\t%lld\n", INO(stat), (long long)size);
  unlock();
  return n;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int flushed(long number, int fd) {
  char path[PATH_MAX];
  struct stat stat;
  int is = what_is(fd, path, &stat);
  if (is != FILE_IN_ROOT && is != DIRECTORY_IN_ROOT) return syscall(number, fd);
  lock();
  int n = syscall(number, fd);
  if (n == 0 && is == FILE_IN_ROOT) say("S\t%llu\n", INO(stat));
  if (n == 0 && is == DIRECTORY_IN_ROOT) say("D\t%s\n", in_root(path));
  unlock();
  return n;
}
int fsync(int fd) { return flushed(SYS_fsync, fd); }
int fdatasync(int fd) { return flushed(SYS_fdatasync, fd); }

/* ---------- names ---------- */

static int opened(int dir, const char *given, int flags, mode_t mode) {
  char buffer[PATH_MAX];
  const char *path = root_length > 0 && (flags & (O_CREAT | O_TRUNC)) ? absolute(dir, given, buffer) : "";
  if (!inside(path)) return syscall(SYS_openat, dir, given, flags, mode);
  lock();
  struct stat before, stat;
  int kept = errno, was = lstat(path, &before) == 0;
  errno = kept;
  int fd = syscall(SYS_openat, dir, given, flags, mode);
  if (fd >= 0 && fstat(fd, &stat) == 0) {
    if ((flags & O_TMPFILE) == O_TMPFILE) say("X\topen with O_TMPFILE in %s\n", in_root(path));
    else if (!was) say("C\t%llu\t%s\n", INO(stat), in_root(path));
    else if ((flags & O_TRUNC) && before.st_size > 0) say("T\t%llu\t0\n", INO(stat));
  }
  unlock();
  return fd;
}

#define MODE_OF(flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | __O_TMPFILE)) { \
    va_list arguments; \
    va_start(arguments, flags); \
    mode = va_arg(arguments, int); \
    va_end(arguments); \
  }

int open(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE_OF(flags) return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE_OF(flags) return opened(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* Runs a call on names and records it when it changed something under the root. */
#define NAMED(a, b, call, ...) \
  if (!inside(a) && !inside(b)) return call; \
  lock(); \
  int n = call; \
  if (n == 0) { \
    if (inside(a) && inside(b)) say(__VA_ARGS__); \
    else say("X\t%s into or out of the recorded folder: %s %s\n", __func__, a, b); \
  } \
  unlock(); \
  return n;

int renameat2(int from, const char *old_path, int to, const char *new_path, unsigned flags) {
  char a[PATH_MAX], b[PATH_MAX];
  const char *old_name = absolute(from, old_path, a), *new_name = absolute(to, new_path, b);
  NAMED(old_name, new_name, syscall(SYS_renameat2, from, old_path, to, new_path, flags), "%s\t%s\t%s\n", flags & RENAME_EXCHANGE ? "X\trenameat2 exchange" : "R", in_root(old_name), in_root(new_name))
}
int renameat(int from, const char *old_path, int to, const char *new_path) { return renameat2(from, old_path, to, new_path, 0); }
int rename(const char *old_path, const char *new_path) { return renameat2(AT_FDCWD, old_path, AT_FDCWD, new_path, 0); }

int linkat(int from, const char *old_path, int to, const char *new_path, int flags) {
  char a[PATH_MAX], b[PATH_MAX];
  const char *old_name = absolute(from, old_path, a), *new_name = absolute(to, new_path, b);
  NAMED(old_name, new_name, syscall(SYS_linkat, from, old_path, to, new_path, flags), "L\t%s\t%s\n", in_root(old_name), in_root(new_name))
}
int link(const char *old_path, const char *new_path) { return linkat(AT_FDCWD, old_path, AT_FDCWD, new_path, 0); }

int unlinkat(int dir, const char *given, int flags) {
  char buffer[PATH_MAX];
  const char *path = absolute(dir, given, buffer);
  NAMED(path, path, syscall(SYS_unlinkat, dir, given, flags), "%s\t%s\n", flags & AT_REMOVEDIR ? "V" : "U", in_root(path))
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
  struct stat stat;
  return unlinkat(AT_FDCWD, path, lstat(path, &stat) == 0 && S_ISDIR(stat.st_mode) ? AT_REMOVEDIR : 0);
}

int mkdirat(int dir, const char *given, mode_t mode) {
  char buffer[PATH_MAX];
  const char *path = absolute(dir, given, buffer);
  NAMED(path, path, syscall(SYS_mkdirat, dir, given, mode), "M\t%s\n", in_root(path))
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* ---------- what is not described ---------- */

int truncate(const char *given, off_t size) {
  char buffer[PATH_MAX];
  const char *path = absolute(AT_FDCWD, given, buffer);
  NAMED(path, path, syscall(SYS_truncate, given, size), "X\ttruncate %s\n", in_root(path))
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

int symlink(const char *target, const char *given) {
  char buffer[PATH_MAX];
  const char *path = absolute(AT_FDCWD, given, buffer);
  NAMED(path, path, syscall(SYS_symlinkat, target, AT_FDCWD, given), "X\tsymlink %s\n", in_root(path))
}

static void unknown(int fd, const char *what) {
  char path[PATH_MAX];
  struct stat stat;
  if (what_is(fd, path, &stat) != FILE_IN_ROOT) return;
  lock();
  say("X\t%s %s\n", what, in_root(path));
  unlock();
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  unknown(fd, "fallocate");
  return syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return fallocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return fallocate(fd, 0, offset, length) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return posix_fallocate(fd, offset, length); }
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t length, unsigned flags) {
  unknown(out, "copy_file_range");
  return syscall(SYS_copy_file_range, in, in_at, out, out_at, length, flags);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
  unknown(out, "sendfile");
  return syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) { return sendfile(out, in, offset, count); }

/* A shared writable mapping changes a file unseen. SQLite has one of its -shm, which it makes anew after a crash. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED)) {
    char path[PATH_MAX];
    size_t n = fd_path(fd, path) ? strlen(path) : 0;
    if (n < 4 || strcmp(path + n - 4, "-shm") != 0) unknown(fd, "mmap of");
  }
  return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) { return mmap(address, length, protection, flags, fd, offset); }
