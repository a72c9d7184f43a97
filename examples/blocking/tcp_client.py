"""A TCP client that blocks: sends a request, prints the reply. An argument sets another port."""
import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
# Blocks until the kernel of the server has the connection. The server may not have accepted it yet.
client.connect(("localhost", port))
# Blocks while the send buffer is full. 18 bytes always fit.
client.sendall(b"Hello, TCP Server!")
# Blocks until the server replies or closes. A server that serves another client lets this one wait.
data = client.recv(1024)
print(f"Received: {data.decode()}")
client.close()
