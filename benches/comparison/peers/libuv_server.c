/* libuv as its guide uses it: a handle for each connection, a request for each write. Argument: once, lines, echo or
   udp. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define READ_BYTES 4096
#define LINE "Hello, TCP Client!\n"
#define LINE_BYTES (sizeof LINE - 1)

static uv_loop_t *loop;
static int is_once;
static int is_echo;
static char buffer[READ_BYTES];
static char answers[READ_BYTES * LINE_BYTES];

static void check(int status) {
    if (status < 0) {
        fprintf(stderr, "%s\n", uv_strerror(status));
        exit(1);
    }
}

static void provide_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *provided) {
    (void)handle;
    (void)suggested;
    *provided = uv_buf_init(buffer, sizeof buffer);
}

static void on_closed(uv_handle_t *handle) { free(handle); }

static void on_written(uv_write_t *request, int status) {
    (void)status;
    if (is_once) uv_close((uv_handle_t *)request->handle, on_closed);
    free(request);
}

static void on_read(uv_stream_t *client, ssize_t count, const uv_buf_t *input) {
    if (count < 0) uv_close((uv_handle_t *)client, on_closed);
    if (count <= 0) return;
    size_t bytes = LINE_BYTES - 1;
    if (is_once) {
        uv_read_stop(client);
    } else {
        bytes = 0;
        const char *end = input->base + count;
        for (const char *at = input->base; (at = memchr(at, '\n', end - at)); at++) bytes += LINE_BYTES;
        if (bytes == 0) return;
    }
    uv_buf_t answer = uv_buf_init(answers, bytes);
    uv_write(malloc(sizeof(uv_write_t)), client, &answer, 1, on_written);
}

/* The echo of the guide: a buffer of the suggested 64 KiB for each read, freed once it is written. */
typedef struct {
    uv_write_t request;
    uv_buf_t bytes;
} echo_t;

static void allocate_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *provided) {
    (void)handle;
    *provided = uv_buf_init(malloc(suggested), suggested);
}

static void on_echoed(uv_write_t *request, int status) {
    (void)status;
    echo_t *echo = (echo_t *)request;
    free(echo->bytes.base);
    free(echo);
}

static void on_echo_read(uv_stream_t *client, ssize_t count, const uv_buf_t *input) {
    if (count <= 0) {
        free(input->base);
        if (count < 0) uv_close((uv_handle_t *)client, on_closed);
        return;
    }
    echo_t *echo = malloc(sizeof *echo);
    echo->bytes = uv_buf_init(input->base, count);
    uv_write(&echo->request, client, &echo->bytes, 1, on_echoed);
}

static void on_connection(uv_stream_t *server, int status) {
    if (status < 0) return;
    uv_tcp_t *client = malloc(sizeof *client);
    uv_tcp_init(loop, client);
    if (uv_accept(server, (uv_stream_t *)client) < 0) {
        uv_close((uv_handle_t *)client, on_closed);
        return;
    }
    if (!is_once) uv_tcp_nodelay(client, 1);
    if (is_echo)
        uv_read_start((uv_stream_t *)client, allocate_buffer, on_echo_read);
    else
        uv_read_start((uv_stream_t *)client, provide_buffer, on_read);
}

static void on_sent(uv_udp_send_t *request, int status) {
    (void)status;
    free(request);
}

static void on_datagram(uv_udp_t *socket, ssize_t count, const uv_buf_t *input, const struct sockaddr *peer,
                          unsigned flags) {
    (void)input;
    (void)flags;
    if (count < 0 || !peer) return;
    uv_buf_t answer = uv_buf_init("Hello, UDP Client!", 18);
    uv_udp_send(malloc(sizeof(uv_udp_send_t)), socket, &answer, 1, peer, on_sent);
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    is_once = strcmp(mode, "once") == 0;
    is_echo = strcmp(mode, "echo") == 0;
    for (size_t line = 0; line < READ_BYTES; line++) memcpy(answers + line * LINE_BYTES, LINE, LINE_BYTES);
    loop = uv_default_loop();
    struct sockaddr_in address;
    int length = sizeof address;
    uv_ip4_addr("127.0.0.1", 0, &address);
    static uv_tcp_t listener;
    static uv_udp_t socket;
    if (strcmp(mode, "udp") == 0) {
        check(uv_udp_init(loop, &socket));
        check(uv_udp_bind(&socket, (const struct sockaddr *)&address, 0));
        check(uv_udp_recv_start(&socket, provide_buffer, on_datagram));
        check(uv_udp_getsockname(&socket, (struct sockaddr *)&address, &length));
    } else {
        check(uv_tcp_init(loop, &listener));
        check(uv_tcp_bind(&listener, (const struct sockaddr *)&address, 0));
        check(uv_listen((uv_stream_t *)&listener, 4096, on_connection));
        check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &length));
    }
    printf("READY 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
