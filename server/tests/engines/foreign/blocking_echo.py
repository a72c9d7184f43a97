"""An echo server that blocks, one client after the other, TCP only. An argument sets another port."""
import socket
import sys
import time

WORK = b"work 300\n"


def bytes_before_work(data, begins_line):
    """How many bytes come before the first line that is `work 300`, or may become it: a read may end anywhere."""
    at = 0
    while at < len(data):
        rest = data[at:]
        if begins_line and (rest.startswith(WORK) or WORK.startswith(rest)):
            break
        end = data.find(b"\n", at)
        at, begins_line = (end + 1 if end >= 0 else len(data)), True
    return at


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
listener = socket.create_server(("127.0.0.1", port))
print("Listening on %s:%d" % listener.getsockname(), flush=True)
while True:
    client, _ = listener.accept()
    with client:
        waiting, begins_line = b"", True
        while data := client.recv(65536):
            waiting += data
            while waiting:
                count = bytes_before_work(waiting, begins_line)
                if count == 0 and waiting.startswith(WORK):
                    time.sleep(0.3)  # It stands for a query of a database.
                    count = len(WORK)
                if count == 0:
                    break  # A part of the line: the next read has more.
                begins_line = waiting[count - 1 : count] == b"\n"
                client.sendall(waiting[:count])
                waiting = waiting[count:]
        if waiting:
            client.sendall(waiting)
