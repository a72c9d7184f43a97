"""An echo server that blocks, one client after the other, TCP only. An argument sets another port."""
import socket
import sys
import time

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
listener = socket.create_server(("127.0.0.1", port))
print("Listening on %s:%d" % listener.getsockname(), flush=True)
while True:
    client, _ = listener.accept()
    with client:
        while data := client.recv(65536):
            if data == b"work 300\n":
                time.sleep(0.3)  # It stands for a query of a database.
            client.sendall(data)
