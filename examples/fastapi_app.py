"""A FastAPI application that welcomes who signs up: `uvicorn examples.fastapi_app:app`."""

import asyncio
from typing import Any

from fastapi import FastAPI, HTTPException

from postroom import Client, InvalidMail, Mail, Unavailable

app = FastAPI()
client = Client.from_env()


@app.post("/people", status_code=202)
async def sign_up(person: dict[str, str]) -> dict[str, Any]:
    try:
        mail = Mail(to=[person["email"]], template="welcome", variables={"name": person["name"]})
        # The client blocks for some milliseconds, and for seconds while Redis is away: not in the event loop.
        receipt = await asyncio.to_thread(client.send, mail, key=f"welcome/{person['email']}")
    except InvalidMail as error:
        raise HTTPException(422, error.faults) from None
    except Unavailable:
        raise HTTPException(503, "try again") from None
    return {"mail": receipt.id, "again": receipt.known}


@app.get("/mails/{job_id}")
def mail(job_id: str) -> dict[str, str]:  # FastAPI runs what is not async in a thread itself
    return {"status": client.status(job_id).status}
