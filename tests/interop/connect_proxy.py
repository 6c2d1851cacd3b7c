#!/usr/bin/env python3
"""An HTTP proxy that only forwards: CONNECT to hosts whose names it alone can resolve, all of which are the emulated
tenant at 127.0.0.1.

    connect_proxy.py PORT LOG

Each host that was asked for goes to LOG.
"""

import asyncio
import sys

PORT, LOG = sys.argv[1:3]


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def connection(reader, writer):
    line = (await reader.readline()).decode().strip()
    while (await reader.readline()).strip():
        pass
    method, _, rest = line.partition(" ")
    with open(LOG, "a") as log:
        print(line, file=log)
    if method != "CONNECT":
        writer.write(b"HTTP/1.1 405 Only CONNECT\r\n\r\n")
        writer.close()
        return
    there = await asyncio.open_connection("127.0.0.1", int(rest.split()[0].rpartition(":")[2]))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await writer.drain()
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))


async def main():
    server = await asyncio.start_server(connection, "127.0.0.1", int(PORT))
    async with server:
        await server.serve_forever()


asyncio.run(main())
