"""A UDP client that blocks: sends a datagram, prints the reply. An argument sets another port."""
import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
# Does not wait for the server: the datagram may be lost, and no error says so.
client.sendto(b"Hello, UDP Server!", ("localhost", port))
# Blocks until a datagram arrives. If the request or the reply was lost, it blocks for ever.
data, address = client.recvfrom(1024)
print(f"Received: {data.decode()}")
client.close()
