/* The load of the benchmark, built by it: what a client of a Service sees, in as few instructions as can be.
 *
 *   traffic serve TCP-PORT UDP-PORT              accept and close; take datagrams in and drop them; until it is killed
 *   traffic connect COUNT ADDRESS:PORT...        one connection after the other to each in turn; microseconds of each
 *                                                connect(2), a line each, -1 for one that failed
 *   traffic send MILLISECONDS ADDRESS:PORT       one flow of datagrams of 64 bytes as fast as they go; how many were sent
 *
 * IPv4. Exits with 1 and a line on stderr where the kernel refuses.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define BYTES 64

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in parse(const char *text)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char host[INET_ADDRSTRLEN] = "";
	const char *colon = strchr(text, ':');

	if (colon && (size_t)(colon - text) < sizeof(host))
		memcpy(host, text, colon - text);
	if (!colon || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
		fprintf(stderr, "%s is not an ADDRESS:PORT\n", text);
		exit(1);
	}
	address.sin_port = htons(atoi(colon + 1));
	return address;
}

static int bound(int kind, const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int one = 1, fd = socket(AF_INET, kind, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("bind");
	return fd;
}

/* Nobody reads the datagrams: a full buffer costs less than a reader, and those that count are counted by the link. */
__attribute__((noreturn)) static void serve(const char *tcp, const char *udp)
{
	int listening = bound(SOCK_STREAM, tcp);

	bound(SOCK_DGRAM, udp);
	if (listen(listening, 4096))
		fail("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept(listening, NULL, NULL);

		if (fd >= 0)
			close(fd);
	}
}

static int connect_all(long count, int targets, char **names)
{
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 }; /* an RST: no TIME_WAIT uses up the ports */
	struct timeval limit = { .tv_sec = 5 };
	struct sockaddr_in *addresses = calloc(targets, sizeof(*addresses));
	double *seconds = calloc(count, sizeof(*seconds));

	for (int i = 0; i < targets; i++)
		addresses[i] = parse(names[i]);
	for (long i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		double begin;

		if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) ||
		    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)))
			fail("socket");
		begin = now();
		if (connect(fd, (struct sockaddr *)&addresses[i % targets], sizeof(*addresses)))
			seconds[i] = -1e-6;
		else
			seconds[i] = now() - begin;
		close(fd);
	}
	for (long i = 0; i < count; i++)
		printf("%.2f\n", seconds[i] * 1e6);
	return 0;
}

static int flood(long milliseconds, const char *name)
{
	static char payload[BYTES];
	struct sockaddr_in address = parse(name);
	struct iovec piece = { .iov_base = payload, .iov_len = BYTES };
	struct mmsghdr batch[BATCH] = { 0 };
	double end = now() + milliseconds / 1e3;
	long sent = 0;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("connect");
	for (int i = 0; i < BATCH; i++) {
		batch[i].msg_hdr.msg_iov = &piece;
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	while (now() < end) {
		int done = sendmmsg(fd, batch, BATCH, 0);

		if (done > 0)
			sent += done;
	}
	printf("%ld\n", sent);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "serve"))
		serve(argv[2], argv[3]);
	if (argc >= 4 && !strcmp(argv[1], "connect"))
		return connect_all(atol(argv[2]), argc - 3, argv + 3);
	if (argc == 4 && !strcmp(argv[1], "send"))
		return flood(atol(argv[2]), argv[3]);
	fputs("usage: traffic serve|connect|send ...\n", stderr);
	return 1;
}
