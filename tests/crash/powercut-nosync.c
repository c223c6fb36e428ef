/* Preloaded into a process, it makes every flush a lie: success, and nothing is on the disk. With it the power cuts must lose
 * what was acknowledged, which shows that they would see it. */
int fsync(int fd) { return fd < 0; }
int fdatasync(int fd) { return fd < 0; }
