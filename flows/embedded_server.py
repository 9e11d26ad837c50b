"""A Prefect server for the length of one command: ``python -m flows.embedded_server SOCKET``.

Prefect starts a temporary server by itself where none is configured; that one outlives a killed command, and dies of
the Ctrl-C meant for the command. This one ends when its standard input does, however its parent ended. Its parent
binds the socket that it listens on, and passes it as an open file descriptor.
"""

import asyncio
import fcntl
import os
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from prefect.server.api.server import create_app


async def _serve(bound: socket.socket) -> None:
    server = uvicorn.Server(uvicorn.Config(create_app(ephemeral=True), log_level="error", lifespan="on"))
    loop = asyncio.get_running_loop()

    def stop_with_parent() -> None:
        # Not sys.stdin: if the server ends first, this thread still holds its lock, and Python aborts.
        while os.read(0, 1024):
            pass
        loop.call_soon_threadsafe(setattr, server, "should_exit", True)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    # One server starts at a time: two that migrate one new database at once both fail.
    with Path(os.environ["PREFECT_HOME"], "starting.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if server.should_exit:
            return  # The command has ended meanwhile.
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        while not (server.started or serving.done()):
            await asyncio.sleep(0.05)
    await serving


if __name__ == "__main__":
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))
