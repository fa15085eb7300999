/* The host board's wire: a pseudo-terminal or a TCP port in place of a UART. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include "board.h"
#include "posix.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define WIRE_RX_SIZE 4096u

static int listener = -1;
static int line = -1;
static int other_end = -1; /* of the pseudo-terminal: held open, so that hosts can come and go */
static uint8_t received[WIRE_RX_SIZE];
static size_t received_size;
static size_t received_at;
static uint32_t received_ticks;

static bool wire_unblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

bool wire_open_pty(const char *link)
{
    line = posix_openpt(O_RDWR | O_NOCTTY);
    const char *name = line >= 0 && grantpt(line) == 0 && unlockpt(line) == 0 ? ptsname(line) : NULL;
    if (name == NULL) {
        return false;
    }
    other_end = open(name, O_RDWR | O_NOCTTY);
    struct termios raw;
    if (other_end < 0 || tcgetattr(other_end, &raw) != 0) {
        return false;
    }
    cfmakeraw(&raw);
    if (tcsetattr(other_end, TCSANOW, &raw) != 0 || !wire_unblock(line)) {
        return false;
    }
    if (link != NULL) {
        (void)unlink(link);
        if (symlink(name, link) != 0) {
            return false;
        }
    }
    (void)printf("ready pty %s\n", name);
    return fflush(stdout) == 0;
}

bool wire_open_tcp(uint16_t port)
{
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 || !wire_unblock(listener)) {
        return false;
    }
    (void)printf("ready tcp %u\n", (unsigned)ntohs(address.sin_port));
    return fflush(stdout) == 0;
}

int wire_descriptor(void) { return line >= 0 ? line : listener; }

bool wire_has_bytes(void) { return received_at < received_size; }

static void wire_accept(void)
{
    int one = 1;
    line = accept(listener, NULL, NULL);
    if (line >= 0) {
        (void)setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        (void)wire_unblock(line);
    }
}

bool wire_serve(bool once)
{
    if (line < 0) {
        wire_accept();
        return true;
    }
    if (wire_has_bytes()) {
        return true;
    }
    ssize_t n = read(line, received, sizeof received);
    if (n > 0) {
        received_size = (size_t)n;
        received_at = 0;
        received_ticks = board_ticks();
    } else if (listener >= 0 && (n == 0 || (errno != EAGAIN && errno != EINTR))) {
        (void)close(line); /* the cable is pulled: the next host may plug in */
        line = -1;
        return !once;
    }
    return true;
}

int board_rx(uint32_t *arrived)
{
    if (received_at >= received_size) {
        return -1;
    }
    *arrived = received_ticks;
    return received[received_at++];
}

size_t board_tx(const uint8_t *bytes, size_t n)
{
    if (line < 0) {
        return n; /* into the air, as a UART does without a cable */
    }
    ssize_t written = listener >= 0 ? send(line, bytes, n, MSG_NOSIGNAL) : write(line, bytes, n);
    return written > 0 ? (size_t)written : 0u;
}

uint32_t board_rx_overruns(void) { return 0; }
