"""The least that an HTTP door could be: one FastAPI route that takes the same mail. `python -m bench.bare_http`."""

import socket
import sys

import uvicorn
from fastapi import FastAPI

from postroom.mail.model import Mail

app = FastAPI()


@app.post("/v1/emails", status_code=202)
def send(mail: Mail) -> dict[str, str]:
    """Says that the mail was taken, and forgets it."""
    return {"id": "0", "status": "queued"}


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1])
        sys.stdout.flush()
        config = uvicorn.Config(app, lifespan="off", log_level="critical", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])
