"""A real MCP server for tests: `python mcp_server.py stdio`, or `... http <port>`."""

from __future__ import annotations

import os
import sys
import time

from mcp.server.mcpserver import MCPServer

server = MCPServer("tests", log_level="CRITICAL")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two whole numbers.

    The result is one, too.
    """
    return a + b


@server.tool(name="shout.loud")
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper() + "!"


@server.tool()
def fail() -> str:
    """Goes wrong."""
    raise ValueError("it went wrong")


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(3)


@server.tool()
def wait(seconds: float) -> str:
    """Takes its time."""
    time.sleep(seconds)
    return "done"


@server.tool()
def variable(name: str) -> str:
    """A variable of the server's environment."""
    return os.environ.get(name, "not set")


@server.tool()
def process() -> int:
    """Which process this is."""
    return os.getpid()


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
