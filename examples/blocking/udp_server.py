"""A UDP server that blocks: one datagram after the other. An argument sets another port."""
import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("localhost", port))
print("Listening on %s:%d" % server.getsockname(), flush=True)

while True:
    # Blocks until a datagram arrives. One socket serves all clients, so a silent client stops nothing.
    data, address = server.recvfrom(1024)
    print("Received from %s:%d: %s" % (*address, data.decode(errors="replace")), flush=True)
    # Blocks only while the send buffer is full. The source address may be forged: two servers that
    # reply to every datagram can be made to reply to each other.
    server.sendto(b"Hello, UDP Client!", address)
