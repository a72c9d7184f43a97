"""An echo server with asyncio, TCP and UDP, in the way of its documentation. An argument sets another port."""
import asyncio
import sys


async def handle_echo(reader, writer):
    while data := await reader.read(65536):
        if data == b"work 300\n":
            await asyncio.sleep(0.3)  # It stands for a query of a database.
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


class EchoServerProtocol(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
    server = await asyncio.start_server(handle_echo, "127.0.0.1", port)
    address = server.sockets[0].getsockname()
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(EchoServerProtocol, local_addr=address)
    print("Listening on %s:%d" % address, flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
