"""A Flask application that welcomes who signs up: `flask --app examples.flask_app run`."""

from flask import Flask, request
from flask.typing import ResponseReturnValue

from postroom import Client, InvalidMail, Mail, Unavailable

app = Flask(__name__)
client = Client.from_env()  # one for all threads and processes


@app.post("/people")
def sign_up() -> ResponseReturnValue:
    person = request.get_json()
    try:
        mail = Mail(to=[person["email"]], template="welcome", variables={"name": person["name"]})
        receipt = client.send(mail, key=f"welcome/{person['email']}")
    except InvalidMail as error:
        return {"faults": error.faults}, 422
    except Unavailable:
        return {"error": "try again"}, 503
    return {"mail": receipt.id, "again": receipt.known}, 202


@app.get("/mails/<job_id>")
def mail(job_id: str) -> ResponseReturnValue:
    return {"status": client.status(job_id).status}
