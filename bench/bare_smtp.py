"""The least that an SMTP door could be: aiosmtpd, and a handler that takes everything. `python -m bench.bare_smtp`."""

import asyncio
import sys

from aiosmtpd.smtp import SMTP


class Handler:
    async def handle_DATA(self, *_: object) -> str:  # noqa: N802 - aiosmtpd's name
        """Takes the message, and forgets it."""
        return "250 Ok"


async def main() -> None:
    """Serves until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), data_size_limit=2**26), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1])
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
