"""The names of Postroom's own Celery queues and of the task that asks for a round."""

NORMAL_QUEUE = "postroom"
HIGH_QUEUE = "postroom.high"  # read first
ROUND_TASK = "postroom.round"
