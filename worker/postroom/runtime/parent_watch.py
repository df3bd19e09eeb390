"""A process that another process of ours has started ends when that one has ended, even if it was killed."""

import os
import signal
import threading
import time

PARENT = "_POSTROOM_PARENT"  # environment variable: the pid of the process that started this one
_LOOK_EVERY_S = 0.5


def end_with_parent() -> None:
    """Starts a thread that sends this process SIGTERM once its parent has ended.

    Does nothing where the environment names no parent. The name is removed, so that children do not inherit it.
    """
    if not (parent := int(os.environ.pop(PARENT, "0"))):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
