"""An echo server with selectors, TCP and UDP, without a mistake that the tour looks for. An argument sets the port."""
import errno
import heapq
import selectors
import socket
import sys
import time

OUTPUT_MAX = 64 * 1024  # Beyond it a client is not read: it has to take its output first.
REPLIES_PER_SECOND = 100  # Over UDP, to one source.
SLOW_REQUEST, SLOW_TIME = b"work 300\n", 0.3
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Client:
    def __init__(self, stream):
        self.stream, self.output = stream, b""
        self.waiting, self.begins_line = b"", True  # Input that is, or may become, a slow request, and what follows it.
        self.ended = self.working = self.closed = False

    def bytes_before_request(self):
        """How many bytes come before the first line that is the slow request, or may become it: a read may end anywhere."""
        at, begins_line = 0, self.begins_line
        while at < len(self.waiting):
            rest = self.waiting[at:]
            if begins_line and (rest.startswith(SLOW_REQUEST) or SLOW_REQUEST.startswith(rest)):
                break
            end = self.waiting.find(b"\n", at)
            at, begins_line = (end + 1 if end >= 0 else len(self.waiting)), True
        return at

    def send_back(self, count):
        """Makes input output."""
        self.output += self.waiting[:count]
        self.begins_line = self.waiting[:count].endswith(b"\n") if count else self.begins_line
        self.waiting = self.waiting[count:]

    def events(self):
        reads = not (self.ended or self.working or len(self.output) >= OUTPUT_MAX)
        return (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if self.output else 0)


class Server:
    def __init__(self, port):
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.address = self.listener.getsockname()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.address)
        for source, serve in (self.listener, self.accept), (self.udp, self.receive):
            source.setblocking(False)
            self.selector.register(source, selectors.EVENT_READ, serve)
        self.timers, self.number, self.replies = [], 0, {}

    def run(self):
        while True:
            timeout = max(0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, _ in self.selector.select(timeout):
                if isinstance(key.data, Client):
                    self.serve(key.data)
                else:
                    key.data()
            while self.timers and self.timers[0][0] <= time.monotonic():
                heapq.heappop(self.timers)[2]()

    def after(self, seconds, call):
        self.number += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.number, call))

    def accept(self):
        """One client: the listener is level-triggered, and reported again."""
        try:
            stream, _ = self.listener.accept()
        except OSError as error:
            if error.errno in NO_ROOM:  # The listener stays ready: without a pause the loop would spin.
                self.selector.unregister(self.listener)
                self.after(0.01, self.resume_listener)
            return  # Otherwise that client has gone.
        stream.setblocking(False)
        self.update(Client(stream))

    def resume_listener(self):
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def serve(self, client):
        """One read and one write at most, so that every other client comes first with the rest."""
        try:
            if not (client.ended or client.working or len(client.output) >= OUTPUT_MAX):
                self.read(client)
            if client.output:
                client.output = client.output[client.stream.send(client.output):]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # A reset is the end of this client only.
            return self.close(client)
        if client.ended and not client.output:
            return self.close(client)
        self.update(client)

    def read(self, client):
        try:
            data = client.stream.recv(16 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        client.waiting += data
        self.answer(client)
        if not data:  # An unfinished line is no slow request.
            client.ended = True
            client.send_back(len(client.waiting))

    def answer(self, client):
        """Sends back what comes before a slow request. What follows it waits for its reply."""
        client.send_back(client.bytes_before_request())
        if client.waiting.startswith(SLOW_REQUEST):
            client.working = True
            self.after(SLOW_TIME, lambda: self.finish(client))

    def finish(self, client):
        """The reply goes to the client that asked: the object is its own, also if its descriptor was used again."""
        if not client.closed:
            client.working = False
            client.send_back(len(SLOW_REQUEST))
            self.answer(client)
            self.serve(client)

    def update(self, client):
        events, known = client.events(), self.selector.get_map().get(client.stream.fileno())
        if known is None and events:
            self.selector.register(client.stream, events, client)
        elif known is not None and events:
            self.selector.modify(client.stream, events, client)
        elif known is not None:
            self.selector.unregister(client.stream)

    def close(self, client):
        if self.selector.get_map().get(client.stream.fileno()) is not None:
            self.selector.unregister(client.stream)
        client.closed = True
        client.stream.close()

    def receive(self):
        """One datagram: the socket is level-triggered, too."""
        try:
            data, source = self.udp.recvfrom(65536)
            if self.may_reply(source):
                self.udp.sendto(data, source)
        except OSError:
            pass  # This datagram is lost, as on the network.

    def may_reply(self, source):
        """Without a limit, two such servers that answer each other never stop."""
        now = time.monotonic()
        since, count = self.replies.get(source[0], (now, 0))
        if now - since >= 1:
            since, count = now, 0
        self.replies[source[0]] = since, count + 1
        return source[1] != 0 and count < REPLIES_PER_SECOND


server = Server(int(sys.argv[1]) if len(sys.argv) > 1 else 8888)
print("Listening on %s:%d" % server.address, flush=True)
server.run()
