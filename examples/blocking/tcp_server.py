"""A TCP server that blocks: one client after the other. An argument sets another port."""
import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
# Without it, bind fails for a minute after a restart: address already in use.
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("localhost", port))
server.listen()
print("Listening on %s:%d" % server.getsockname(), flush=True)

while True:
    # Blocks until a client connects. It costs nothing: without a client there is no work.
    client, address = server.accept()
    # Blocks until this client sends. A client that sends nothing stops the server for all clients.
    # A client that resets its connection raises an exception here, which ends the server.
    data = client.recv(1024)
    print("Received from %s:%d: %s" % (*address, data.decode(errors="replace")), flush=True)
    # Blocks while the send buffer is full, if the client does not read. 18 bytes always fit.
    client.sendall(b"Hello, TCP Client!")
    # Does not block. Input beyond 1024 bytes is unread: the close then resets the connection.
    client.close()
