#!/usr/bin/env python3
"""Runs a program that can only speak to TCP against imds.sock: a listener on a free loopback port whose
connections are passed to the socket, byte for byte. The broker sees the uid and unit of this process, which
are those of the program.

    bridge.py SOCKET -- COMMAND...     {port} in COMMAND and in the environment's values is the port
"""

import asyncio
import os
import sys


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    path, command = sys.argv[1], sys.argv[sys.argv.index("--") + 1:]

    async def connection(reader, writer):
        there_reader, there_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    environment = {name: value.replace("{port}", port) for name, value in os.environ.items()}
    words = [word.replace("{port}", port) for word in command]
    child = await asyncio.create_subprocess_exec(*words, env=environment)
    return await child.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
