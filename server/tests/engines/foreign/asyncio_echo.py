"""An echo server with asyncio, TCP and UDP, in the way of its documentation. An argument sets another port."""
import asyncio
import sys

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


async def handle_echo(reader, writer):
    waiting, begins_line = b"", True
    while data := await reader.read(65536):
        waiting += data
        while waiting:
            count = bytes_before_work(waiting, begins_line)
            if count == 0 and waiting.startswith(WORK):
                await asyncio.sleep(0.3)  # It stands for a query of a database.
                count = len(WORK)
            if count == 0:
                break  # A part of the line: the next read has more.
            begins_line = waiting[count - 1 : count] == b"\n"
            writer.write(waiting[:count])
            waiting = waiting[count:]
            await writer.drain()
    if waiting:
        writer.write(waiting)
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
