"""Asks a server many times, and prints what became of each exchange: one character, in the order of the requests.

python3 count_faults.py tcp|udp PORT EXCHANGES

  .  the whole reply          h  half of it, then FIN     r  RST before any byte     5  RST after 5 bytes
  d  whole, after a second    b  whole, in pieces         s  nothing in 4 seconds    x  (UDP) no reply
  2  (UDP) twice              t  (UDP) 3 bytes of it      o  (UDP) after a later one
"""

import selectors
import socket
import struct
import sys
import time

GREETING = b"Hello, TCP Client!"
AT_ONCE = 400
SILENCE = 4.0
DELAY = 1.0


def outcome(data, pieces, elapsed, end):
    if data == GREETING and end == "fin":
        if elapsed >= DELAY:
            return "d"
        return "b" if pieces > 1 else "."
    if data == GREETING[: len(GREETING) // 2] and end == "fin":
        return "h"
    if end == "rst" and len(data) in (0, 5):
        return "5" if data else "r"
    if end == "open" and not data:
        return "s"
    return "?"


def ask_tcp(port, count):
    outcomes = [None] * count
    poll = selectors.DefaultSelector()
    clients = {}
    linger = struct.pack("ii", 1, 0)
    started = 0

    def finish(client, end):
        index, start, data, pieces = clients.pop(client)
        outcomes[index] = outcome(bytes(data), pieces, time.monotonic() - start, end)
        poll.unregister(client)
        # An RST, so that no port waits for the end of TIME_WAIT.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()

    while started < count or clients:
        while started < count and len(clients) < AT_ONCE:
            try:
                client = socket.create_connection(("127.0.0.1", port))
            except ConnectionResetError:
                outcomes[started] = "r"
                started += 1
                continue
            client.setblocking(False)
            clients[client] = [started, time.monotonic(), bytearray(), 0]
            poll.register(client, selectors.EVENT_READ)
            started += 1
            try:
                client.send(b"Hello, TCP Server!")
            except OSError:
                finish(client, "rst")
                continue
            if started % 8 == 0:
                break
        for key, _ in poll.select(timeout=0 if len(clients) < AT_ONCE and started < count else 0.05):
            client = key.fileobj
            try:
                data = client.recv(4096)
            except OSError:
                finish(client, "rst")
                continue
            if not data:
                finish(client, "fin")
                continue
            clients[client][2] += data
            clients[client][3] += 1
        # The first one has waited longest.
        while clients:
            client = next(iter(clients))
            if time.monotonic() - clients[client][1] < SILENCE:
                break
            finish(client, "open")
    return outcomes


def ask_udp(port, count):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.1", port))
    sent, replies, last = {}, [[] for _ in range(count)], -1

    def receive(timeout):
        nonlocal last
        client.settimeout(timeout)
        try:
            data = client.recv(100)
        except TimeoutError:
            return None
        index = struct.unpack(">i", b"\0" + data[:3])[0]
        is_late = time.monotonic() - sent[index] >= DELAY
        if replies[index]:
            replies[index].append("2")
        elif is_late:
            replies[index].append("d")
        elif len(data) == 3:
            replies[index].append("t")
        else:
            replies[index].append("o" if index < last else ".")
        if not is_late:
            last = max(last, index)
        return index

    batch = 20
    for start in range(0, count, batch):
        indexes = range(start, min(start + batch, count))
        for index in indexes:
            sent[index] = time.monotonic()
            client.send(struct.pack(">i", index)[1:] + b"hello")
        while not all(replies[index] for index in indexes) and receive(0.01) is not None:
            pass
    end = time.monotonic() + 2 * DELAY
    while time.monotonic() < end:
        receive(0.1)
    # A second reply is the last word.
    return [got[-1] if got else "x" for got in replies]


ask = {"tcp": ask_tcp, "udp": ask_udp}[sys.argv[1]]
print("".join(ask(int(sys.argv[2]), int(sys.argv[3]))))
