"""Run the API server with our definitions until interrupted: ``python -m tests.kubernetes.api_server DIRECTORY``.

It writes ``DIRECTORY/kubeconfig``, and prints its path once it listens.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.kubernetes.api_server.server import ApiServer


async def main(directory: Path) -> None:
    server = ApiServer()
    server.apply_definitions()
    await server.start()
    print(server.kubeconfig(directory), flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
