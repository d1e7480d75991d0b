"""Runs a server in a process of its own: `python -m tests.servers.serve anthropic`.

It prints one JSON line with its URL and serves until its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.anthropic_wire import AnthropicServer
from tests.servers.google_wire import GoogleServer
from tests.servers.openai_like import OpenAIServer

SERVERS = {"openai": OpenAIServer, "anthropic": AnthropicServer, "google": GoogleServer}
ROOT = Path(__file__).parents[2]


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """The URL of what `python -m <arguments>` serves, for the time of a block."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(arguments)} did not start (exit status {process.wait()})")
        yield json.loads(line)["url"]
        process.stdin.close()


def main() -> None:
    """Serve until standard input ends."""
    with SERVERS[sys.argv[1]]() as server:
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
