#!/usr/bin/env python3
"""An HTTPS proxy that opens TLS, as companies have them: it takes CONNECT, shows a certificate of its own
authority, reads what is inside, and asks the real host itself.

    tls_proxy.py PORT CERTIFICATE KEY UPSTREAM-CA LOG

Each request line of a client goes to LOG, and each request line that it read inside TLS.
"""

import asyncio
import ssl
import sys

PORT, CERTIFICATE, KEY, UPSTREAM_CA, LOG = sys.argv[1:6]
INSIDE = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
INSIDE.load_cert_chain(CERTIFICATE, KEY)
OUTSIDE = ssl.create_default_context(cafile=UPSTREAM_CA)


def note(line):
    with open(LOG, "a") as log:
        print(line, file=log)


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            if data.startswith((b"GET ", b"POST ")):
                note("inside " + data.split(b"\r\n")[0].decode())
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def connection(reader, writer):
    line = (await reader.readline()).decode().strip()
    if not line:
        writer.close()
        return
    note(line)
    while (await reader.readline()).strip():
        pass
    method, _, rest = line.partition(" ")
    if method != "CONNECT":
        writer.write(b"HTTP/1.1 405 Only CONNECT\r\n\r\n")
        writer.close()
        return
    host, _, port = rest.split()[0].rpartition(":")
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await writer.drain()
    try:
        await writer.start_tls(INSIDE)
        there = await asyncio.open_connection(host, int(port), ssl=OUTSIDE, server_hostname=host)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
    except (ConnectionError, ssl.SSLError) as why:
        note(f"broken {why}")
        writer.close()


async def main():
    server = await asyncio.start_server(connection, "127.0.0.1", int(PORT))
    async with server:
        await server.serve_forever()


asyncio.run(main())
