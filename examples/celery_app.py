"""An application of Celery tasks that has itself called when a mail has ended: `celery -A examples.celery_app worker`.

Its broker is Postroom's own Redis, and the same database.
"""

import os

from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BROKER"])
app.conf.task_default_queue = "shop"


@app.task(name="shop.ship")
def ship(order: int, email: str) -> str:
    """Tells the customer. This needs nothing of Postroom but the name of its task; the result is the mail's id."""
    mail = {"to": [email], "subject": f"Order {order}", "text": "It is on its way."}
    calls = {"on_accepted": told.s(order).set(queue="shop"), "on_dead": not_told.s(order).set(queue="shop")}
    return str(
        app.send_task("postroom.send", args=[mail], kwargs={"key": f"shipped/{order}", **calls}, queue="postroom")
    )


@app.task(name="shop.told")
def told(job_id: str, order: int) -> None:
    """It may be run twice for one mail, as any task of Celery: it must not matter."""
    app.backend.set(f"shop:{order}", f"told by {job_id}")


@app.task(name="shop.not_told")
def not_told(job_id: str, order: int) -> None:
    app.backend.set(f"shop:{order}", f"not told: {job_id}")
