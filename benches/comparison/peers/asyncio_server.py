"""A server on asyncio's protocols, the interface with the least overhead. Argument: once, lines, echo or udp."""

import asyncio
import socket
import sys


class Once(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"Hello, TCP Client!")
        self.transport.close()


class Lines(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"Hello, TCP Client!\n" * data.count(b"\n"))


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(b"Hello, UDP Client!", peer)


async def main(mode):
    loop = asyncio.get_running_loop()
    if mode == "udp":
        transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        address = transport.get_extra_info("sockname")
    else:
        protocol = {"once": Once, "lines": Lines, "echo": Echo}[mode]
        server = await loop.create_server(protocol, "127.0.0.1", 0, family=socket.AF_INET, backlog=4096)
        address = server.sockets[0].getsockname()
    print("READY {}:{}".format(*address), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
