"""An echo server with level-triggered poll(2): one thread, any number of clients. An argument sets another port."""
import errno
import select
import socket
import sys

OUTPUT_MAX = 64 * 1024  # Beyond it, a client is not read: it has to take its output first.


class Client:
    def __init__(self, stream):
        self.stream = stream
        self.output = b""
        self.ended = False  # After EOF: what is left to send is sent, then the connection is closed.

    def interest(self):
        """What to ask of the next poll. POLLOUT without output would be reported in every turn."""
        reads = 0 if self.ended or len(self.output) >= OUTPUT_MAX else select.POLLIN
        return reads | (select.POLLOUT if self.output else 0)

    def serve(self, events):
        """One read and one write at most: what is left is reported again. Returns whether it goes on."""
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            data = self.stream.recv(16 * 1024)  # An empty result is EOF. A reset raises ConnectionResetError.
            self.ended = self.ended or not data
            self.output += data
        if self.output:
            self.output = self.output[self.stream.send(self.output):]  # It may take a part.
        return bool(self.output) or not self.ended


def serve_client(client, events):
    try:
        return client.serve(events)
    except BlockingIOError:
        return True  # Nothing now, although poll reported it. The next poll decides.
    except OSError:
        return False  # A reset, for example: the end of this client, not of the server.


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
listener = socket.create_server(("127.0.0.1", port), backlog=4096)
listener.setblocking(False)
print("Listening on %s:%d" % listener.getsockname(), flush=True)
poll = select.poll()
poll.register(listener, select.POLLIN)
clients = {}

while True:
    # The only call that blocks. Its cost grows with the number of clients: the kernel checks each one.
    for descriptor, events in poll.poll():
        if descriptor == listener.fileno():
            try:
                stream, _ = listener.accept()  # One is enough: poll reports the listener again.
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    poll.modify(listener, 0)  # No descriptor is free, until a client is closed.
                continue  # Otherwise this client has gone: the next one.
            stream.setblocking(False)
            clients[stream.fileno()] = Client(stream)
            poll.register(stream, select.POLLIN)
        elif serve_client(clients[descriptor], events):
            poll.modify(descriptor, clients[descriptor].interest())
        else:
            # The number may be reused from here on. The listener comes first, so in no turn after a close.
            poll.unregister(descriptor)
            clients.pop(descriptor).stream.close()
            poll.modify(listener, select.POLLIN)
